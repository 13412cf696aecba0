"""RTO of a change of roles: the wall from the outage's beginning to the last verification, in segments. Pure.

Separate from measure.py (the partition itself) and from the outcome's document: here is which step belongs to which
segment, and where the wall begins and ends (TRUTH.md). Only steps that the last verification waited for are counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from recovery.drive import History
from recovery.evidence import Record
from recovery.journal import BEGUN, ENDED, FAILED, RUN_BEGUN, history, results
from recovery.measure import Phase, Span, partition
from recovery.plan import Plan
from recovery.step import Mode, Step
from recovery.value import Instant, Value, in_utc

SEGMENTS = ("detect", "declare", "decide", "act", "converge", "verify")
_OF_VERB = {"declare": "declare", "probe": "declare", "approve": "decide", "person": "decide", "converge": "converge"}
BETWEEN = "orchestrate"
"""Within `act`, the time that no step had: the engine's own."""


class Rto(Value):
    """`seconds` is the wall, and the sum of `segments`; None while the service is not verified or the outage's
    beginning is not known. `steps` is what `act` consists of, by the step that was awaited. `why`: what is missing."""

    seconds: float | None
    segments: dict[str, float | None]
    """In the order of SEGMENTS; None is `unproven`, which is not zero."""
    steps: tuple[Phase, ...] = ()
    begin: Instant | None = None
    end: Instant | None = None
    why: str = ""


def rto(plan: Plan, records: Sequence[Record]) -> Rto:
    """The RTO of a run, as far as it went."""
    told = history(records)
    final = verification(plan, told.mode(plan.mode))
    end = _last_end(records, final.id) if final is not None else None
    begin, why = began(plan, records)
    if final is None or end is None:
        return Rto(seconds=None, segments={}, begin=begin, why="the service was not verified at the other site")
    counted = plan.before[final.id] | {final.id}
    start = begin if begin is not None else plan.asked_at
    phases = partition(list(_spans(plan, records, counted, start)), begin=start, end=end, idle=f"act/{BETWEEN}")
    totals = dict.fromkeys(SEGMENTS, 0.0)
    for phase in phases:
        totals[phase.name.partition("/")[0]] += phase.seconds
    segments: dict[str, float | None] = {**totals}
    if begin is None:
        segments["detect"] = None
    elif not _ungraceful(plan, told):
        del segments["detect"]  # nothing had to be found out: the outage is the run's own
    steps = tuple(
        Phase(name=phase.name.partition("/")[2], seconds=phase.seconds)
        for phase in phases
        if phase.name.startswith("act/")
    )
    seconds = None if begin is None else sum(phase.seconds for phase in phases)
    return Rto(seconds=seconds, segments=segments, steps=steps, begin=begin, end=end, why=why)


def verification(plan: Plan, mode: Mode) -> Step | None:
    """The step whose end is the end of RTO: the service verified by its name; without names, verified at its site."""
    done = [step for step in plan.steps if not step.omitted_in(mode)]
    by_name = [step for step in done if step.verb == "validate" and step.arguments.get("through") == "names"]
    at_site = [step for step in done if step.verb == "validate"]
    converged = [step for step in done if step.verb == "converge"]
    return next((steps[-1] for steps in (by_name, converged, at_site) if steps), None)


def began(plan: Plan, records: Sequence[Record]) -> tuple[datetime | None, str]:
    """The instant from which users were not served, and why it is not known. A rehearsal counts from its run's
    beginning; a graceful change from the moment at which the old primary took no more writes, or, where its demotion
    was tried more than once, from the first time it was asked to."""
    if not plan.live:
        return next((record.begin for record in records if record.kind == RUN_BEGUN), plan.asked_at), ""
    if not _ungraceful(plan, history(records)):
        stopped = [record.begin for record in records if record.kind == BEGUN and record.facts.get("verb") == "demote"]
        if not stopped:
            return None, "the old primary was never asked to stop"
        told = [found for step, found in results(records).items() if _verb(plan, step) == "demote"]
        quiet = [str(found["at"]) for found in told if isinstance(found, dict) and found.get("at")]
        once = len(quiet) == len(stopped)
        return min(in_utc(datetime.fromisoformat(each)) for each in quiet) if once else min(stopped), ""
    said = next((record.facts.get("outage_since") for record in records if record.kind == RUN_BEGUN), None)
    if isinstance(said, str):
        return in_utc(datetime.fromisoformat(said)), ""
    declared = [found for step, found in results(records).items() if _verb(plan, step) == "declare"]
    since = [found["failing_since"] for found in declared if isinstance(found, dict) and found.get("failing_since")]
    if since:
        return in_utc(datetime.fromisoformat(str(since[-1]))), ""
    return None, "no probe saw the outage begin: give it with --outage-since"


def _ungraceful(plan: Plan, told: History) -> bool:
    return plan.live and told.mode(plan.mode) is Mode.UNGRACEFUL


def _spans(plan: Plan, records: Sequence[Record], counted: frozenset[str], start: datetime) -> Iterator[Span]:
    asked = max(plan.asked_at, start)
    if start < asked:
        yield Span(name="detect", begin=start, end=asked)
    begun = next((record.begin for record in records if record.kind == RUN_BEGUN), asked)
    if begun > asked:
        yield Span(name="decide", begin=asked, end=begun)
    for record in records:
        step = record.facts.get("step")
        if record.kind in (ENDED, FAILED) and record.end is not None and isinstance(step, str) and step in counted:
            yield Span(name=_name(plan.step(step)), begin=record.begin, end=record.end)


def _name(step: Step) -> str:
    if step.verb == "validate" and step.arguments.get("through") == "names":
        return f"verify/{step.id}"
    return f"{_OF_VERB.get(step.verb, 'act')}/{step.id}"


def _last_end(records: Sequence[Record], step: str) -> datetime | None:
    return max(
        (each.end for each in records if each.kind == ENDED and each.facts.get("step") == step and each.end),
        default=None,
    )


def _verb(plan: Plan, step: str) -> str:
    return next((each.verb for each in plan.steps if each.id == step), "")
