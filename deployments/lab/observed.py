"""What an outside observer saw, from its journal: outages, what was acknowledged, what is missing. Pure.

Separate from observer.py, which asks: here every figure is a function of the journal's lines, so that each of them can
be checked by hand. A try is one write of a row with a number of its own, and its reading back.

- A write is *acknowledged* when the platform answered that it is committed. Nothing else counts as success.
- An *outage* is the time between two acknowledgements that follow each other, in which at least one failed try began.
  `begin` is the completion of the first of the two, the last moment at which the platform is known to have served;
  `end` is the completion of the second. Both are on the observer's clock. An outage that lasts has no `end`, and its
  `seconds` go on to the last try that ended. Where nothing was acknowledged before, it begins with the first failure.
- *Missing* are the acknowledged numbers that the present primary does not have, asked by name, now.
- `loss_seconds` is how far back the missing ones reach: from the newest of a stretch to the kept one before it.
- *Two writers* are proven by timelines: every promotion begins a higher one. A write that began after another had been
  acknowledged on a higher timeline, and yet was acknowledged on a lower one (or by another site on the same one), was
  taken by a second writer.
- `observer_gap_seconds` is the longest time between the beginnings of two tries: how long the observer itself stood
  still at most.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise
from typing import Any, Literal

from recovery.value import Instant, Value, rfc3339

FIRST_SEQ = 1_000_000_000
"""The observer's rows have numbers from here on, the workload's stay below: neither can take the other's."""
TOLD_MOST = 1000


class Try(Value):
    """One try as journalled: an acknowledged one has `site` and, where the platform says it, `timeline`.

    `read_back`: whether the row was read again and equal; None when it was not asked for.
    """

    seq: int
    begun_at: Instant
    ended_at: Instant
    outcome: Literal["acknowledged", "failed"]
    address: str = ""
    site: str = ""
    timeline: int | None = None
    read_back: bool | None = None
    why: str = ""


class Outage(Value):
    """A time without acknowledgement, by the observer's clock; `end` None while it lasts."""

    begin: Instant
    end: Instant | None
    seconds: float


class SecondWriter(Value):
    """A write taken by `site` after `after_seq` had been acknowledged on a later timeline."""

    seq: int
    site: str
    timeline: int
    after_seq: int
    missing: bool


def outages(tries: Iterable[Try]) -> list[Outage]:
    """The outages of one uninterrupted observation, oldest first."""
    done = sorted(tries, key=lambda each: each.ended_at)
    good = [each.ended_at for each in done if each.outcome == "acknowledged"]
    failed = sorted(each.begun_at for each in done if each.outcome == "failed")
    if not failed:
        return []
    if not good:
        return [_outage(failed[0], None, done[-1].ended_at)]
    found = [_outage(failed[0], good[0], good[0])] if failed[0] < good[0] else []
    found += [_outage(a, b, b) for a, b in pairwise(good) if bisect_left(failed, a) < bisect_left(failed, b)]
    if failed[-1] >= good[-1]:
        found.append(_outage(good[-1], None, done[-1].ended_at))
    return found


def second_writers(tries: Iterable[Try], missing: Collection[int] = ()) -> list[SecondWriter]:
    """Every acknowledgement that proves a second writer, in the order in which they began."""
    good = [each for each in tries if each.outcome == "acknowledged" and each.timeline is not None]
    before = deque(sorted(good, key=lambda each: each.ended_at))
    newest: dict[str, Try] = {}  # of the highest timeline acknowledged so far: the first of each site
    found: list[SecondWriter] = []
    for each in sorted(good, key=lambda one: one.begun_at):
        while before and before[0].ended_at <= each.begun_at:
            _note(newest, before.popleft())
        other = next((one for one in newest.values() if _excludes(one, each)), None)
        if other is not None:
            lacks = each.seq in missing
            found.append(
                SecondWriter(seq=each.seq, site=each.site, timeline=_line(each), after_seq=other.seq, missing=lacks)
            )
    return found


def loss_seconds(acknowledged: Iterable[Try], missing: Collection[int]) -> float:
    """How far back the missing writes reach: from the newest of them to the newest kept one before the oldest of them,
    by completion, for each stretch of missing ones; the longest. 0 when none is missing."""
    longest, kept, begin = 0.0, None, None
    for each in sorted(acknowledged, key=lambda one: one.ended_at):
        if each.seq not in missing:
            kept, begin = each.ended_at, None
            continue
        begin = begin or kept or each.ended_at
        longest = max(longest, (each.ended_at - begin).total_seconds())
    return round(longest, 3)


def told(sessions: Sequence[Sequence[Try]], present: Collection[int] | None) -> dict[str, Any]:
    """The figures of all observations of a lab. `present`: the numbers at the present primary; None: it did not say,
    and what is missing is then `unproven`."""
    every = [each for session in sessions for each in session]
    good = [each for each in every if each.outcome == "acknowledged"]
    missing = None if present is None else sorted({each.seq for each in good} - set(present))
    writers = second_writers(every, frozenset(missing or ()))
    return {
        "tries": len(every),
        "acknowledged": len(good),
        "failed": len(every) - len(good),
        "not_read_back": sum(each.read_back is False for each in good),
        "sites": dict(Counter(each.site for each in good)),
        "last_acknowledged_at": rfc3339(max(each.ended_at for each in good)) if good else None,
        "outages": [each.model_dump(mode="json") for session in sessions for each in outages(session)],
        "missing": "unproven" if missing is None else missing[:TOLD_MOST],
        "missing_count": "unproven" if missing is None else len(missing),
        "loss_seconds": "unproven" if missing is None else loss_seconds(good, frozenset(missing)),
        "two_writers": [each.model_dump(mode="json") for each in writers[:TOLD_MOST]],
        "two_writers_count": len(writers),
        "observer_gap_seconds": round(max((_gap(session) for session in sessions), default=0.0), 3),
    }


def _outage(begin: Instant, end: Instant | None, until: Instant) -> Outage:
    return Outage(begin=begin, end=end, seconds=round((until - begin).total_seconds(), 3))


def _note(newest: dict[str, Try], one: Try) -> None:
    highest = max((_line(each) for each in newest.values()), default=0)
    if _line(one) > highest:
        newest.clear()
    if _line(one) >= highest:
        newest.setdefault(one.site, one)


def _excludes(one: Try, other: Try) -> bool:
    """Whether `one`, acknowledged before `other` began, leaves no room for it."""
    return _line(one) > _line(other) or (_line(one) == _line(other) and one.site != other.site)


def _line(one: Try) -> int:
    return one.timeline or 0


def _gap(session: Sequence[Try]) -> float:
    begun = sorted(each.begun_at for each in session)
    return max(((b - a).total_seconds() for a, b in pairwise(begun)), default=0.0)
