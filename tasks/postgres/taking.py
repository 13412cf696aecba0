"""The verb of a backup: `take` one, full or incremental, from the member that the plan names.

Its postcondition is the complete backup at its keeper, found by the id that the run recorded; what a killed attempt
left is no complete backup and is swept later.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, cast

from recovery.catalog import Member
from recovery.drive import Move, Seen, Truth
from recovery.step import Step
from tasks.kind import Facts, Scene, Verb
from tasks.postgres.engines.port import Engine, Wanted


@dataclass(frozen=True, kw_only=True, slots=True)
class Take:
    """Take a backup by whoever keeps them at the member's own site."""

    resource: str
    member: Member
    engine: Engine
    level: int
    clock: Callable[[], datetime]

    def observe(self, step: Step, scene: Scene) -> Seen:
        """See Verb.observe."""
        done = scene.results.get(step.id)
        if not done:
            return Seen(truth=Truth.ABSENT, why="no backup of this run yet")
        if all(each.id != done["id"] for each in self.engine.backups()):
            return Seen(truth=Truth.ABSENT, why=f"{done['id']} is not among the complete backups")
        return Seen(truth=Truth.HOLDS)

    def perform(self, move: Move, scene: Scene) -> Facts:
        """See Verb.perform."""
        parent = move.step.arguments.get("parent")
        made = self.engine.take(
            Wanted(
                resource=self.resource,
                member=self.member,
                kind=cast(Literal["full", "incremental"], move.step.arguments["kind"]),
                parent=None if parent is None else str(parent),
                level=self.level,
                clock=self.clock,
                progress=lambda done, expected: scene.say("stored", done / expected if expected else None),
            )
        )
        return {
            "id": made.id,
            "kind": made.kind,
            "engine": self.engine.version(),
            "size_bytes": made.size_bytes,
            "stored_bytes": made.stored_bytes,
        }


def verbs(take: Take) -> dict[str, Verb]:
    """The verbs of backing up, by name."""
    return {"take": take}
