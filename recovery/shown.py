"""A run's steps as people look at them: every attempt with its state, seconds, fact and the key of its evidence. Pure.

Separate from the journal's fold, which keeps only what the resolver needs to go on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import JsonValue

from recovery.evidence import Record
from recovery.plan import Plan
from recovery.value import Instant, Value

StepState = Literal["held", "failed", "underway", "skipped", "not begun"]


class Attempt(Value):
    """One attempt at a step. `seconds` is None while it is underway, or for ever when its engine was killed."""

    attempt: int
    state: Literal["held", "failed", "underway"]
    begun_at: Instant
    ended_at: Instant | None = None
    seconds: float | None = None
    fact: str = ""
    hint: str = ""
    result: JsonValue = None
    evidence: tuple[str, ...]


class ShownStep(Value):
    """A step and its attempts, in the plan's order."""

    step: str
    verb: str
    state: StepState
    attempts: tuple[Attempt, ...] = ()


class Event(Value):
    """A record that is no step's: an order, a refusal, what the run said, its beginning and its end."""

    kind: str
    at: Instant
    who: str
    rule: str
    facts: dict[str, JsonValue]
    evidence: str


def steps(plan: Plan | None, records: Sequence[Record]) -> tuple[ShownStep, ...]:
    """The steps of the plan, or without one those that the records name, each with its attempts."""
    seen: dict[str, str] = {step.id: step.verb for step in plan.steps} if plan is not None else {}
    mine: dict[str, list[Record]] = {}
    for record in records:
        step = record.facts.get("step")
        if isinstance(step, str):
            seen.setdefault(step, str(record.facts.get("verb") or ""))
            mine.setdefault(step, []).append(record)
    return tuple(_step(step, verb, mine.get(step, [])) for step, verb in seen.items())


def events(records: Sequence[Record]) -> tuple[Event, ...]:
    """All records that are not of a step's attempts."""
    return tuple(
        Event(kind=each.kind, at=each.begin, who=each.who, rule=each.rule, facts=each.facts, evidence=each.key)
        for each in records
        if not each.kind.startswith("step.")
    )


def _step(step: str, verb: str, records: Sequence[Record]) -> ShownStep:
    attempts: dict[int, Attempt] = {}
    skipped = False
    for record in records:
        skipped = skipped or record.kind == "order.skipped"
        number = record.facts.get("attempt")
        if record.kind.startswith("step.") and isinstance(number, int):
            attempts[number] = _attempt(number, record, attempts.get(number))
    found = tuple(attempts[number] for number in sorted(attempts))
    state: StepState = "skipped" if skipped else found[-1].state if found else "not begun"
    return ShownStep(step=step, verb=verb, state=state, attempts=found)


def _attempt(number: int, record: Record, before: Attempt | None) -> Attempt:
    keys = (*(before.evidence if before is not None else ()), record.key)
    if record.kind == "step.begun":
        return Attempt(attempt=number, state="underway", begun_at=record.begin, evidence=keys)
    ended = record.end or record.begin
    return Attempt(
        attempt=number,
        state="held" if record.kind == "step.ended" else "failed",
        begun_at=record.begin,
        ended_at=ended,
        seconds=(ended - record.begin).total_seconds(),
        fact=str(record.facts.get("fact") or ""),
        hint=str(record.facts.get("hint") or ""),
        result=record.facts.get("result"),
        evidence=keys,
    )
