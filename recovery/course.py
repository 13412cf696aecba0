"""The course of a run that changes roles, from its records alone: what `dr act --json` calls its timeline. Pure.

Separate from shown.py, whose steps and events stand apart as people look at them: here they are one list, by the
instant at which each began, under the names that they have there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from recovery.evidence import Record
from recovery.journal import STEP_KEPT, STEP_UNDONE
from recovery.plan import Plan
from recovery.shown import Event, ShownStep, events, steps
from recovery.value import Instant, Value

STEP = "step"
_TOLD = ("run.outcome", "run.ended")
"""What the rest of the document says; a finished run that is reported again is told as it was."""


class Moment(Value):
    """One attempt at a step (`kind` step; `state` held, failed or underway; `seconds` None while it is underway or when
    its engine was killed), or another record by its kind: the beginning, an order, a standstill, a change of roles,
    what a cancelled run gave back. `step` and `verb` are empty where it is no step's; `evidence` is the last record's
    key."""

    at: Instant
    kind: str
    step: str = ""
    verb: str = ""
    state: str = ""
    attempt: int | None = None
    seconds: float | None = None
    fact: str = ""
    who: str = ""
    evidence: str = ""


def course(plan: Plan, records: Sequence[Record]) -> tuple[Moment, ...]:
    """Everything that happened, by the instant at which it began; the end itself is what the document tells."""
    verbs = {step.id: step.verb for step in plan.steps}
    found = [moment for step in steps(plan, records) for moment in _attempts(step)]
    found += [_event(each, verbs) for each in events(records) if each.kind not in _TOLD]
    found += [_given_back(each, verbs) for each in records if each.kind in (STEP_UNDONE, STEP_KEPT)]
    return tuple(sorted(found, key=lambda each: (each.at, each.evidence)))


def _attempts(step: ShownStep) -> Iterator[Moment]:
    for each in step.attempts:
        yield Moment(
            at=each.begun_at,
            kind=STEP,
            step=step.step,
            verb=step.verb,
            state=each.state,
            attempt=each.attempt,
            seconds=each.seconds,
            fact=each.fact,
            evidence=each.evidence[-1],
        )


def _event(each: Event, verbs: dict[str, str]) -> Moment:
    facts, step = each.facts, str(each.facts.get("step") or "")
    stopped = facts.get("stopped")
    fact = str(facts.get("why") or "")
    if isinstance(stopped, dict):
        step, fact = str(stopped.get("step") or ""), str(stopped.get("why") or "")
    who = str(facts.get("who") or each.who)
    return Moment(
        at=each.at, kind=each.kind, step=step, verb=verbs.get(step, ""), fact=fact, who=who, evidence=each.evidence
    )


def _given_back(each: Record, verbs: dict[str, str]) -> Moment:
    step = str(each.facts.get("step") or "")
    fact = str(each.facts.get("kept") or each.facts.get("why") or "")
    return Moment(
        at=each.begin, kind=each.kind, step=step, verb=verbs.get(step, ""), fact=fact, who=each.who, evidence=each.key
    )
