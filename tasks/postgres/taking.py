"""The verb of a backup: `take` one, full or incremental, from the member that the plan names.

Its postcondition is the commit marker in the bucket, found by the id that the run recorded; what a killed attempt left
has no marker and is swept later.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, cast

from recovery.catalog import Member
from recovery.drive import Move, Seen, Truth
from recovery.errors import BadInput
from recovery.point import Backup
from recovery.step import Step
from tasks.host import Host
from tasks.kind import Facts, Scene, Verb
from tasks.postgres import basebackup, looking
from tasks.postgres.seal import Key
from tasks.store import Store


@dataclass(frozen=True, kw_only=True, slots=True)
class Take:
    """Take a backup into the bucket of the member's own site; the shipper copies it on."""

    resource: str
    member: Member
    store: Store
    host: Host
    key: Key | None
    level: int
    clock: Callable[[], datetime]

    def observe(self, step: Step, scene: Scene) -> Seen:
        """See Verb.observe."""
        done = scene.results.get(step.id)
        if not done:
            return Seen(truth=Truth.ABSENT, why="no backup of this run yet")
        if self.store.head(f"{done['folder']}/backup.json") is None:
            return Seen(truth=Truth.ABSENT, why=f"{done['id']} has no commit marker")
        return Seen(truth=Truth.HOLDS)

    def perform(self, move: Move, scene: Scene) -> Facts:
        """See Verb.perform."""
        made = basebackup.take(
            self.member,
            self.store,
            host=self.host,
            resource=self.resource,
            kind=cast(Literal["full", "incremental"], move.step.arguments["kind"]),
            parent=self._parent(move.step.arguments.get("parent")),
            clock=self.clock,
            key=self.key,
            level=self.level,
            progress=lambda done, expected: scene.say("stored", done / expected if expected else None),
        )
        return {
            "id": made.id,
            "kind": made.kind,
            "folder": basebackup.folder(made),
            "size_bytes": made.size_bytes,
            "stored_bytes": made.stored_bytes,
        }

    def _parent(self, name: object) -> Backup | None:
        if name is None:
            return None
        for each in looking.backups(self.store):
            if each.id == name:
                return each
        raise BadInput(f"the full backup {name} is not in the bucket", hint="take a full backup: 'dr backup --full'")


def verbs(take: Take) -> dict[str, Verb]:
    """The verbs of backing up, by name."""
    return {"take": take}
