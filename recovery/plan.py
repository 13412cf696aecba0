"""A plan: a runbook bound to a catalog and to what was pinned, with a digest. PLAN.md is its law.

The digest covers what will be done, never what was seen: observations and hazards are stored beside the plan.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Annotated, Literal, Self

from pydantic import Field, JsonValue, model_validator

from recovery.front import Fronts
from recovery.step import Mode, Name, Step
from recovery.value import Instant, Value, sha256_of


class NothingToDo(Value):
    """A decision not to act, with its reason."""

    why: str


class Plan(Value):
    """What will be done, and nothing else. Two plans with one digest do the same.

    `pinned` holds all that could drift between planning and acting: the absolute target, the chosen point, timeline,
    limits. `epoch` is the service's epoch when it was made. Raises ValueError for a graph that cannot be run.
    """

    schema_version: Literal[1] = 1
    purpose: Name
    runbook: Name
    runbook_version: str
    service: Name
    epoch: Annotated[int, Field(ge=0)] = 0
    asked_at: Instant
    arguments: dict[str, JsonValue] = {}
    pinned: dict[str, JsonValue] = {}
    mode: Mode = Mode.GRACEFUL
    steps: tuple[Step, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _runnable(self) -> Self:
        ids = [step.id for step in self.steps]
        if len(set(ids)) != len(ids):
            raise ValueError(f"step ids repeat: {', '.join(sorted({i for i in ids if ids.count(i) > 1}))}")
        for step in self.steps:
            unknown = [name for name in (*step.needs, *((step.until,) if step.until else ())) if name not in ids]
            if unknown:
                raise ValueError(f"step {step.id} names unknown steps: {', '.join(unknown)}")
        in_order(self.steps)
        return self

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the canonical form, lower-case hexadecimal."""
        return sha256_of(self)

    @property
    def run(self) -> str:
        """The name of the only run this plan can have."""
        return self.digest

    @property
    def live(self) -> bool:
        """Of a runbook: whether it changes what users live on; a drill and a rehearsal do not."""
        return self.pinned.get("live") is not False

    def step(self, step_id: str) -> Step:
        """The step of that id. Raises KeyError when the plan has none."""
        return self._by_id[step_id]

    def those(self, ids: Iterable[str]) -> tuple[Step, ...]:
        """The steps of these ids, in their written order."""
        return tuple(self._by_id[each] for each in sorted(ids, key=self._place.__getitem__))

    @cached_property
    def _place(self) -> dict[str, int]:
        return {step.id: number for number, step in enumerate(self.steps)}

    @cached_property
    def _by_id(self) -> dict[str, Step]:
        return {step.id: step for step in self.steps}

    @cached_property
    def order(self) -> tuple[Step, ...]:
        """The steps so that each comes after its needs."""
        return tuple(in_order(self.steps))

    @cached_property
    def fronts(self) -> Fronts:
        """Which steps have their turn, given what holds."""
        return Fronts(self.order)

    @cached_property
    def until(self) -> tuple[Step, ...]:
        """The steps whose truth is released when another begins."""
        return tuple(step for step in self.steps if step.until is not None)

    @cached_property
    def always(self) -> frozenset[str]:
        """The ids of the steps that are performed whatever happened before."""
        return frozenset(step.id for step in self.steps if step.always)

    @cached_property
    def omitted(self) -> dict[Mode, frozenset[str]]:
        """For each variant the ids of the steps that it leaves out."""
        return {mode: frozenset(step.id for step in self.steps if step.omitted_in(mode)) for mode in Mode}

    @cached_property
    def before(self) -> dict[str, frozenset[str]]:
        """For each step the ids of all that must hold before it, near and far."""
        found: dict[str, frozenset[str]] = {}
        for step in in_order(self.steps):
            found[step.id] = frozenset(step.needs).union(*(found[need] for need in step.needs))
        return found


def attempt_name(resource: str, purpose: str, digest: str, step: str, attempt: int) -> str:
    """The derived name of what a step makes (PLAN.md): resource-purpose-digest8-step-attempt."""
    return f"{resource}-{purpose}-{digest[:8]}-{step}-{attempt}"


def in_order(steps: Iterable[Step]) -> list[Step]:
    """The steps so that each comes after its needs, otherwise in their written order. Raises ValueError on a cycle."""
    written = list(steps)
    place = {step.id: number for number, step in enumerate(written)}
    lacking = {step.id: len(set(step.needs)) for step in written}
    after: dict[str, list[Step]] = {}
    for step in written:
        for need in set(step.needs):
            after.setdefault(need, []).append(step)
    ready = [step for step in written if not lacking[step.id]]
    ordered: list[Step] = []
    while ready:
        ordered += ready
        fresh: list[Step] = []
        for step in (each for done in ready for each in after.get(done.id, ())):
            lacking[step.id] -= 1
            if not lacking[step.id]:
                fresh.append(step)
        ready = sorted(fresh, key=lambda step: place[step.id])
    if len(ordered) < len(written):
        left = sorted(name for name, count in lacking.items() if count)
        raise ValueError(f"steps need each other in a circle: {', '.join(left)}")
    return ordered
