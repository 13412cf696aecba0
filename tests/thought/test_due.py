"""What is due, late and missed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recovery import due
from recovery.due import Due, Slip, Slot, decide, kept, next_at, slips
from recovery.plan import NothingToDo
from recovery.policy import Schedule

HOURLY = Schedule(cron="30 * * * *", late_after=timedelta(minutes=10))


def at(hour: int, minute: int, second: int = 0) -> datetime:
    return datetime(2026, 11, 24, hour, minute, second, tzinfo=UTC)


def test_with_nothing_done_the_newest_slot_is_due() -> None:
    assert decide(HOURLY, [], now=at(9, 40)) == Due(slot=at(9, 30), why="nothing yet")


def test_a_slot_is_due_from_its_very_instant() -> None:
    decided = decide(HOURLY, [at(8, 31)], now=at(9, 30))
    assert isinstance(decided, Due)
    assert decided.slot == at(9, 30)
    assert "08:31" in decided.why


def test_a_kept_slot_needs_nothing_and_says_what_is_next() -> None:
    decided = decide(HOURLY, [at(7, 30), at(9, 30)], now=at(10, 29))
    assert isinstance(decided, NothingToDo)
    assert "10:30" in decided.why


def test_what_a_clock_ahead_has_dated_in_the_future_keeps_no_slot() -> None:
    decided = decide(HOURLY, [at(8, 31), at(23, 0)], now=at(9, 31))
    assert decided == Due(slot=at(9, 30), why="the newest is of 2026-11-24T08:31:00.000000Z")
    assert isinstance(decide(HOURLY, [at(9, 31, 30)], now=at(9, 31)), NothingToDo)


def test_runs_that_piled_up_do_one_slot_only() -> None:
    assert isinstance(decide(HOURLY, [at(3, 31)], now=at(9, 40)), Due)
    assert isinstance(decide(HOURLY, [at(3, 31), at(9, 40)], now=at(9, 41)), NothingToDo)


def test_the_next_slot_is_strictly_later() -> None:
    assert next_at(HOURLY, at(9, 30)) == at(10, 30)


def test_a_slot_inside_its_grace_is_no_slip() -> None:
    assert slips(HOURLY, [], since=at(9, 0), now=at(9, 40)) == ()


def test_a_slot_beyond_its_grace_is_late_while_it_can_still_be_done() -> None:
    assert slips(HOURLY, [], since=at(9, 0), now=at(9, 41)) == (Slip(slot=at(9, 30), kind="late"),)


def test_a_slot_that_was_not_done_before_the_next_is_missed() -> None:
    found = slips(HOURLY, [at(10, 30)], since=at(9, 0), now=at(10, 31))
    assert found == (Slip(slot=at(9, 30), kind="missed"),)


def test_a_slot_that_was_done_after_its_grace_is_late_with_its_instant() -> None:
    found = slips(HOURLY, [at(9, 41)], since=at(9, 0), now=at(10, 0))
    assert found == (Slip(slot=at(9, 30), kind="late", done_at=at(9, 41)),)


def test_the_grace_ends_at_the_next_slot_even_if_it_is_longer() -> None:
    patient = Schedule(cron="30 * * * *", late_after=timedelta(hours=3))
    found = slips(patient, [], since=at(8, 0), now=at(10, 0))
    assert found == (Slip(slot=at(8, 30), kind="missed"),)


def test_every_slot_is_told_with_what_became_of_it() -> None:
    found = kept(HOURLY, [at(8, 31)], since=at(8, 0), now=at(10, 35))
    assert found == (
        Slot(slot=at(8, 30), state="kept", done_at=at(8, 31)),
        Slip(slot=at(9, 30), kind="missed"),
        Slot(slot=at(10, 30), state="waiting"),
    )


def test_of_too_many_slots_the_newest_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(due, "MOST_SLOTS", 2)
    assert [each.slot for each in kept(HOURLY, [], since=at(1, 0), now=at(9, 35))] == [at(8, 30), at(9, 30)]


@given(st.lists(st.integers(0, 24 * 60 - 1), max_size=30), st.integers(0, 24 * 60 - 1))
def test_each_slot_is_told_once_and_kept_only_by_work_of_its_own(done: list[int], now: int) -> None:
    begins = [at(0, 0) + timedelta(minutes=each) for each in done]
    found = kept(HOURLY, begins, since=at(0, 0), now=at(0, 0) + timedelta(minutes=now))
    assert [each.slot for each in found] == sorted({each.slot for each in found})
    assert len(found) == (now + 30) // 60
    for each in found:
        inside = [one for one in begins if each.slot <= one < each.slot + timedelta(hours=1)]
        assert each.done_at == min(inside, default=None)
