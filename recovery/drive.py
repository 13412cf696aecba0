"""The heart: what to do next, from a plan, its journal, what is seen, and the time. Pure and level-triggered.

It may be stopped anywhere and asked again. A step names its postcondition, not its history: holds → pass; underway →
wait within its patience; else perform within its tries; beyond → halt with a reason. When an earlier truth lapses, it
is proved again before anything later moves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cached_property
from typing import assert_never

from recovery.plan import Plan
from recovery.step import Mode, Step


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
    since: datetime | None = None
    """Since when it has been so without a break, where the loop knows: bounds the patience with what cannot be seen."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tried:
    """What the journal knows of one step."""

    begun: int = 0
    ended: int = 0
    """How often its postcondition was recorded as reached."""
    failed: int = 0
    is_open: bool = False
    """The last attempt has neither ended nor failed."""
    cut_off: int = 0
    """Attempts in which the engine died: they were open when the run was taken up again."""
    last_begun_at: datetime | None = None
    last_failed_at: datetime | None = None
    last_fact: str = ""
    last_hint: str = ""
    final: bool = False
    """The last failure said that trying again cannot help."""
    skipped: bool = False
    extra_tries: int = 0
    """Tries granted by people with `dr run retry`."""
    confirmed: str = ""
    """Who confirmed with `dr run confirm` that the step's manual part is done."""

    @property
    def tries(self) -> int:
        """The attempts that count. An engine's death is no failure of the step, up to a bound that ends a circle of
        deaths."""
        return self.begun - min(self.cut_off, CUT_OFF_MOST)

    def spent(self, step: Step) -> bool:
        """Whether the step has no try left."""
        return self.final or self.tries >= step.tries + self.extra_tries


@dataclass(frozen=True, kw_only=True)
class History:
    """The journal folded into values: what was tried for each step, and what people ordered."""

    steps: Mapping[str, Tried] = field(default_factory=dict)
    paused: str = ""
    cancelled: str = ""
    ungraceful: bool = False
    """People ordered the ungraceful variant in mid-run."""

    def mode(self, planned: Mode) -> Mode:
        """The variant that is being driven."""
        return Mode.UNGRACEFUL if self.ungraceful else planned

    @cached_property
    def begun(self) -> frozenset[str]:
        """The steps that were begun at all."""
        return frozenset(name for name, tried in self.steps.items() if tried.begun)

    @cached_property
    def skipped(self) -> frozenset[str]:
        """The steps that people skipped."""
        return frozenset(name for name, tried in self.steps.items() if tried.skipped)

    def of(self, step_id: str) -> Tried:
        """What was tried for that step; nothing when the journal has no word of it."""
        return self.steps.get(step_id, Tried())


@dataclass(frozen=True, kw_only=True, slots=True)
class Move:
    """Perform this step now, as this attempt (numbered from 1). `last`: the step has no other try if this one fails."""

    step: Step
    attempt: int
    last: bool = False


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
    """The run stops here; the reason and what a person can do. `unproven` when the world could not be observed; `spent`
    when the step has no try left: acting again changes nothing until somebody orders one."""

    step: str
    why: str
    hint: str
    unproven: bool = False
    spent: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Finish:
    """Every postcondition holds or was released."""


Next = Perform | Wait | Halt | Finish

CUT_OFF_MOST = 50
"""So many deaths of its engine a step survives; each takes somebody who starts the run again."""
BACK_OFF_FIRST = timedelta(seconds=0.5)
BACK_OFF_MOST = timedelta(seconds=30)


def back_off(failures: int) -> timedelta:
    """The pause after that many failures: doubling from half a second to half a minute (a promise, hence no jitter)."""
    return min(BACK_OFF_FIRST * (2 ** max(0, failures - 1)), BACK_OFF_MOST) if failures else timedelta()


def next_moves(
    plan: Plan, history: History, seen: Mapping[str, Seen], now: datetime, *, holding: AbstractSet[str] | None = None
) -> Next:
    """The next decision. `seen` has an entry for each step in `to_observe`; a missing one counts as unknown. `holding`:
    what of it holds, where the caller knows: the steps of a long plan are then not counted at each look."""
    held = settled(plan, history, seen, holding=holding)
    turn = plan.fronts.turn(held)
    halt = _halt_of(plan, history, seen, now, turn)
    moves: list[Move] = []
    waits: list[Wait] = []
    for step in _ready(plan, held, turn, seen, halt, history):
        match _decide(step, history.of(step.id), _seen(seen, step), now):
            case Move() as move:
                moves.append(move)
            case Wait() as wait:
                waits.append(wait)
            case Halt() as end:
                halt = halt or end
            case unreachable:
                assert_never(unreachable)
    if moves:
        return Perform(moves=tuple(moves))
    waits.extend(_underway(plan, history, seen, now, held, halt))
    if waits:
        first = min(waits, key=lambda wait: wait.until)
        return Wait(steps=tuple(wait.steps[0] for wait in waits), until=first.until, why=first.why)
    return halt or Finish()


