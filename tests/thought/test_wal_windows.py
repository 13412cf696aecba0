"""What can be reached from which backup."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from recovery.point import SEGMENT_BYTES, Backup
from recovery.timeline import hole_behind
from recovery.wal import Archive, Known, Stretch, Switch, files_for, name_of, parse, path_to, reach, windows

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
SEG = SEGMENT_BYTES


def backup(begin: int, end: int, *, timeline: int = 1, system_id: str = "7", name: str = "b") -> Backup:
    return Backup(
        id=name,
        resource="orders",
        system_id=system_id,
        timeline=timeline,
        kind="full",
        begin_lsn=begin,
        end_lsn=end,
        begun_at=NOON,
        ended_at=NOON + timedelta(minutes=1),
        server_version=180006,
        size_bytes=1,
        stored_bytes=1,
    )


def archive(*stretches: tuple[int, int, int], **more: object) -> Archive:
    runs = tuple(Stretch(timeline=t, first=a, last=b) for t, a, b in stretches)
    return Archive.model_validate({"system_id": "7", "stretches": runs, **more})


FORKED = {2: (Switch(timeline=1, lsn=5 * SEG + 100),)}


def test_the_window_ends_where_the_archive_ends() -> None:
    found = reach(archive((1, 2, 6)), backup(2 * SEG + 40, 2 * SEG + 400), 1)
    assert found is not None
    assert (found.from_lsn, found.to_lsn, found.stops) == (2 * SEG + 400, 7 * SEG, "end of archive")
    assert found.missing == name_of(1, 7)


def test_the_window_ends_at_a_gap_and_names_the_missing_segment() -> None:
    found = reach(archive((1, 2, 4), (1, 6, 9)), backup(2 * SEG + 40, 2 * SEG + 400), 1)
    assert found is not None
    assert (found.to_lsn, found.stops, found.missing) == (5 * SEG, "gap", name_of(1, 5))


def test_a_backup_without_its_own_wal_is_unusable() -> None:
    found = reach(archive((1, 3, 9)), backup(2 * SEG + 40, 3 * SEG + 400), 1)
    assert found is not None
    assert (found.stops, found.to_lsn, found.missing) == ("unusable", found.from_lsn, name_of(1, 2))


def test_the_window_goes_on_over_a_timeline_switch() -> None:
    both = archive((1, 2, 5), (2, 5, 8), histories=FORKED)
    found = reach(both, backup(2 * SEG + 40, 2 * SEG + 400), 2)
    assert found is not None
    assert (found.to_lsn, found.stops, found.missing) == (9 * SEG, "end of archive", name_of(2, 9))


def test_the_old_timeline_is_still_reachable_by_its_own_name() -> None:
    both = archive((1, 2, 6), (2, 5, 8), histories=FORKED)
    found = reach(both, backup(2 * SEG + 40, 2 * SEG + 400), 1)
    assert found is not None
    assert (found.to_lsn, found.stops) == (7 * SEG, "end of archive")


def test_backups_off_the_path_or_of_other_systems_have_no_window() -> None:
    both = archive((1, 2, 6), (2, 5, 8), histories=FORKED)
    beyond = backup(5 * SEG + 200, 5 * SEG + 300, name="beyond")
    foreign = backup(2 * SEG, 2 * SEG + 1, system_id="8", name="foreign")
    other = backup(6 * SEG, 6 * SEG + 1, timeline=3, name="other")
    good = backup(2 * SEG, 2 * SEG + 1, name="good")
    assert [each.backup for each in windows(both, [beyond, foreign, other, good], 2)] == ["good"]


def test_the_newest_known_instant_inside_is_the_end_in_time() -> None:
    known = [Known(lsn=n * SEG, at=NOON + timedelta(minutes=n)) for n in range(1, 10)]
    found = reach(archive((1, 2, 6)), backup(2 * SEG + 40, 2 * SEG + 400), 1, known)
    assert found is not None
    assert found.to_at == NOON + timedelta(minutes=7)


def test_an_archive_knows_its_last_segment_and_newest_timeline() -> None:
    both = archive((1, 2, 6), (2, 5, 8), histories=FORKED)
    assert (both.last(1), both.last(2), both.last(3), both.newest_timeline()) == (name_of(1, 6), name_of(2, 8), None, 2)
    assert archive((1, 2, 3), (1, 5, 6)).gaps()[0].first == 4


@given(st.sets(st.integers(2, 20)), st.integers(2, 12), st.integers(3, 15))
def test_every_file_that_recovery_reads_inside_the_window_is_there(old: set[int], begin: int, fork: int) -> None:
    histories = {2: (Switch(timeline=1, lsn=fork * SEG + 1),)}
    stretches = tuple(Stretch(timeline=t, first=n, last=n) for n in sorted(old) for t in (1, 2) if t == 1 or n >= fork)
    held = archive(histories=histories).model_copy(update={"stretches": stretches})
    found = reach(held, backup(begin * SEG, begin * SEG + 1), 2)
    if begin > fork:
        assert found is None or begin * SEG + 1 <= fork * SEG + 1
        return
    assert found is not None
    there = {name_of(each.timeline, each.first) for each in stretches}
    assert found.missing not in there
    if found.stops != "unusable":
        assert set(files_for(path_to(histories, 2), begin * SEG, found.to_lsn)) <= there
        number = parse(found.missing).number  # type: ignore[union-attr]
        assert number * SEG == found.to_lsn


def at(number: int, **more: str) -> Backup:
    return backup(number * SEG, number * SEG + 100, name=f"at-{number}", **more)  # type: ignore[arg-type]


def test_without_a_hole_there_is_none() -> None:
    assert hole_behind(archive((1, 1, 9)), [at(2), at(5)], 1) is None


def test_the_newest_backup_that_leads_anywhere_says_where_it_ends() -> None:
    found = hole_behind(archive((1, 1, 6), (1, 8, 9)), [at(2), at(5)], 1)
    assert found is not None
    assert (found.to_lsn, found.missing) == (7 * SEG, "000000010000000000000007")


def test_a_hole_before_the_newest_backup_hides_nothing() -> None:
    assert hole_behind(archive((1, 1, 3), (1, 5, 9)), [at(2), at(6)], 1) is None


def test_a_backup_that_is_not_consistent_yet_leads_nowhere() -> None:
    assert hole_behind(archive((1, 1, 3), (1, 5, 9)), [at(4)], 1) is None
    found = hole_behind(archive((1, 1, 3), (1, 5, 9)), [at(2), at(4)], 1)
    assert found is not None
    assert found.backup == "at-2"


def test_along_a_change_of_timeline_it_is_found_too() -> None:
    ways = archive((1, 1, 6), (2, 8, 9), histories={2: (Switch(timeline=1, lsn=7 * SEG + 50),)})
    found = hole_behind(ways, [at(2)], 2)
    assert found is not None
    assert (found.to_lsn, found.missing) == (7 * SEG, "000000020000000000000007")


def test_without_a_backup_or_a_history_there_is_nothing_to_say() -> None:
    assert hole_behind(archive((1, 1, 3), (1, 5, 9)), [], 1) is None
    assert hole_behind(archive((1, 1, 9)), [at(2)], 2) is None
    assert hole_behind(archive((1, 1, 3), (1, 5, 9)), [at(2, system_id="8")], 1) is None
