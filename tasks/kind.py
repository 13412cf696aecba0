"""What a kind of resource must offer to the loop: verbs that look and verbs that act, never both in one function.

Separate so that the loop, Prefect's door and the conformance suite know kinds only by this port.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from importlib import import_module
from typing import Protocol

from pydantic import JsonValue

from recovery.drive import Move, Seen
from recovery.plan import Plan, attempt_name
from recovery.step import Mode, Step

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
    mode: Mode = Mode.GRACEFUL
    """The variant that is being driven: the planned one, until people order the other in mid-run."""
    confirmed: Mapping[str, str] = field(default_factory=dict)
    """Step → who confirmed that its manual part is done."""
    wanted: Callable[[], bool] = lambda: True
    """Asked by a verb that waits: False once people have cancelled the run, or its variant leaves the step out."""

    may_act: Callable[[], None] = lambda: None
    """Asked by a verb before each effect that comes long after its first: raises Refused when the lease is lost."""

    def arguments(self, step: Step) -> dict[str, JsonValue]:
        """The step's arguments in the variant that is being driven."""
        return step.arguments_in(self.mode)

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


class Opened(Mapping[str, Verb]):
    """Verbs that are imported when they are first asked for: each brings modules of its own, and the first effect of a
    run need not wait for those of the last. `places`: verb → `module:attribute`, which makes it on the stage."""

    def __init__(self, places: Mapping[str, str], stage: object) -> None:
        self._places = dict(places)
        self._stage = stage
        self._made: dict[str, Verb] = {}

    def __getitem__(self, name: str) -> Verb:
        """See Mapping."""
        if name not in self._made:
            module, _, attribute = self._places[name].partition(":")
            self._made[name] = getattr(import_module(module), attribute)(stage=self._stage)
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        """See Mapping."""
        return iter(self._places)

    def __len__(self) -> int:
        """See Mapping."""
        return len(self._places)
