"""RPO, RTO and exposure as arithmetic over what was recorded. Pure; TRUTH.md defines each.

RTO is a partition of the wall clock: every instant belongs to exactly one segment, so the segments sum to the wall.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise

from recovery.value import Instant, Value


class Phase(Value):
    """A named stretch of the wall clock."""

    name: str
    seconds: float


class Span(Value):
    """A step's time on the wall clock."""

    name: str
    begin: Instant
    end: Instant


def partition(spans: Sequence[Span], *, begin: datetime, end: datetime, idle: str = "orchestrate") -> tuple[Phase, ...]:
    """The wall from `begin` to `end`, each instant given to one span.

    Where spans overlap, the instant belongs to the one that ends last: it is what the end was waiting for. What no span
    covers is `idle`. The phases keep the order of their first instant and sum to the wall. An end that is not behind
    the beginning (a clock that was set back) gives no phase.
    """
    if end <= begin:
        return ()
    edges = sorted({begin, end, *(min(max(at, begin), end) for span in spans for at in (span.begin, span.end))})
    totals: dict[str, timedelta] = {}
    for left, right in pairwise(edges):
        over = [span for span in spans if span.begin <= left and span.end >= right]
        name = max(over, key=lambda span: (span.end, span.begin)).name if over else idle
        totals[name] = totals.get(name, timedelta()) + (right - left)
    return tuple(Phase(name=name, seconds=span.total_seconds()) for name, span in totals.items())


def rpo_seconds(*, asked_at: datetime, recovered_until: datetime | None) -> float | None:
    """The instant of asking minus the instant up to which every commit came back; None when that is not known."""
    return None if recovered_until is None else max(0.0, (asked_at - recovered_until).total_seconds())


class Exposure(Value):
    """RPO now at one place: what would be lost if only this copy survived. None seconds: unproven, with the reason."""

    place: str
    seconds: float | None
    lsn: int | None = None
    why: str


def exposure(
    place: str,
    *,
    stored_lsn: int | None,
    stored_at: datetime | None,
    flushed_lsn: int | None,
    now: datetime,
) -> Exposure:
    """Exposure of one copy. `stored_at` is the instant up to which every commit is in it; on an idle database, whose
    flushed LSN is stored, it is zero. Without the primary it counts from the last confirmation (TRUTH.md)."""
    if stored_lsn is not None and flushed_lsn is not None and stored_lsn >= flushed_lsn:
        return Exposure(place=place, seconds=0.0, lsn=stored_lsn, why="all that is flushed is stored")
    if stored_at is None:
        return Exposure(place=place, seconds=None, lsn=stored_lsn, why="nothing confirms up to when commits are there")
    why = "counted from the last commit that is there" if flushed_lsn is not None else "the primary cannot be asked"
    return Exposure(place=place, seconds=max(0.0, (now - stored_at).total_seconds()), lsn=stored_lsn, why=why)


def percentile(values: Sequence[float], share: float) -> float | None:
    """The value at `share` (0 to 1) by linear interpolation; None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    at = share * (len(ordered) - 1)
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)
