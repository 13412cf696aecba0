"""The heart: what to do next, from a plan, its journal, what is seen, and the time. Pure and level-triggered.

It may be stopped anywhere and asked again. A step names its postcondition, not its history: holds → pass; underway →
wait within its patience; else perform within its tries; beyond → halt with a reason. When an earlier truth lapses, it is
proved again before anything later moves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import assert_never

from recovery.plan import Plan
from recovery.step import Step


class Truth(StrEnum):
    """What an observation says of a step's postcondition."""

    HOLDS = "holds"
    UNDERWAY = "underway"
    ABSENT = "absent"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """One step's postcondition as observed just now. `why` is for people; unknown is never taken for absent."""

    truth: Truth
    why: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tried:
    """What the journal knows of one step."""

    begun: int = 0
    failed: int = 0
    last_begun_at: datetime | None = None
    last_failed_at: datetime | None = None
    last_fact: str = ""
    last_hint: str = ""
    final: bool = False
    """The last failure said that trying again cannot help."""
    skipped: bool = False
    extra_tries: int = 0
    """Tries granted by people with `dr run retry`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class History:
    """The journal folded into values: what was tried for each step, and what people ordered."""

    steps: Mapping[str, Tried] = field(default_factory=dict)
    paused: str = ""
    cancelled: str = ""

    def of(self, step_id: str) -> Tried:
        """What was tried for that step; nothing when the journal has no word of it."""
        return self.steps.get(step_id, Tried())


@dataclass(frozen=True, kw_only=True, slots=True)
class Move:
    """Perform this step now, as this attempt (numbered from 1)."""

    step: Step
    attempt: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Perform:
    """All moves that are ready: they do not depend on each other and are performed in parallel."""

    moves: tuple[Move, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Wait:
    """Nothing to perform until something awaited changes, at the latest at `until`."""

    steps: tuple[str, ...]
    until: datetime
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Halt:
    """The run stops here; the reason and what a person can do. `unproven` when the world could not be observed."""

    step: str
    why: str
    hint: str
    unproven: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Finish:
    """Every postcondition holds or was released."""


Next = Perform | Wait | Halt | Finish

BACK_OFF_FIRST = timedelta(seconds=0.5)
BACK_OFF_MOST = timedelta(seconds=30)


def back_off(failures: int) -> timedelta:
    """The pause after that many failures: doubling from half a second to half a minute (a promise, hence no jitter)."""
    return min(BACK_OFF_FIRST * (2 ** max(0, failures - 1)), BACK_OFF_MOST) if failures else timedelta()


def next_moves(plan: Plan, history: History, seen: Mapping[str, Seen], now: datetime) -> Next:
    """The next decision. `seen` has an entry for each step in `to_observe`; a missing one counts as unknown."""
    held = settled(plan, history, seen)
    broken = _first_halt(plan, history, seen, now, held)
    halted = broken or _ordered_halt(plan, history)
    moves: list[Move] = []
    waits: list[tuple[str, datetime, str]] = []
    for step in plan.steps:
        if step.id in held or not _ready(plan, step, held, halted, history):
            continue
        match _decide(step, history.of(step.id), seen.get(step.id, Seen(truth=Truth.UNKNOWN, why="not observed")), now):
            case Move() as move:
                moves.append(move)
            case Wait() as wait:
                waits.append((step.id, wait.until, wait.why))
            case Halt():
                pass
            case unreachable:
                assert_never(unreachable)
    if moves:
        return Perform(moves=tuple(moves))
    if waits:
        first = min(waits, key=lambda item: item[1])
        return Wait(steps=tuple(item[0] for item in waits), until=first[1], why=first[2])
    return halted or Finish()


def settled(plan: Plan, history: History, seen: Mapping[str, Seen]) -> frozenset[str]:
    """The steps that need nothing: they hold, people skipped them, or the step that releases them has begun."""
    return frozenset(
        step.id
        for step in plan.steps
        if history.of(step.id).skipped
        or (step.until is not None and history.of(step.until).begun > 0)
        or (step.id in seen and seen[step.id].truth is Truth.HOLDS)
    )


def to_observe(plan: Plan, history: History) -> tuple[Step, ...]:
    """The steps whose postconditions matter now: all but the skipped and the released."""
    unseen = settled(plan, history, {})
    return tuple(step for step in plan.steps if step.id not in unseen)


def _ready(plan: Plan, step: Step, held: frozenset[str], halted: Halt | None, history: History) -> bool:
    if step.always:
        return _may_end(plan, step, held, halted)
    if halted is not None and (halted.step == step.id or not history.of(step.id).begun):
        return False
    return plan.before[step.id] <= held


def _may_end(plan: Plan, step: Step, held: frozenset[str], halted: Halt | None) -> bool:
    """An `always` step runs in its turn, or once the run has halted, after the `always` steps that it needs."""
    needs = plan.before[step.id]
    if needs <= held:
        return True
    if halted is None:
        return False
    return all(need in held for need in needs if plan.step(need).always)


def _decide(step: Step, tried: Tried, seen: Seen, now: datetime) -> Move | Wait | Halt:
    match seen.truth:
        case Truth.UNDERWAY:
            patience_ends = (tried.last_begun_at or now) + timedelta(seconds=step.patience_seconds)
            if now < patience_ends:
                return Wait(steps=(step.id,), until=patience_ends, why=seen.why or f"{step.id} is underway")
        case Truth.UNKNOWN:
            patience_ends = (tried.last_begun_at or now) + timedelta(seconds=step.patience_seconds)
            if now < patience_ends:
                return Wait(steps=(step.id,), until=patience_ends, why=seen.why or f"{step.id} could not be observed")
            return _halt(step, tried, seen, unproven=True)
        case Truth.ABSENT | Truth.HOLDS:
            pass
    if tried.final or tried.begun >= step.tries + tried.extra_tries:
        return _halt(step, tried, seen)
    if tried.last_failed_at is not None and now < (ready_at := tried.last_failed_at + back_off(tried.failed)):
        return Wait(steps=(step.id,), until=ready_at, why=f"{step.id} failed and is tried again: {tried.last_fact}")
    return Move(step=step, attempt=tried.begun + 1)


def _halt(step: Step, tried: Tried, seen: Seen, *, unproven: bool = False) -> Halt:
    why = tried.last_fact or seen.why or f"{step.id} does not hold"
    spent = "" if tried.final or unproven else f" after {tried.begun} of {step.tries + tried.extra_tries} tries"
    hint = tried.last_hint or "look at the step's evidence with 'dr show', mend the cause, then 'dr run retry'"
    return Halt(step=step.id, why=f"{step.id}{spent}: {why}", hint=hint, unproven=unproven)


def _first_halt(
    plan: Plan, history: History, seen: Mapping[str, Seen], now: datetime, held: frozenset[str]
) -> Halt | None:
    for step in plan.steps:
        if step.id in held or not plan.before[step.id] <= held:
            continue
        decision = _decide(step, history.of(step.id), seen.get(step.id, Seen(truth=Truth.UNKNOWN)), now)
        if isinstance(decision, Halt):
            return decision
    return None


def _ordered_halt(plan: Plan, history: History) -> Halt | None:
    first = plan.steps[0].id
    if history.cancelled:
        return Halt(step=first, why=f"cancelled: {history.cancelled}", hint="make a new plan to begin again")
    if history.paused:
        return Halt(step=first, why=f"paused: {history.paused}", hint="continue with 'dr run resume'")
    return None
