"""Slots that slipped, as evidence: what is to be put on record of them, given what stands there. Pure.

Separate from due.py, which judges slots from what was done and by today's schedule: here what was found of a slot
lasts, whoever looks later, and whatever the catalog says then. With the slots stand the schedules they were judged by,
and since when each was in force: one that was changed is not judged for the time before.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Literal

from pydantic import ValidationError

from recovery.cron import next_after, previous_before
from recovery.due import Duty, Slip, Slot, kept
from recovery.past import Past
from recovery.plan import NothingToDo
from recovery.policy import Schedule
from recovery.value import Instant, Value, rfc3339

KIND = "slots"
"""The purpose of the runs in which slots are put on record, and the kind of the record that names them."""
LOOK_BACK = timedelta(days=7)
"""How far slots are looked at where nothing says since when their schedule is in force …"""
FOUND_BACK = timedelta(days=35)
"""… and at most: whoever was away for longer finds what slipped in that time."""
RETOLD_AFTER = timedelta(minutes=15)
"""What nobody could be told of is told again after that time, then after twice as long, at most MOST_DOUBLED times."""
MOST_DOUBLED = 6
SHOWN_LINES = 8

Told = Literal["told", "failed", "not configured", "nothing to tell"]


class SlotFound(Value):
    """A slot that slipped. `overdue`: its grace is over and nothing was done; `late`: done after its grace; `missed`:
    not done before the next slot came; `kept` takes back what was found before (it was done in time, unseen)."""

    what: str
    slot: Instant
    state: Literal["overdue", "late", "missed", "kept"]
    done_at: Instant | None = None


class Promise(Value):
    """A duty's schedule and since when it is in force: slots behind that instant are judged by it."""

    what: str
    cron: str
    late_after_seconds: float
    since: Instant


class Slipped(Value):
    """What a record says: the slots that it adds, the schedules that it puts into force, and who was told."""

    slots: tuple[SlotFound, ...]
    promises: tuple[Promise, ...] = ()
    told: Told = "nothing to tell"
    channels: dict[str, str] = {}
    why: str = ""
    again: int = 0
    """How often these slots were told before, to nobody."""


class Noted(Value):
    """A slot as the newest record tells of it."""

    found: SlotFound
    run: str
    found_at: Instant
    told: Told
    again: int


class OnRecord(Value):
    """Everything on record of one resource: by duty and slot, oldest slot first, and the schedules in force."""

    slots: tuple[Noted, ...] = ()
    promises: tuple[Promise, ...] = ()


def said_of(run: Past) -> Slipped | None:
    """What a run put on record, or None when it is no such run, has not ended, or cannot be read by this version."""
    if run.said is None or run.said.kind != KIND or not run.outcome:
        return None
    try:
        return Slipped.model_validate(run.said.facts)
    except ValidationError:
        return None


def on_record(runs: Iterable[Past]) -> OnRecord:
    """Folds the runs of one resource, in any order."""
    slots: dict[tuple[datetime, str], Noted] = {}
    promises: dict[str, Promise] = {}
    for run in sorted(runs, key=lambda each: (each.begun_at, each.run)):
        said = said_of(run)
        if said is None:
            continue
        for each in said.slots:
            slots[each.slot, each.what] = Noted(
                found=each, run=run.run, found_at=run.begun_at, told=said.told, again=said.again
            )
        promises |= {each.what: each for each in said.promises}
    return OnRecord(slots=tuple(slots[each] for each in sorted(slots)), promises=tuple(promises.values()))


def since(
    what: str, schedule: Schedule, first: datetime | None, record: OnRecord, *, now: datetime, back: timedelta
) -> datetime | None:
    """From when on a duty's slots are judged: not before its schedule was in force, at most `back`. `first`: from when
    on there was something to keep; None while there was no backup yet: then what the record promises counts alone. A
    schedule that is not on record yet, where another is, was changed a moment ago."""
    promise = next((each for each in record.promises if each.what == what), None)
    if promise is None:
        return None if first is None else max(first, now - LOOK_BACK)
    if not _same(promise, schedule):
        return now
    return max(first or now - back, promise.since)


