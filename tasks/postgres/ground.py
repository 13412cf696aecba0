"""Where restores of one resource are made: what they come from, the folder they go to, and the attempts in it.

Separate from the verbs because planting a fault and sweeping speak of the same attempts and act on nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from recovery.catalog import Member, PostgresResource
from recovery.choose import Point
from recovery.errors import Failed
from recovery.mark import Mark
from recovery.plan import attempt_name
from recovery.point import Backup
from recovery.policy import ProofPolicy
from tasks.dir_store import DirStore
from tasks.host import Host
from tasks.kind import Scene
from tasks.postgres.engines.native import Native
from tasks.postgres.engines.port import Engine
from tasks.postgres.scratch import Scratch
from tasks.postgres.seal import Keys
from tasks.store import Store


@dataclass(frozen=True, kw_only=True, slots=True)
class Ground:
    """Where restores of one resource are made: the bucket they come from, the folder they go to."""

    resource: PostgresResource
    member: Member
    policy: ProofPolicy
    store: Store
    keys: Keys
    host: Host
    folder: Path
    read_mark: Callable[[str], Mark | None]
    engine: Engine | None = None
    """Whoever keeps the backups; None: we do, in `store`."""
    closing: set[str] = field(default_factory=set, compare=False, repr=False)
    """Attempts whose server a check has stopped to read the pages: looked at to the end, not lost."""

    def scratch_of(self, scene: Scene, attempt: int) -> Scratch:
        """The scratch of one attempt of this run; for a restore that is kept, the folder that was asked for."""
        into = scene.plan.arguments.get("into")
        name = attempt_name(self._name(scene), scene.plan.purpose, scene.plan.digest, "fetch", attempt)
        folder = Path(str(into)) if into else self.folder / name
        user = psycopg.conninfo.conninfo_to_dict(self.member.dsn).get("user") or "postgres"
        return Scratch(folder=folder, bin_dir=Path(self.member.bin_dir), user=str(user))

    def current(self, scene: Scene) -> Scratch:
        """The newest attempt's scratch."""
        return self.scratch_of(scene, max(1, scene.attempts.get("fetch", 1)))

    def all_of(self, scene: Scene) -> tuple[Path, ...]:
        """What exists of this run's attempts."""
        pattern = f"{self._name(scene)}-{scene.plan.purpose}-{scene.plan.digest[:8]}-*"
        return tuple(sorted(self.folder.glob(pattern)))

    def point(self, scene: Scene) -> Point:
        """The point that the plan pinned."""
        return Point.model_validate(scene.plan.pinned["point"])

    def keeper(self) -> Engine:
        """Whoever keeps the backups and the WAL."""
        return self.engine or Native(store=self.store, keys=self.keys, host=self.host)

    def source(self, scene: Scene) -> Engine:
        """Where the backups are read from: their keeper, or this run's broken copy of them."""
        copy = self.copy_of(scene)
        if copy.exists():
            return Native(store=DirStore(copy), keys=self.keys, host=self.host)
        return self.keeper()

    def copy_of(self, scene: Scene) -> Path:
        """Where a copy of the backups lies when a fault is planted in it."""
        name = attempt_name(self._name(scene), scene.plan.purpose, scene.plan.digest, "plant", 1)
        return self.folder / name / "copy"

    def backups(self, scene: Scene) -> tuple[Backup, ...]:
        """The pinned backups, as their commit markers say. Raises Failed when one is no longer there."""
        by_id = {each.id: each for each in self.source(scene).backups()}
        missing = [name for name in self.point(scene).backups if name not in by_id]
        if missing:
            raise Failed(
                f"{', '.join(missing)} is not in the bucket", hint="choose again: 'dr points' shows what is there"
            )
        return tuple(by_id[name] for name in self.point(scene).backups)

    def closed(self, scene: Scene) -> bool:
        """Whether the newest attempt's server is gone because it has been judged, or is being judged to the end."""
        return scene.results.get("check") is not None or self.current(scene).folder.name in self.closing

    def _name(self, scene: Scene) -> str:
        return str(scene.plan.arguments["resource"])
