"""Choosing a point: what is usable, what is refused and why, what is cheapest."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recovery.choose import CLOCK_BOUND, End, Rates, Target, at_random, at_time, choose, latest
from recovery.errors import BadInput, NoPoint
from recovery.point import SEGMENT_BYTES, Backup
from recovery.value import rfc3339
from recovery.wal import Archive, Known, Stretch, Switch

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
S = SEGMENT_BYTES


def backup(
    id_: str, segment: int, *, hours_ago: float, timeline: int = 1, parent: str | None = None, gb: float = 1
) -> Backup:
    ended = NOW - timedelta(hours=hours_ago)
    return Backup(
        id=id_,
        resource="db",
        system_id="7",
        timeline=timeline,
        kind="incremental" if parent else "full",
        parent=parent,
        begin_lsn=segment * S + 40,
        end_lsn=segment * S + 400,
        begun_at=ended - timedelta(minutes=1),
        ended_at=ended,
        server_version=180006,
        size_bytes=int(gb * 1e9),
        stored_bytes=1,
    )


def archive(*stretches: tuple[int, int], timeline: int = 1) -> Archive:
    return Archive(
        system_id="7", stretches=tuple(Stretch(timeline=timeline, first=first, last=last) for first, last in stretches)
    )


FULL = backup("full", 10, hours_ago=5)
INCR = backup("incr", 60, hours_ago=1, parent="full", gb=0.01)
WAL = archive((10, 70))
END = End(lsn=71 * S, record_lsn=71 * S - 100, at=NOW - timedelta(seconds=3))


def test_latest_takes_the_incremental_and_only_the_wal_behind_it() -> None:
    point = choose(latest(END), backups=(FULL, INCR), archive=WAL, timeline=1)
    assert point.backups == ("full", "incr")
    assert point.segments[0].endswith("3C")
    assert point.segments[-1].endswith("46")
    assert point.target.text() == "latest (LSN 0/46FFFF9C)"


def test_a_moment_takes_only_a_backup_that_ended_before_it() -> None:
    target = at_time(NOW - timedelta(hours=2), now=NOW, end=END)
    point = choose(target, backups=(FULL, INCR), archive=WAL, timeline=1)
    assert point.backups == ("full",)
    assert point.target.text() == "2026-11-24T10:00:00.000000Z"


def test_a_backup_that_ended_closer_to_the_moment_than_clocks_may_disagree_is_refused_and_told_so() -> None:
    at = FULL.ended_at + CLOCK_BOUND
    with pytest.raises(NoPoint, match=r"full ended at 2026-11-24T07:00:00\.000000Z, not 2 s before the target"):
        choose(Target(kind="time", at=at), backups=(FULL,), archive=WAL, timeline=1)
    assert choose(Target(kind="time", at=at + timedelta.resolution), backups=(FULL,), archive=WAL, timeline=1)


def test_a_moment_needs_wal_only_up_to_what_is_known_to_lie_behind_it() -> None:
    target = at_time(NOW - timedelta(hours=2), now=NOW, end=END)
    known = (Known(lsn=30 * S, at=NOW - timedelta(hours=1.5)), Known(lsn=20 * S, at=NOW - timedelta(hours=3)))
    point = choose(target, backups=(FULL,), archive=WAL, timeline=1, known=known)
    assert len(point.segments) == 20


def test_a_gap_before_the_target_is_no_point_and_names_the_missing_file() -> None:
    holed = archive((10, 30), (32, 70))
    with pytest.raises(NoPoint, match="00000001000000000000001F is missing"):
        choose(latest(END), backups=(FULL,), archive=holed, timeline=1)


def test_the_reason_names_the_last_commit_before_a_gap_where_it_is_known() -> None:
    holed, at = archive((10, 30), (32, 70)), NOW - timedelta(hours=3)
    known = End(lsn=31 * S, record_lsn=31 * S - 8, at=at)
    before_every_backup = known.but(at=NOW - timedelta(hours=5))
    for end, told in ((known, True), (known.but(at=None), False), (before_every_backup, False), (None, False)):
        with pytest.raises(NoPoint) as caught:
            choose(latest(END), backups=(FULL,), archive=holed, timeline=1, reached=end)
        assert ("the last commit before the gap is of " in caught.value.hint) is told
        assert (rfc3339(at) in caught.value.hint) is told
    found = choose(Target(kind="time", at=at - timedelta(seconds=1)), backups=(FULL,), archive=holed, timeline=1)
    assert len(found.segments) == 21, "up to the gap"


def test_a_clones_timeline_is_never_followed() -> None:
    both = Archive(
        system_id="7",
        stretches=(*WAL.stretches, Stretch(timeline=2, first=40, last=99)),
        histories={2: (Switch(timeline=1, lsn=40 * S),)},
    )
    assert choose(latest(END), backups=(FULL,), archive=both, timeline=1).timeline == 1
    on_two = choose(Target(kind="lsn", lsn=80 * S), backups=(FULL,), archive=both, timeline=2)
    assert on_two.histories == (2,)
    assert on_two.segments[-1].startswith("00000002")


def test_a_backup_of_another_timeline_is_refused_with_the_reason() -> None:
    with pytest.raises(NoPoint, match="not on timeline 1"):
        choose(latest(END), backups=(backup("two", 20, hours_ago=3, timeline=2),), archive=WAL, timeline=1)


def test_an_incremental_without_its_full_is_unusable() -> None:
    with pytest.raises(NoPoint, match="incr needs full"):
        choose(latest(END), backups=(INCR,), archive=WAL, timeline=1)


def test_a_backup_that_ends_behind_the_target_is_refused() -> None:
    with pytest.raises(NoPoint, match="behind the target"):
        choose(Target(kind="lsn", lsn=10 * S), backups=(FULL,), archive=WAL, timeline=1)


def test_a_backup_whose_own_wal_is_missing_is_refused() -> None:
    with pytest.raises(NoPoint, match="00000001000000000000000A is missing"):
        choose(latest(END), backups=(FULL,), archive=archive((11, 70)), timeline=1)


def test_nothing_at_all_is_no_point() -> None:
    with pytest.raises(NoPoint, match="there is no backup"):
        choose(latest(END), backups=(), archive=WAL, timeline=1)
    with pytest.raises(NoPoint, match="no WAL"):
        latest(None)


def test_the_cheapest_point_wins() -> None:
    slow_wal = Rates(wal_segments_per_second=0.1)
    fast_wal = Rates(wal_segments_per_second=1e6, combine_bytes_per_second=1)
    assert choose(latest(END), backups=(FULL, INCR), archive=WAL, timeline=1, rates=slow_wal).backups[-1] == "incr"
    assert choose(latest(END), backups=(FULL, INCR), archive=WAL, timeline=1, rates=fast_wal).backups == ("full",)


def test_moments_that_cannot_be_are_refused() -> None:
    with pytest.raises(BadInput, match="in the future"):
        at_time(NOW + timedelta(seconds=1), now=NOW, end=END)
    with pytest.raises(NoPoint, match="last commit is 2026-11-24T11:59:57"):
        at_time(NOW - timedelta(seconds=1), now=NOW, end=END)
    with pytest.raises(NoPoint, match="last commit is none"):
        at_time(NOW - timedelta(seconds=1), now=NOW, end=END.but(at=None))


@given(st.floats(0, 1))
def test_a_random_moment_always_lies_in_the_window(share: float) -> None:
    target = at_random(share, (FULL, INCR), window=timedelta(days=7), now=NOW, end=END)
    assert target.at is not None
    assert END.at is not None
    assert FULL.ended_at < target.at < END.at
    choose(target, backups=(FULL, INCR), archive=WAL, timeline=1)


def test_a_window_shorter_than_the_clock_bound_gives_its_last_moment() -> None:
    young = backup("young", 10, hours_ago=0.001)
    target = at_random(0.5, (young,), window=timedelta(days=7), now=NOW, end=END.but(at=NOW - timedelta(seconds=2.5)))
    assert target.at == NOW - timedelta(seconds=2.501)


def test_without_a_window_there_is_no_random_moment() -> None:
    with pytest.raises(NoPoint, match="no window"):
        at_random(0.5, (), window=timedelta(days=7), now=NOW, end=END)
    with pytest.raises(NoPoint, match="no window"):
        at_random(0.5, (FULL,), window=timedelta(days=7), now=NOW, end=None)
