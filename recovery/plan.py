"""A plan: a runbook bound to a catalog and to what was pinned, with a digest. PLAN.md is its law.

The digest covers what will be done, never what was seen: observations and hazards are stored beside the plan.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Annotated, Literal, Self

from pydantic import Field, JsonValue, model_validator

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

    def step(self, step_id: str) -> Step:
        """The step of that id. Raises KeyError when the plan has none."""
        for step in self.steps:
            if step.id == step_id:
                return step
        raise KeyError(step_id)

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
    left = list(steps)
    done: set[str] = set()
    ordered: list[Step] = []
    while left:
        ready = [step for step in left if done.issuperset(step.needs)]
        if not ready:
            raise ValueError(f"steps need each other in a circle: {', '.join(sorted(step.id for step in left))}")
        ordered.extend(ready)
        done.update(step.id for step in ready)
        left = [step for step in left if step.id not in done]
    return ordered
