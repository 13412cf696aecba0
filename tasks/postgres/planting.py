"""The verb `plant`: one fault in an extra attempt or in a copy of the backup, for the proof's own test.

It only ever touches what this run made: a copy of the bucket's objects, the fetched WAL, the restored files, the copy
that was promoted. What was planted is on record before any check looks.
"""

from __future__ import annotations

from dataclasses import dataclass

from recovery.drive import Move, Seen, Truth
from recovery.errors import Failed
from recovery.step import Step
from tasks.dir_store import DirStore
from tasks.kind import Facts, Scene
from tasks.postgres import basebackup, scratch
from tasks.postgres.faults import catalogue
from tasks.postgres.faults.fault import Attempt, BackupCopy, OpenCopy, RestoredFiles, Stage, WalCopy
from tasks.postgres.ground import Ground
from tasks.store import Store

_COPY_BYTES_LIMIT = 8 << 30


@dataclass(frozen=True, kw_only=True, slots=True)
class Plant:
    """Plant the fault that the plan names."""

    ground: Ground

    def observe(self, step: Step, scene: Scene) -> Seen:
        """Once planted it stays planted."""
        if scene.results.get(step.id) is not None:
            return Seen(truth=Truth.HOLDS)
        return Seen(truth=Truth.ABSENT, why="the fault is not planted yet")

    def perform(self, move: Move, scene: Scene) -> Facts:
        """See Verb.perform. Raises NotPlantable when the copy has nothing of the sort to break."""
        fault = catalogue.of(str(move.step.arguments["mutate"]))
        planted = fault.plant(self._attempt(fault.stage, scene))
        return {"name": fault.name, "what": planted.what, "expects": list(planted.expects)}

    def _attempt(self, stage: Stage, scene: Scene) -> Attempt:
        found = self.ground.current(scene)
        point = self.ground.point(scene)
        match stage:
            case Stage.BACKUP_COPY:
                chain = self.ground.backups(scene)
                copy = DirStore(self.ground.copy_of(scene))
                for backup in chain:
                    copy_objects(self.ground.store, copy, basebackup.folder(backup))
                return BackupCopy(store=copy, backup=chain[-1])
            case Stage.WAL_COPY:
                return WalCopy(folder=found.spool, names=point.segments, timeline=point.timeline)
            case Stage.FILES:
                config = found.folder / "postgresql.conf"
                moment = point.target.at or scene.plan.asked_at
                return RestoredFiles(data_dir=found.data, config=config, moment=moment)
            case Stage.SQL:
                scratch.promote(found, patience_seconds=60)
                return OpenCopy(dsn=found.dsn())


def copy_objects(source: Store, target: DirStore, folder: str) -> None:
    """Copy a backup's objects. Raises Failed when they are more than a planted fault is worth."""
    found = list(source.list(f"{folder}/"))
    if sum(each.size_bytes for each in found) > _COPY_BYTES_LIMIT:
        raise Failed("the backup is too large to be copied for a planted fault", hint="choose a fault of another stage")
    for each in found:
        body = bytearray(each.size_bytes)
        if each.size_bytes:
            source.read(each.key, 0, each.size_bytes, memoryview(body))
        target.put(each.key, bytes(body))