def promised(duties: Sequence[Duty], record: OnRecord, *, now: datetime) -> tuple[Promise, ...]:
    """The schedules that are to be put on record: new ones, and those that were changed. They are in force from the
    slot before the first that they are judged by, so that two who look at the same time say the same."""
    found = []
    for duty in duties:
        known = next((each for each in record.promises if each.what == duty.what), None)
        if known is not None and _same(known, duty.schedule):
            continue
        cron = duty.schedule.cron
        from_ = now if known is not None or duty.since is None else duty.since
        begin = previous_before(cron, next_after(cron, from_))
        grace = duty.schedule.late_after.total_seconds()
        found.append(Promise(what=duty.what, cron=cron, late_after_seconds=grace, since=begin))
    return tuple(found)


def _same(promise: Promise, schedule: Schedule) -> bool:
    return (promise.cron, promise.late_after_seconds) == (schedule.cron, schedule.late_after.total_seconds())


def decide(duties: Sequence[Duty], record: OnRecord, *, now: datetime) -> Slipped | NothingToDo:
    """What is to be put on record now: slots whose state is new, schedules, and what nobody could be told of yet."""
    known = {(each.found.what, each.found.slot): each for each in record.slots}
    slots: list[SlotFound] = []
    for duty in duties:
        if duty.since is None:
            continue
        for each in kept(duty.schedule, duty.done, since=duty.since, now=now):
            found = _found(duty.what, each)
            if found is not None and _is_news(found, known.get((duty.what, each.slot))):
                slots.append(found)
    promises = promised(duties, record, now=now)
    fresh = {(each.what, each.slot) for each in slots}
    untold = [each for key, each in known.items() if key not in fresh and _told_again(each, now)]
    if not slots and not promises and not untold:
        return NothingToDo(why="every slot that slipped is on record")
    again = max((each.again + 1 for each in untold), default=0)
    told = sorted((*slots, *(each.found for each in untold)), key=lambda each: (each.slot, each.what))
    return Slipped(slots=tuple(told), promises=promises, again=again)


def _found(what: str, each: Slip | Slot) -> SlotFound | None:
    if isinstance(each, Slot):
        return SlotFound(what=what, slot=each.slot, state="kept", done_at=each.done_at) if each.done_at else None
    state: Literal["overdue", "late", "missed"] = each.kind if each.kind == "missed" or each.done_at else "overdue"
    return SlotFound(what=what, slot=each.slot, state=state, done_at=each.done_at)


def _is_news(found: SlotFound, known: Noted | None) -> bool:
    """What was seen to be done stays so: that it can't be seen any more (a silent bucket, a sweep) is no news."""
    if known is None:
        return found.state != "kept"
    return known.found.state in ("overdue", "missed") and found.state not in (known.found.state, "overdue")


def _told_again(noted: Noted, now: datetime) -> bool:
    pause = RETOLD_AFTER * 2 ** min(noted.again, MOST_DOUBLED)
    return noted.told == "failed" and now - noted.found_at >= pause


def asked_at(found: Slipped) -> datetime:
    """The newest instant that is told of. The plan of two who found the same is the same plan, so that its only run
    puts it on record once, whoever begins it."""
    return max([*(each.slot for each in found.slots), *(each.since for each in found.promises)])


def counted(slots: Sequence[SlotFound]) -> str:
    """In words: `2 missed, 1 late`; nothing for none."""
    found = {state: sum(each.state == state for each in slots) for state in ("missed", "overdue", "late", "kept")}
    return ", ".join(f"{count} {state}" for state, count in found.items() if count)


def lines(slots: Sequence[SlotFound]) -> tuple[str, ...]:
    """For people: a line for each slot, newest first, and how many more there are."""
    newest = sorted(slots, key=lambda each: (each.slot, each.what), reverse=True)
    shown = [_line(each) for each in newest[:SHOWN_LINES]]
    return (*shown, *([f"and {len(newest) - SHOWN_LINES} older"] if len(newest) > SHOWN_LINES else []))


def _line(each: SlotFound) -> str:
    done = f", done at {rfc3339(each.done_at)[:16]}Z" if each.done_at is not None else ""
    return f"{each.what}, slot of {rfc3339(each.slot)[:16]}Z: {each.state}{done}"
