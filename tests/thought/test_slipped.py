"""Slots that slipped, as evidence: each is put on record once, by the schedule that was in force."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from recovery.due import Duty
from recovery.past import Past, past
from recovery.plan import NothingToDo
from recovery.planners import slots as plan_of
from recovery.policy import Schedule
from recovery.slipped import (
    FOUND_BACK,
    LOOK_BACK,
    MOST_DOUBLED,
    OnRecord,
    Promise,
    Slipped,
    SlotFound,
    asked_at,
    counted,
    decide,
    lines,
    on_record,
    said_of,
    since,
)
from recovery.standing import duties
from tests.thought.ledger_scene import NOON, backed_up, catalog, minutes, proved, record

HOURLY = Schedule(cron="30 * * * *", late_after=timedelta(minutes=10))
IN_FORCE = Promise(what="incremental", cron="30 * * * *", late_after_seconds=600, since=minutes(-30))
DAYS = timedelta(days=1)
BEGIN, SLOT = minutes(-40), minutes(30)


def duty(*done: datetime, begin: datetime | None = BEGIN, schedule: Schedule = HOURLY) -> Duty:
    return Duty(what="incremental", schedule=schedule, done=done, since=begin)


def slot(state: Any, at: datetime = SLOT, done: datetime | None = None) -> SlotFound:
    return SlotFound(what="incremental", slot=at, state=state, done_at=done)


def put(*slots: SlotFound, at: datetime = NOON, outcome: str = "missed", kind: str = "slots", **more: Any) -> Past:
    """A run that put slots on record."""
    facts = Slipped(slots=slots, **more).model_dump(mode="json")
    first = record("run.begun", at, {"purpose": "slots", "arguments": {"resource": "orders"}})
    last = record("run.ended" if outcome else "step.begun", at, {"outcome": outcome}, 2)
    return past("dd", first=first, said=record(kind, at, facts, 1), last=last, records=3, signed=True)


def news(given: Duty, *runs: Past, now: datetime) -> Slipped | NothingToDo:
    return decide([given], on_record(runs), now=now)


def found(given: Duty, *runs: Past, now: datetime) -> list[SlotFound]:
    told = news(given, *runs, now=now)
    return [] if isinstance(told, NothingToDo) else list(told.slots)


FIRST = put(promises=(IN_FORCE,), at=minutes(-29), outcome="met")


def test_the_first_look_puts_the_schedule_on_record_with_what_slipped_already() -> None:
    told = news(duty(), now=minutes(41))
    assert isinstance(told, Slipped)
    assert [(each.state, each.slot) for each in told.slots] == [("missed", minutes(-30)), ("overdue", minutes(30))]
    assert told.promises == (IN_FORCE.but(since=minutes(-90)),)
    assert asked_at(told) == minutes(30)


def test_two_who_look_at_different_moments_and_find_the_same_make_the_same_plan() -> None:
    told = [news(duty(), now=minutes(each)) for each in (41, 44)]
    plans = [plan_of(service="s", resource="orders", found=each) for each in told if isinstance(each, Slipped)]
    assert len({each.digest for each in plans}) == 1
    assert plans[0].arguments["kind"] == "1 missed, 1 overdue"
    later = news(duty(), now=minutes(91))
    assert isinstance(later, Slipped)
    assert plan_of(service="s", resource="orders", found=later).digest != plans[0].digest


@pytest.mark.parametrize(
    ("known", "done", "now", "states"),
    [
        (None, 35, 41, []),  # in time
        (None, None, 40, []),  # inside its grace
        (None, None, 41, ["overdue"]),
        (None, 45, 50, ["late"]),
        (None, None, 90, ["missed"]),
        ("overdue", None, 50, []),
        ("overdue", 55, 60, ["late"]),
        ("overdue", None, 90, ["missed"]),
        ("overdue", 31, 60, ["kept"]),  # it was done in time, and the ledger's copy that said so was silent
        ("missed", None, 95, []),
        ("missed", 55, 95, ["late"]),
        ("missed", 31, 95, ["kept"]),
        ("late", None, 60, []),  # what was seen to be done stays so
        ("late", None, 95, []),
        ("kept", None, 95, []),
        ("kept", 45, 95, []),
    ],
)
def test_a_slot_goes_on_record_when_its_state_is_news(
    known: Any, done: int | None, now: int, states: list[str]
) -> None:
    runs = [FIRST, *([put(slot(known))] if known else [])]
    given = duty(*([minutes(done)] if done is not None else []), begin=minutes(-30))
    told = [each for each in found(given, *runs, now=minutes(now)) if each.slot == minutes(30)]
    assert [each.state for each in told] == states
    assert all((each.done_at is not None) == (each.state in ("late", "kept")) for each in told)


def test_before_the_first_backup_the_schedule_counts_from_when_it_went_on_record() -> None:
    told = news(duty(begin=None), now=minutes(5))
    assert isinstance(told, Slipped)
    assert (told.slots, told.promises) == ((), (IN_FORCE,))
    here = on_record([FIRST])
    assert since("incremental", HOURLY, None, OnRecord(), now=NOON, back=LOOK_BACK) is None
    assert since("incremental", HOURLY, None, here, now=minutes(95), back=LOOK_BACK) == IN_FORCE.since
    much_later = NOON + 40 * DAYS
    assert since("incremental", HOURLY, None, here, now=much_later, back=LOOK_BACK) == much_later - LOOK_BACK
    assert isinstance(news(duty(begin=None), FIRST, now=minutes(5)), NothingToDo)


def test_a_schedule_that_was_changed_is_not_judged_for_the_time_before() -> None:
    daily = put(promises=(IN_FORCE.but(cron="0 3 * * *", late_after_seconds=3600.0, since=minutes(-600)),))
    now = minutes(95)
    assert since("incremental", HOURLY, minutes(-600), on_record([daily]), now=now, back=LOOK_BACK) == now
    told = news(duty(begin=now), daily, now=now)
    assert isinstance(told, Slipped)
    assert (told.slots, told.promises) == ((), (IN_FORCE.but(since=minutes(90)),))
    again = on_record([daily, put(promises=told.promises, at=minutes(96))])
    begin = since("incremental", HOURLY, minutes(-600), again, now=minutes(200), back=LOOK_BACK)
    assert begin == minutes(90)
    assert [each.slot for each in found(duty(begin=begin), now=minutes(211))] == [minutes(150)]


def test_another_grace_is_another_promise() -> None:
    patient = Schedule(cron=HOURLY.cron, late_after=timedelta(minutes=20))
    assert since("incremental", patient, minutes(-600), on_record([FIRST]), now=NOON, back=LOOK_BACK) == NOON


def test_status_scorecard_and_record_count_from_the_same_instant() -> None:
    here = catalog()
    taken = [("full", NOON - 40 * DAYS)]

    def of(runs: list[Past], **back: Any) -> datetime | None:
        return duties(here.backups["daily"], here.proofs["daily"], taken, (), runs, now=NOON, **back)[1].since

    old = put(promises=(IN_FORCE.but(since=NOON - 50 * DAYS),))
    young = put(promises=(IN_FORCE.but(since=NOON - 2 * DAYS),))
    assert of([]) == of([], back=FOUND_BACK) == of([old]) == NOON - LOOK_BACK
    assert of([old], back=FOUND_BACK) == NOON - FOUND_BACK
    assert of([young]) == of([young], back=FOUND_BACK) == NOON - 2 * DAYS


def test_what_nobody_could_be_told_of_is_told_again_after_pauses_that_grow() -> None:
    missed = slot("missed", minutes(-30))
    kept_since = duty(begin=minutes(-31))

    def told(after: float, again: int = 0, how: Any = "failed") -> list[int]:
        runs = (FIRST, put(missed, at=minutes(30), told=how, again=again))
        said = news(kept_since, *runs, now=minutes(30 + after))
        return [] if isinstance(said, NothingToDo) or missed not in said.slots else [said.again]

    assert told(9) == told(9, how="told") == []
    late = {again: 15 * 2 ** min(again, MOST_DOUBLED) for again in (0, 1, 40)}
    for again, pause in late.items():
        assert told(pause - 0.1, again) == []
        assert told(pause, again) == [again + 1]
        assert told(pause, again, "told") == told(pause, again, "not configured") == []


def test_news_of_a_slot_goes_before_telling_its_old_state_again() -> None:
    runs = (FIRST, put(slot("overdue"), at=minutes(41), told="failed"))
    told = news(duty(minutes(50), begin=minutes(-30)), *runs, now=minutes(80))
    assert isinstance(told, Slipped)
    assert ([each.state for each in told.slots], told.again) == (["late"], 0)


def test_the_newest_word_of_a_slot_counts_whatever_the_order_of_the_runs() -> None:
    runs = [put(slot("overdue")), put(slot("missed"), at=minutes(1)), put(slot("late", minutes(-30)), at=minutes(2))]
    for order in (runs, runs[::-1]):
        record_ = on_record(order)
        assert [(each.found.slot, each.found.state) for each in record_.slots] == [
            (minutes(-30), "late"),
            (minutes(30), "missed"),
        ]
        assert record_.slots[1].found_at == minutes(1)


def test_what_has_not_ended_or_does_not_read_is_not_on_record() -> None:
    assert on_record([put(slot("missed"), outcome=""), proved(NOON), backed_up(NOON)]) == OnRecord()
    other = put(slot("missed"))
    assert other.said is not None
    assert said_of(other.but(said=other.said.but(facts={"slots": 7}))) is None
    assert said_of(other) is not None


def test_people_read_counts_and_the_newest_slots_first() -> None:
    many = [slot("missed", minutes(60 * each - 30)) for each in range(10)]
    assert counted([*many, slot("late", NOON, minutes(5))]) == "10 missed, 1 late"
    said = lines([slot("late", NOON, minutes(5)), *many])
    assert said[0] == "incremental, slot of 2026-11-24T20:30Z: missed"
    assert said[-1] == "and 3 older"
    assert lines([slot("late", NOON, minutes(5))]) == (
        "incremental, slot of 2026-11-24T12:00Z: late, done at 2026-11-24T12:05Z",
    )
