"""RTO of a change of roles: the wall from the outage's beginning to the last verification, in segments. Pure.

Separate from measure.py (the partition itself) and from the outcome's document: here is which step belongs to which
segment, and where the wall begins and ends (TRUTH.md). Only steps that the last verification waited for are counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from recovery.drive import History
from recovery.evidence import Record
from recovery.journal import ENDED, FAILED, RUN_BEGUN, history
from recovery.measure import Phase, Span, partition
from recovery.outage import Switched, began, switched
from recovery.plan import Plan
from recovery.step import Mode, Step
from recovery.value import Instant, Value

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
    given_up = switched(records) if plan.live else None
    spans = [*_spans(plan, records, counted, start, given_up), *_finding_out(given_up)]
    phases = partition(spans, begin=start, end=end, idle=f"act/{BETWEEN}")
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


def _ungraceful(plan: Plan, told: History) -> bool:
    return plan.live and told.mode(plan.mode) is Mode.UNGRACEFUL


def _finding_out(given_up: Switched | None) -> Iterator[Span]:
    """In a run that began gracefully: until somebody asked to give the site up, and until that was in force."""
    if given_up is None:
        return
    if given_up.lost_at is not None and given_up.lost_at < given_up.asked_at:
        yield Span(name="detect", begin=given_up.lost_at, end=given_up.asked_at)
    yield Span(name="decide", begin=min(given_up.asked_at, given_up.at), end=given_up.at)


def _spans(
    plan: Plan, records: Sequence[Record], counted: frozenset[str], start: datetime, given_up: Switched | None
) -> Iterator[Span]:
    asked = max(plan.asked_at, start)
    if start < asked:
        yield Span(name="detect", begin=start, end=asked)
    begun = next((record.begin for record in records if record.kind == RUN_BEGUN), asked)
    if begun > asked:
        yield Span(name="decide", begin=asked, end=begun)
    for record in records:
        step = record.facts.get("step")
        if record.kind in (ENDED, FAILED) and record.end is not None and isinstance(step, str) and step in counted:
            ended = record.end
            if given_up is not None and plan.step(step).omitted_in(Mode.UNGRACEFUL):
                ended = max(record.begin, min(ended, given_up.at))  # from then on nobody waited for it
            yield Span(name=_name(plan.step(step)), begin=record.begin, end=ended)


def _name(step: Step) -> str:
    if step.verb == "validate" and step.arguments.get("through") == "names":
        return f"verify/{step.id}"
    return f"{_OF_VERB.get(step.verb, 'act')}/{step.id}"


def _last_end(records: Sequence[Record], step: str) -> datetime | None:
    return max(
        (each.end for each in records if each.kind == ENDED and each.facts.get("step") == step and each.end),
        default=None,
    )
