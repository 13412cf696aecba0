"""What a kind of resource must offer to the loop: verbs that look and verbs that act, never both in one function.

Separate so that the loop, Prefect's door and the conformance suite know kinds only by this port.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from pydantic import JsonValue

from recovery.drive import Move, Seen
from recovery.plan import Plan, attempt_name
from recovery.step import Step

Facts = dict[str, JsonValue]


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """What a verb may know of the run it acts in. `results` holds the facts of each step's last recorded end."""

    plan: Plan
    results: Mapping[str, Facts]
    attempts: Mapping[str, int]
    now: Callable[[], datetime]
    say: Callable[[str, float | None], None]
    """Progress for people: a short line, and the share done (0 to 1) where it is known."""

    def name(self, step: Step, attempt: int) -> str:
        """The derived name of what this attempt makes."""
        return attempt_name(step.resource, self.plan.purpose, self.plan.digest, step.id, attempt)


class Verb(Protocol):
    """One move's type. `observe` never acts; `perform` gives facts for the evidence or raises DrError."""

    def observe(self, step: Step, scene: Scene) -> Seen:
        """Whether the step's postcondition holds now."""
        ...

    def perform(self, move: Move, scene: Scene) -> Facts:
        """Make the postcondition hold. Raises Failed to be tried again, any other DrError for good."""
        ...


Verbs = Mapping[str, Verb]
