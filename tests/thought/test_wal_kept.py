"""WAL retention: the window stays whole, each kept backup is restorable to its own end, and nothing else is kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recovery.choose import Target, choose, own_end
from recovery.errors import BadInput, NoPoint
from recovery.point import SEGMENT_BYTES, Backup
from recovery.policy import BackupPolicy, Kept, Schedule, WalPolicy
from recovery.retention import Expired, judge_backups
from recovery.timeline import timelines
from recovery.wal import Archive, Gap, Known, Stretch, Switch, contiguous, name_of, parse, reach
from recovery.wal_kept import (
    Needed,
    Retired,
    first_numbers,
    judge_marks,
    judge_wal,
    needed_wal,
    retired,
)

S = SEGMENT_BYTES
START = datetime(2026, 9, 1, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
DAILY = Schedule(cron="0 3 * * *")
POLICY = BackupPolicy(
    full=Kept(schedule=DAILY, keep=30 * DAY), incremental=Kept(schedule=DAILY, keep=7 * DAY), marks=DAILY
)


def backup(id_: str, number: int, days_ago: float, *, timeline: int = 1, hold: bool = False, last: int = 0) -> Backup:
    ended = NOW - days_ago * DAY
    return Backup(
        id=id_, resource="db", system_id="7", timeline=timeline, kind="full", begin_lsn=number * S + 40,
        end_lsn=(last or number) * S + 400, begun_at=ended - HOUR, ended_at=ended, server_version=180006, size_bytes=1,
        stored_bytes=1, hold=hold,
    )  # fmt: skip


NOW = START + 60 * DAY
OLD, BASE, NEW = backup("old", 10, 20), backup("base", 50, 8), backup("new", 90, 0.5)
KEPT = (OLD, BASE, NEW)


def needed(*backups: Backup, firsts: dict[int, int] | None = None, **more: object) -> tuple[Needed, ...]:
    how = {"proven": (), "now": NOW, **more}
    return needed_wal("7", backups or KEPT, firsts or {1: 10}, POLICY, **how)  # type: ignore[arg-type]


def stays(names: list[str], spans: tuple[Needed, ...]) -> list[str]:
    return [each.name for each in judge_wal(names, spans, segment_bytes=S) if not isinstance(each, Expired)]


def files(*numbers: int, timeline: int = 1) -> list[str]:
    return [name_of(timeline, number) for number in numbers]


def archive(*stretches: tuple[int, int, int], histories: dict[int, tuple[Switch, ...]] | None = None) -> Archive:
    found = tuple(Stretch(timeline=on, first=first, last=last) for on, first, last in stretches)
    return Archive(system_id="7", stretches=found, histories=histories or {})


def test_wal_stays_from_the_window_s_backup_on_and_what_makes_an_older_one_consistent() -> None:
    long = backup("long", 20, 15, last=22)
    found = judge_wal(files(9, 10, 11, 19, 20, 22, 23, 49, 50, 51, 90), needed(*KEPT, long), segment_bytes=S)
    assert [each.name for each in found if not isinstance(each, Expired)] == files(10, 11, 20, 22, 23, 50, 51, 90)
    assert {each.name: each.why for each in found}[name_of(1, 19)] == "before base, and no kept backup needs it"
    assert {each.name: each.why for each in found}[name_of(1, 10)] == "old: it becomes consistent by it"
    assert {each.name: each.why for each in found}[name_of(1, 51)] == "base: the window begins on it"


def test_the_last_byte_of_a_backup_may_be_the_last_of_its_segment_and_the_record_behind_it_in_the_next() -> None:
    edge = OLD.but(end_lsn=11 * S)
    assert stays(files(10, 11, 12, 13), needed(edge, BASE, NEW)) == files(10, 11, 12)
    found = own_end("old", backups=(edge, BASE, NEW), archive=archive((1, 10, 13), (1, 50, 95)))
    assert found.segments == tuple(files(10, 11, 12))
    alone = own_end("old", backups=(edge, BASE, NEW), archive=archive((1, 10, 10), (1, 50, 95)))
    assert alone.segments == tuple(files(10)), "what is not there is not asked for"


@pytest.mark.parametrize(
    ("held", "how"),
    [(True, {}), (False, {"proven": ("old",)}), (False, {"underway": ("old",)})],
)
def test_what_people_count_on_keeps_all_wal_from_there_on(held: bool, how: dict[str, object]) -> None:
    spans = needed(OLD.but(hold=held), BASE, NEW, **how)
    assert stays(files(9, 10, 12, 49, 50), spans) == files(10, 12, 49, 50)
    assert any(each.backup == "old" and each.last is None for each in spans)


def test_a_younger_installation_than_its_window_keeps_all_from_its_first_backup_on() -> None:
    assert stays(files(49, 50, 51, 90), needed(BASE.but(ended_at=NOW - DAY), NEW)) == files(50, 51, 90)


def test_wal_that_is_kept_for_longer_than_the_window_is() -> None:
    longer = POLICY.but(wal=WalPolicy(keep=14 * DAY))
    spans = needed_wal("7", KEPT, {1: 10}, longer, proven=(), now=NOW)
    assert stays(files(10, 11, 49, 50), spans) == files(10, 11, 49, 50)
    said = retired(archive((1, 10, 95)), KEPT, longer, now=NOW)
    assert said is not None
    assert said.why == "wal.keep 14 days"
    bare = retired(archive((1, 10, 95)), KEPT, POLICY.but(wal=WalPolicy(keep=timedelta(0))), now=NOW)
    assert bare is not None
    assert bare.why == "window 7 days"


def test_labels_and_partials_go_with_their_segment_and_histories_never() -> None:
    names = [f"{name}{end}" for name in files(10, 12) for end in ("", ".partial", ".00000028.backup")]
    odd = ["00000002.history", "notes.txt"]
    assert first_numbers([*names, *odd], S) == {1: 10}
    kept = stays([*names, *odd], needed())
    assert kept == [*names[:3], *odd]


def test_without_any_backup_all_wal_and_all_marks_stay() -> None:
    assert needed_wal("8", KEPT, {1: 10}, POLICY, proven=(), now=NOW) == ()
    assert stays(files(1), ()) == files(1)
    assert not isinstance(judge_marks([(1, 5)], (), (), segment_bytes=S)[0], Expired)
    assert retired(archive((1, 1, 2)).but(system_id="8"), KEPT, POLICY, now=NOW) is None


def test_both_lines_of_a_window_that_spans_a_failover_are_kept_and_a_dead_line_is_not() -> None:
    after = backup("after", 70, 5, timeline=2)
    spans = needed(OLD, BASE, after, NEW.but(timeline=2), firsts={1: 10, 2: 69})
    assert stays([*files(12, 49, 50, 68), *files(69, 70, timeline=2)], spans) == [
        *files(50, 68),
        *files(69, 70, timeline=2),
    ]
    aged = backup("aged", 80, 8, timeline=2)
    spans = needed(OLD, BASE.but(ended_at=NOW - 10 * DAY), aged, NEW.but(timeline=2), firsts={1: 10, 2: 69})
    assert stays([*files(12, 50, 51, 52), *files(69, 79, 80, timeline=2)], spans) == [
        *files(50, 51),
        name_of(2, 80),
    ]


def test_a_timeline_that_left_from_an_old_backup_s_end_keeps_its_wal_until_it_has_a_backup_before_the_window() -> None:
    """The old backup was restored and went on as the primary: its numbers lie far below those of the line before."""
    names = [*files(10, 12), *files(10, 11, 30, timeline=2)]
    before = [name_of(1, 10), *files(10, 11, 30, timeline=2)]
    assert stays(names, needed(firsts={1: 10, 2: 10})) == before
    first = backup("first", 30, 0.2, timeline=2)
    assert stays(names, needed(*KEPT, first, firsts={1: 10, 2: 10}))[-3:] == files(10, 11, 30, timeline=2)
    assert stays(files(13, 14, timeline=3), needed(firsts={1: 10, 3: 13})) == [], "a clone's, which nothing leads to"


def test_a_mark_goes_when_no_kept_backup_leads_to_it_any_more() -> None:
    places = [(1, OLD.end_lsn - 1), (1, OLD.end_lsn), (1, 12 * S), (1, 50 * S + 41), (1, BASE.end_lsn), (1, 400 * S)]
    found = judge_marks(places, KEPT, needed(), segment_bytes=S)
    assert [isinstance(each, Expired) for each in found] == [True, False, True, True, False, False]
    assert found[2].why == "no kept backup leads to 0/C000000 by WAL that stays"
    touching = backup("next", 12, 19)
    found = judge_marks(places[:3], (*KEPT, touching), needed(*KEPT, touching), segment_bytes=S)
    assert [isinstance(each, Expired) for each in found] == [True, False, False], "WAL leads from one to the other"


HOLED = archive((1, 10, 11), (1, 50, 95))


def gone() -> Retired:
    found = retired(HOLED, KEPT, POLICY, now=NOW)
    assert found is not None
    return found


def test_a_hole_that_retention_left_is_no_gap_and_another_is() -> None:
    (line,) = timelines(HOLED, KEPT, (), retired=gone())
    assert line.gaps == ()
    assert [(each.first, each.last) for each in line.retired] == [(name_of(1, 12), name_of(1, 49))]
    assert [(each.backup, each.stops) for each in line.windows] == [
        ("old", "retired"), ("base", "end of archive"), ("new", "end of archive"),
    ]  # fmt: skip
    both = archive((1, 10, 11), (1, 53, 60), (1, 90, 95))
    (line,) = timelines(both, KEPT, (), retired=gone())
    assert [(each.first, each.last) for each in line.gaps] == [
        (name_of(1, 50), name_of(1, 52)), (name_of(1, 61), name_of(1, 89)),
    ]  # fmt: skip
    assert [(each.first, each.last) for each in line.retired] == [(name_of(1, 12), name_of(1, 49))]
    assert [each.stops for each in line.windows] == ["retired", "unusable", "end of archive"]


def test_a_hole_between_what_two_old_backups_need_is_parted() -> None:
    spans = (Needed(first=10, last=12, backup="a", why=""), Needed(first=20, last=20, backup="b", why=""))
    said = Retired(needed=(*spans, Needed(first=30, last=None, backup="c", why="")), segment_bytes=S, why="w")
    missing, went = said.parted(Gap(timeline=1, first=11, last=25))
    assert [(each.first, each.last) for each in missing] == [(11, 12), (20, 20)]
    assert [(each.first, each.last) for each in went] == [(13, 19), (21, 25)]


def test_what_a_hold_would_need_and_was_retired_before_is_no_gap() -> None:
    held = (OLD.but(hold=True), BASE, NEW)
    assert timelines(HOLED, held, (), retired=retired(HOLED, held, POLICY, now=NOW))[0].gaps == ()


KNOWN = tuple(Known(lsn=lsn, at=at) for b in KEPT for lsn, at in ((b.begin_lsn, b.begun_at), (b.end_lsn, b.ended_at)))


def test_a_moment_in_such_a_hole_has_no_point_and_the_reason() -> None:
    at = Target(kind="time", at=NOW - 12 * DAY)
    with pytest.raises(NoPoint, match=r"WAL of that time has been retired \(wal.keep 7 days\)") as told:
        choose(at, backups=KEPT, archive=HOLED, timeline=1, known=KNOWN, retired=gone())
    assert "dr restore db --backup old --to DIR" in told.value.hint
    with pytest.raises(NoPoint, match="has been retired"):
        choose(Target(kind="lsn", lsn=30 * S), backups=KEPT, archive=HOLED, timeline=1, retired=gone())


def test_an_old_backup_with_little_wal_is_never_taken_for_a_moment_behind_the_hole() -> None:
    at = Target(kind="time", at=NOW - 2 * DAY)
    found = choose(at, backups=KEPT, archive=HOLED, timeline=1, known=KNOWN, retired=gone())
    assert found.backups == ("base",)
    assert choose(at, backups=KEPT, archive=HOLED, timeline=1, known=KNOWN).backups == ("base",)
    real = archive((1, 10, 12), (1, 90, 95))
    behind = Target(kind="time", at=NOW - 19 * DAY)
    assert choose(behind, backups=(OLD, NEW), archive=real, timeline=1).backups == ("old",)


def test_a_moment_just_behind_an_old_backup_is_reached_where_something_known_tells_so() -> None:
    at = Target(kind="time", at=OLD.ended_at + timedelta(seconds=5))
    known = (*KNOWN, Known(lsn=OLD.end_lsn + 100, at=OLD.ended_at + timedelta(seconds=9)))
    assert choose(at, backups=KEPT, archive=HOLED, timeline=1, known=known, retired=gone()).backups == ("old",)


def test_a_backup_s_own_end_needs_nothing_behind_it() -> None:
    found = own_end("old", backups=KEPT, archive=HOLED)
    assert (found.backups, found.segments, found.timeline) == (("old",), tuple(files(10, 11)), 1)
    assert found.target.text() == "the backup's own end (LSN 0/A000190)"
    with pytest.raises(BadInput, match="no backup 'other'"):
        own_end("other", backups=KEPT, archive=HOLED)
    with pytest.raises(BadInput, match="no backup 'old'"):
        own_end("old", backups=(), archive=HOLED)
    with pytest.raises(NoPoint, match="needs f, which is not there"):
        own_end("old", backups=(OLD.but(kind="incremental", parent="f"),), archive=HOLED)
    with pytest.raises(NoPoint, match=f"old cannot be made consistent: {name_of(1, 10)} is missing"):
        own_end("old", backups=KEPT, archive=archive((1, 50, 95)))


def test_the_segment_in_which_a_promotion_left_the_backup_s_timeline_may_be_there_on_the_next_one() -> None:
    two = {2: (Switch(timeline=1, lsn=10 * S + 900),), 3: (Switch(timeline=1, lsn=5 * S),)}
    found = own_end("old", backups=KEPT, archive=archive((2, 10, 12), histories=two))
    assert (found.timeline, found.segments, found.histories) == (2, tuple(files(10, 11, timeline=2)), (2,))
    with pytest.raises(NoPoint, match="old cannot be made consistent"):
        own_end("old", backups=KEPT, archive=archive((3, 10, 12), histories={3: two[3]}))


@dataclass
class World:
    """A cluster that writes, is backed up and fails over, as its archive sees it. `commits`: when, and where."""

    now: datetime = START
    timeline: int = 1
    number: int = 3
    names: set[str] = field(default_factory=set)
    histories: dict[int, tuple[Switch, ...]] = field(default_factory=dict)
    backups: list[Backup] = field(default_factory=list)
    commits: list[tuple[datetime, int]] = field(default_factory=list)

    def write(self, segments: int) -> None:
        for _ in range(segments):
            self.names.add(name_of(self.timeline, self.number))
            self.commits.append((self.now, self.number * S + 600))
            self.number += 1

    def back_up(self, *, parent: str | None, segments: int, hold: bool) -> None:
        begin, begun = self.number * S + 40, self.now
        self.write(segments)
        self.now += HOUR
        self.backups.append(
            Backup(
                id=f"b{len(self.backups)}-{self.number}", resource="db", system_id="7", timeline=self.timeline,
                kind="incremental" if parent else "full", parent=parent, begin_lsn=begin, end_lsn=self.number * S + 400,
                begun_at=begun, ended_at=self.now, server_version=180006, size_bytes=1, stored_bytes=1, hold=hold,
            )
        )  # fmt: skip
        self.write(1)

    def fail_over(self) -> None:
        left = Switch(timeline=self.timeline, lsn=self.number * S + 300)
        self.histories[self.timeline + 1] = (*self.histories.get(self.timeline, ()), left)
        self.timeline += 1

    @property
    def archive(self) -> Archive:
        return Archive(system_id="7", stretches=contiguous(self.names), histories=self.histories)

    def restorable(self) -> set[int]:
        """The commits of the window that some backup leads to on the newest timeline."""
        ids = {each.id for each in self.backups}
        reached = [
            found
            for each in self.backups
            if (each.parent is None or each.parent in ids)
            and (found := reach(self.archive, each, self.timeline)) is not None
            and found.stops != "unusable"
        ]
        window = [lsn for at, lsn in self.commits if at >= self.now - POLICY.window]
        return {lsn for lsn in window if any(each.from_lsn <= lsn < each.to_lsn for each in reached)}

    def sweep(self, ahead: timedelta) -> tuple[Needed, ...]:
        how = {"proven": (), "now": self.now + ahead}
        spans = needed_wal("7", self.backups, first_numbers(self.names, S), POLICY, **how)  # type: ignore[arg-type]
        verdicts = judge_backups(self.backups, POLICY, **how)  # type: ignore[arg-type]
        expired = {each.name for each in verdicts if isinstance(each, Expired)}
        self.backups = [each for each in self.backups if each.id not in expired]
        self.names -= {
            each.name for each in judge_wal(sorted(self.names), spans, segment_bytes=S) if isinstance(each, Expired)
        }
        return spans


DAYS = st.lists(
    st.tuples(
        st.integers(0, 3),  # segments written before the backup
        st.sampled_from(["full", "incremental", "incremental", "none", "failover"]),
        st.integers(0, 2),  # segments while it is taken
        st.sampled_from([False] * 7 + [True]),  # put under hold
        st.booleans(),  # swept that day
        st.sampled_from([0, 0, 0, 30]),  # days that the engine's clock is ahead in that sweep
    ),
    min_size=12,
    max_size=60,
)


@settings(max_examples=25, deadline=None)  # each is weeks of backups and sweeps
@given(DAYS)
def test_sweep_after_sweep_the_window_stays_whole_each_kept_backup_has_its_own_end_and_no_gap_is_told(
    days: list[tuple[int, str, int, bool, bool, int]],
) -> None:
    world = World()
    for segments, what, taking, hold, swept, ahead in days:
        world.now += 23 * HOUR
        world.write(segments)
        fulls = [each for each in world.backups if each.kind == "full" and each.timeline == world.timeline]
        if what == "failover":
            world.fail_over()
        elif what != "none":
            parent = fulls[-1].id if what == "incremental" and fulls else None
            world.back_up(parent=parent, segments=taking, hold=hold)
        before = world.restorable()
        if swept:
            spans = world.sweep(ahead * DAY)
            assert set(world.names) == set(stays(sorted(world.names), spans))
        assert world.restorable() == before
        for each in world.backups:
            assert own_end(each.id, backups=world.backups, archive=world.archive).backups[-1] == each.id
        said = retired(world.archive, world.backups, POLICY, now=world.now)
        lines = timelines(world.archive, world.backups, (), retired=said)
        assert [line.gaps for line in lines if line.gaps] == []
        assert not any(each.stops in ("gap", "unusable") for line in lines for each in line.windows)


@settings(max_examples=40, deadline=None)
@given(DAYS)
def test_of_the_past_before_the_window_nothing_remains_but_what_kept_backups_need(
    days: list[tuple[int, str, int, bool, bool, int]],
) -> None:
    """On one timeline and without holds, by the promise's own words: no other reckoning of what is needed."""
    world = World()
    for segments, what, taking, _, _, _ in days:
        world.now += 23 * HOUR
        world.write(segments + 1)
        fulls = [each for each in world.backups if each.kind == "full"]
        if what in ("full", "incremental"):
            parent = fulls[-1].id if what == "incremental" and fulls else None
            world.back_up(parent=parent, segments=taking, hold=False)
    world.sweep(timedelta(0))
    if not world.backups:
        return
    begins_at = world.backups[-1].ended_at - POLICY.window
    before = [each for each in world.backups if each.ended_at <= begins_at]
    cut = (before[-1:] or world.backups)[0].begin_lsn // S
    old = {number for name in world.names if (number := getattr(parse(name), "number", 0)) < cut}
    own = {n for each in world.backups for n in range(each.begin_lsn // S, each.end_lsn // S + 2)}
    assert old <= own
