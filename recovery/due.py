"""What is due, late or missed, from schedules and what exists. Pure.

A backup that is no longer due does nothing, so that runs that pile up while a worker is away don't all execute.
"""

from __future__ import annotations

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
    """A slot that was not kept: `late` was done after its grace, `missed` not at all before the next slot."""

    slot: Instant
    kind: Literal["late", "missed"]
    done_at: Instant | None = None


def decide(schedule: Schedule, done: Sequence[datetime], *, now: datetime) -> Due | NothingToDo:
    """Whether the newest slot still waits for its work. `done` holds the begins of what succeeded."""
    slot = previous_before(schedule.cron, now + timedelta(microseconds=1))
    newest = max(done, default=None)
    if newest is not None and newest >= slot:
        return NothingToDo(
            why=f"the slot of {rfc3339(slot)} was kept at {rfc3339(newest)}; next: {rfc3339(next_at(schedule, now))}"
        )
    return Due(slot=slot, why="nothing yet" if newest is None else f"the newest is of {rfc3339(newest)}")


def next_at(schedule: Schedule, now: datetime) -> datetime:
    """The next slot."""
    return next_after(schedule.cron, now)


def slips(schedule: Schedule, done: Sequence[datetime], *, since: datetime, now: datetime) -> tuple[Slip, ...]:
    """The late and missed slots after `since`, oldest first; one inside its grace is neither. At most 10 000 slots."""
    found: list[Slip] = []
    slot = next_after(schedule.cron, since)
    for _ in range(10_000):
        if slot > now:
            break
        following = next_after(schedule.cron, slot)
        kept = min((at for at in done if slot <= at < following), default=None)
        if kept is not None and kept > slot + schedule.late_after:
            found.append(Slip(slot=slot, kind="late", done_at=kept))
        elif kept is None and now > min(slot + schedule.late_after, following):
            found.append(Slip(slot=slot, kind="missed"))
        slot = following
    return tuple(found)
