"""What is due, late or missed, from schedules and what exists. Pure.

A backup that is no longer due does nothing, so that runs that pile up while a worker is away don't all execute.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal

from recovery.cron import next_after, previous_before
from recovery.plan import NothingToDo
from recovery.policy import Schedule
from recovery.value import Instant, Value, rfc3339


class Due(Value):
    """Work whose slot has begun and that nothing has done yet."""

    slot: Instant
    why: str


class Slip(Value):
    """A slot that was not kept: `late` is done after its grace, or still waits then; `missed` was not done before the
    next slot came."""

    slot: Instant
    kind: Literal["late", "missed"]
    done_at: Instant | None = None


class Slot(Value):
    """A slot that is no slip: kept in time, or still waiting inside its grace."""

    slot: Instant
    state: Literal["kept", "waiting"]
    done_at: Instant | None = None


class Duty(Value):
    """Work with a schedule, and the begins of what was done. `since`: from when on slots are looked at."""

    what: str
    schedule: Schedule
    done: tuple[Instant, ...]
    since: Instant | None


CLOCK_BOUND = timedelta(minutes=1)
"""How far another engine's clock may be ahead of ours before its work counts as dated in the future."""

MOST_SLOTS = 20_000
"""More than a slot a minute for a week; a bound, so that no schedule makes looking endless."""


def decide(schedule: Schedule, done: Sequence[datetime], *, now: datetime) -> Due | NothingToDo:
    """Whether the newest slot still waits for its work. `done` holds the begins of what succeeded.

    What is dated in the future (a clock was ahead when it was made) keeps no slot: else nothing were due until then.
    """
    slot = previous_before(schedule.cron, now + timedelta(microseconds=1))
    newest = max((each for each in done if each <= now + CLOCK_BOUND), default=None)
    if newest is not None and newest >= slot:
        return NothingToDo(
            why=f"the slot of {rfc3339(slot)} was kept at {rfc3339(newest)}; next: {rfc3339(next_at(schedule, now))}"
        )
    return Due(slot=slot, why="nothing yet" if newest is None else f"the newest is of {rfc3339(newest)}")


def next_at(schedule: Schedule, now: datetime) -> datetime:
    """The next slot."""
    return next_after(schedule.cron, now)


def slips(schedule: Schedule, done: Sequence[datetime], *, since: datetime, now: datetime) -> tuple[Slip, ...]:
    """The late and missed slots after `since`, oldest first; one inside its grace is neither. The newest MOST_SLOTS."""
    return tuple(each for each in kept(schedule, done, since=since, now=now) if isinstance(each, Slip))


def kept(schedule: Schedule, done: Sequence[datetime], *, since: datetime, now: datetime) -> tuple[Slip | Slot, ...]:
    """Every slot after `since` up to `now` and what became of it, oldest first. The newest MOST_SLOTS of them."""
    begins = sorted(done)
    found: list[Slip | Slot] = []
    following = next_after(schedule.cron, now)
    for _ in range(MOST_SLOTS):
        slot = previous_before(schedule.cron, following)
        if slot <= since:
            break
        found.append(_became(slot, following, schedule.late_after, begins, now))
        following = slot
    return tuple(reversed(found))


def _became(
    slot: datetime, following: datetime, grace: timedelta, begins: Sequence[datetime], now: datetime
) -> Slip | Slot:
    at = bisect_left(begins, slot)
    first = begins[at] if at < len(begins) and begins[at] < following else None
    if first is not None:
        late = first > slot + grace
        return Slip(slot=slot, kind="late", done_at=first) if late else Slot(slot=slot, state="kept", done_at=first)
    if now >= following:
        return Slip(slot=slot, kind="missed")
    return Slip(slot=slot, kind="late") if now > slot + grace else Slot(slot=slot, state="waiting")
