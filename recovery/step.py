"""A step: one move of a plan, its postcondition by name, and both of its variants.

Separate from the plan because verbs, runbooks and the resolver all speak of steps without knowing a whole plan.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, JsonValue

from recovery.value import Value

OMITTED = "omitted"
"""In a variant: the step is not performed, for this reason."""
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=63)]


class Mode(StrEnum):
    """Graceful waits for both sites and loses nothing; ungraceful assumes that the impaired site is gone."""

    GRACEFUL = "graceful"
    UNGRACEFUL = "ungraceful"


class Step(Value):
    """One move.

    `patience_seconds` bounds one attempt from its beginning; `tries` bounds the attempts. `until` names the step whose
    beginning releases this step's truth: a restored copy has to stay true until it is discarded, no longer.
    `graceful` and `ungraceful` are the arguments that the variant adds to `arguments`.
    """

    id: Name
    verb: Name
    resource: Name
    arguments: dict[str, JsonValue] = {}
    graceful: dict[str, JsonValue] = {}
    ungraceful: dict[str, JsonValue] = {}
    needs: tuple[Name, ...] = ()
    until: Name | None = None
    patience_seconds: Annotated[float, Field(gt=0, le=7 * 86400)] = 600.0
    tries: Annotated[int, Field(ge=1, le=20)] = 3
    always: bool = False
    """Performed also when an earlier step has failed for good: scratch is discarded whatever happened."""
    manual: str = ""
    """What a person does instead, with psql, aws and dig only."""

    def arguments_in(self, mode: Mode) -> dict[str, JsonValue]:
        """The arguments of one variant."""
        return {**self.arguments, **(self.graceful if mode is Mode.GRACEFUL else self.ungraceful)}

    def omitted_in(self, mode: Mode) -> bool:
        """Whether the variant leaves the step out."""
        return OMITTED in (self.graceful if mode is Mode.GRACEFUL else self.ungraceful) or OMITTED in self.arguments
