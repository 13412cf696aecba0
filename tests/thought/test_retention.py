"""Retention: nothing that a promise stands on is ever deleted; everything else has a reason to go."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from recovery.point import SEGMENT_BYTES, Backup
from recovery.policy import BackupPolicy, Kept, Schedule, WalPolicy
from recovery.retention import Expired, agreed, judge_backups

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
DAY = timedelta(days=1)
DAILY = Schedule(cron="0 3 * * *")
POLICY = BackupPolicy(
    full=Kept(schedule=DAILY, keep=timedelta(days=30)),
    incremental=Kept(schedule=Schedule(cron="0 * * * *"), keep=timedelta(days=7)),
    marks=DAILY,
)


def backup(id_: str, days: float, *, parent: str | None = None, hold: bool = False) -> Backup:
    at = NOW - timedelta(days=days)
    lsn = int((100 - days) * 10) * SEGMENT_BYTES
    return Backup(
        id=id_, resource="db", system_id="7", timeline=1, kind="incremental" if parent else "full", parent=parent,
        begin_lsn=lsn, end_lsn=lsn + 100, begun_at=at, ended_at=at, server_version=180006, size_bytes=1, stored_bytes=1,
        hold=hold,
    )  # fmt: skip


def judged(*backups: Backup, proven: tuple[str, ...] = (), policy: BackupPolicy = POLICY) -> dict[str, str]:
    verdicts = judge_backups(backups, policy, proven=proven, now=NOW)
    return {each.name: f"{'expired' if isinstance(each, Expired) else 'kept'}: {each.why}" for each in verdicts}


def test_a_full_goes_after_thirty_days_and_an_incremental_after_seven() -> None:
    young, middle = backup("young", 1), backup("middle", 20)
    found = judged(backup("old", 31), middle, backup("i8", 8, parent="middle"), backup("i6", 6, parent="middle"), young)
    assert found["old"] == "expired: full, 31.0 days old"
    assert found["middle"] == "kept: within its retention"
    assert found["i6"] == "kept: within its retention"
    assert found["i8"] == "kept: the window begins on it"


def test_the_full_under_a_younger_incremental_stays() -> None:
    found = judged(backup("f", 31), backup("i", 6, parent="f"), backup("g", 20))
    assert found["f"] == "kept: i needs it"


def test_what_the_window_begins_on_stays_whatever_its_age() -> None:
    assert judged(backup("f", 40), backup("g", 1))["f"] == "kept: the window begins on it"
    found = judged(backup("f", 45), backup("i", 40, parent="f"), backup("g", 1))
    assert found["f"] == "kept: the window begins on it"
    assert found["i"] == "kept: the window begins on it"


def test_wal_that_is_kept_for_longer_than_the_window_keeps_its_backup() -> None:
    short = POLICY.but(full=Kept(schedule=DAILY, keep=timedelta(days=7)), wal=WalPolicy(keep=timedelta(days=14)))
    found = judged(backup("a", 20), backup("b", 15), backup("c", 10), backup("d", 1), policy=short)
    assert {name: why.partition(":")[0] for name, why in found.items()} == {
        "a": "expired", "b": "kept", "c": "expired", "d": "kept",
    }  # fmt: skip


def test_holds_and_the_last_proven_point_stay() -> None:
    found = judged(
        backup("h", 50, hold=True), backup("p", 45), backup("x", 44), backup("b", 8), backup("c", 1), proven=("p",)
    )
    assert found["h"] == "kept: under hold"
    assert found["p"] == "kept: the last proven point stands on it"
    assert found["x"].startswith("expired")


def test_without_an_incremental_policy_incrementals_live_like_fulls() -> None:
    found = judged(backup("f", 20), backup("i", 10, parent="f"), backup("g", 1), policy=POLICY.but(incremental=None))
    assert found["i"] == "kept: within its retention"


@given(st.lists(st.tuples(st.floats(0, 60), st.integers(0, 5)), max_size=25))
def test_whatever_is_kept_is_restorable(ages: list[tuple[float, int]]) -> None:
    backups: list[Backup] = []
    for number, (days, pick) in enumerate(sorted(ages, reverse=True)):
        fulls = [each for each in backups if each.kind == "full"]
        parent = fulls[-1].id if fulls and pick else None
        backups.append(backup(f"b{number}", days, parent=parent))
    verdicts = judge_backups(backups, POLICY, proven=(), now=NOW)
    kept = {each.name for each in verdicts if not isinstance(each, Expired)}
    by_id = {each.id: each for each in backups}
    assert all(by_id[name].parent is None or by_id[name].parent in kept for name in kept)
    before = [each for each in backups if each.ended_at <= NOW - POLICY.window]
    newest = max((each.ended_at for each in before), default=None)
    assert newest is None or any(each.id in kept for each in before if each.ended_at == newest)


def test_nothing_ages_on_while_no_younger_backup_comes_or_a_clock_is_ahead() -> None:
    ahead = NOW + timedelta(days=3650)
    verdicts = judge_backups([backup("f", 20), backup("g", 1)], POLICY, proven=(), now=ahead)
    assert not any(isinstance(each, Expired) for each in verdicts)


def test_another_line_s_backup_is_none_to_this_line_s_window() -> None:
    short = POLICY.but(full=Kept(schedule=DAILY, keep=timedelta(days=7)))
    other = backup("other", 7.5).but(timeline=2)
    found = judged(backup("old", 9), backup("f", 8), other, backup("f2", 1), policy=short)
    assert found["f"] == "kept: the window begins on it"
    assert found["other"] == "kept: the window begins on it"
    assert found["old"].startswith("expired")


def test_what_any_site_keeps_every_site_keeps() -> None:
    here = judge_backups([backup("f", 31), backup("i", 6, parent="f"), backup("g", 1)], POLICY, proven=(), now=NOW)
    there = judge_backups(
        [backup("e", 40), backup("f", 31), backup("b", 20), backup("g", 1)], POLICY, proven=(), now=NOW
    )
    assert [type(each) for each in there] == [Expired, Expired, type(here[0]), type(here[0])]
    made = agreed({"here": here, "there": there})
    assert [isinstance(each, Expired) for each in made["there"]] == [True, False, False, False]
    assert made["there"][1].why == "here keeps it"


def test_a_clock_that_is_ahead_shortens_no_window() -> None:
    found = judge_backups([backup("a", 40), backup("b", 9), backup("c", 1)], POLICY, proven=(), now=NOW + 8 * DAY)
    assert {each.name: each.why for each in found}["b"] != "full, 9.0 days old"
    short = POLICY.but(full=Kept(schedule=DAILY, keep=timedelta(days=7)))
    verdicts = judge_backups([backup("b", 9), backup("c", 1)], short, proven=(), now=NOW + 8 * DAY)
    assert not any(isinstance(each, Expired) for each in verdicts), "the window of the days before c begins on b"


def test_a_backup_that_a_clock_dates_too_early_does_not_hide_the_one_on_which_the_window_begins() -> None:
    """The log's order decides: z was taken last, by a server whose clock was set back."""
    short = POLICY.but(full=Kept(schedule=DAILY, keep=timedelta(days=7)))
    old, middle, late = backup("old", 9), backup("middle", 3), backup("z", 1)
    late = late.but(begun_at=NOW - 8 * DAY, ended_at=NOW - 8 * DAY)
    found = judged(old, middle, late, backup("new", 0), policy=short)
    assert found["old"] == "kept: the window begins on it"


def test_a_backup_without_its_full_begins_no_window() -> None:
    short = POLICY.but(full=Kept(schedule=DAILY, keep=timedelta(days=7)))
    found = judged(backup("f", 9), backup("i", 8, parent="lost"), backup("g", 0), policy=short)
    assert found["f"] == "kept: the window begins on it"
    assert found["i"].startswith("expired")