def settled(
    plan: Plan, history: History, seen: Mapping[str, Seen], *, holding: AbstractSet[str] | None = None
) -> frozenset[str]:
    """The steps that need nothing: they hold, people skipped them, the variant leaves them out, or they were reached
    once and are released now."""
    if holding is None:
        holding = {name for name, each in seen.items() if each.truth is Truth.HOLDS}
    return _needless(plan, history).union(holding)


def to_observe(plan: Plan, history: History) -> tuple[Step, ...]:
    """The steps whose postconditions matter at all: all but the skipped, the left out and the released."""
    needless = _needless(plan, history)
    return tuple(step for step in plan.steps if step.id not in needless)


def in_turn(
    plan: Plan, history: History, seen: Mapping[str, Seen], *, holding: AbstractSet[str] | None = None
) -> tuple[Step, ...]:
    """Of those, the steps that can matter now and are not in `seen` yet: what was reached before and has to stay true,
    and what has its turn. Ask again with what was seen, until none is left: the rest cannot move anything yet."""
    held = settled(plan, history, seen, holding=holding)
    return plan.those((plan.fronts.turn(held) | plan.always | history.begun) - held - seen.keys())


def _needless(plan: Plan, history: History) -> frozenset[str]:
    released = {step.id for step in plan.until if _released(step, history)}
    return plan.omitted[history.mode(plan.mode)].union(history.skipped, released)


def _released(step: Step, history: History) -> bool:
    return step.until is not None and history.of(step.until).begun > 0 and history.of(step.id).ended > 0


def _seen(seen: Mapping[str, Seen], step: Step) -> Seen:
    return seen.get(step.id, Seen(truth=Truth.UNKNOWN, why="it was not observed"))


def _ready(
    plan: Plan,
    held: frozenset[str],
    turn: frozenset[str],
    seen: Mapping[str, Seen],
    halt: Halt | None,
    history: History,
) -> Sequence[Step]:
    """What has its turn; after a halt only the `always` steps, once nothing else before them is underway."""
    if history.paused:
        return ()
    if halt is None:
        return plan.those(turn)
    return [step for step in plan.steps if step.always and step.id not in held and _cleared(plan, step, held, seen)]


def _cleared(plan: Plan, step: Step, held: frozenset[str], seen: Mapping[str, Seen]) -> bool:
    return all(
        need in held or (not plan.step(need).always and _seen(seen, plan.step(need)).truth is not Truth.UNDERWAY)
        for need in plan.before[step.id]
    )


def _underway(
    plan: Plan, history: History, seen: Mapping[str, Seen], now: datetime, held: frozenset[str], halt: Halt | None
) -> list[Wait]:
    """After a halt, what still runs is awaited within its patience before anybody calls the run ended."""
    if halt is None:
        return []
    waits = [
        _decide(step, history.of(step.id), _seen(seen, step), now)
        for step in plan.steps
        if step.id not in held and _seen(seen, step).truth is Truth.UNDERWAY
    ]
    return [wait for wait in waits if isinstance(wait, Wait)]


def _decide(step: Step, tried: Tried, seen: Seen, now: datetime) -> Move | Wait | Halt:
    patience = timedelta(seconds=step.patience_seconds)
    if seen.truth is Truth.UNDERWAY and now < (ends := (tried.last_begun_at or now) + patience):
        return Wait(steps=(step.id,), until=ends, why=seen.why or f"{step.id} is underway")
    if seen.truth is Truth.UNKNOWN:
        if now < (ends := (seen.since or now) + patience):
            return Wait(steps=(step.id,), until=ends, why=seen.why or f"{step.id} could not be observed")
        return _halt(step, tried, seen, unproven=True)
    if tried.spent(step):
        return _halt(step, tried, seen)
    if tried.last_failed_at is not None and now < (ready_at := tried.last_failed_at + back_off(tried.failed)):
        return Wait(steps=(step.id,), until=ready_at, why=f"{step.id} failed and is tried again: {tried.last_fact}")
    return Move(step=step, attempt=tried.begun + 1, last=tried.tries + 1 >= step.tries + tried.extra_tries)


def _halt(step: Step, tried: Tried, seen: Seen, *, unproven: bool = False) -> Halt:
    why = tried.last_fact or seen.why or "its postcondition does not hold"
    spent = "" if tried.final or unproven else f" (after {tried.tries} of {step.tries + tried.extra_tries} tries)"
    hint = tried.last_hint or "look at the step's evidence with 'dr show', mend the cause, then run the command again"
    return Halt(step=step.id, why=f"{why}{spent}", hint=hint, unproven=unproven, spent=not unproven)


def _halt_of(
    plan: Plan, history: History, seen: Mapping[str, Seen], now: datetime, turn: frozenset[str]
) -> Halt | None:
    """The first reason not to go on: an order, or a step in its turn that is beyond its tries or its patience."""
    if history.cancelled:
        return Halt(step=plan.steps[0].id, why=f"cancelled: {history.cancelled}", hint="make a new plan to begin again")
    if history.paused:
        return Halt(step=plan.steps[0].id, why=f"paused: {history.paused}", hint="go on with 'dr run resume'")
    for step in plan.those(turn):
        decision = _decide(step, history.of(step.id), _seen(seen, step), now)
        if isinstance(decision, Halt):
            return decision
    return None
