"""Our own engine behind the port: the mover, the archive that the agent writes, and nothing added to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from recovery.check import Check
from recovery.errors import BadInput, Failed
from recovery.point import Backup
from recovery.wal import Archive
from tasks.host import Host, LocalHost
from tasks.postgres import basebackup, unpack, unpack_chain, wal
from tasks.postgres.checks import bucket
from tasks.postgres.engines.port import Progress, Restored, Wanted
from tasks.postgres.seal import Key
from tasks.store import Store


def complete(store: Store) -> tuple[Backup, ...]:
    """Every complete backup of a bucket, oldest first; without its commit marker a backup does not exist.

    Raises Failed that names a damaged marker.
    """
    markers = [each.key for each in store.list("base/") if each.key.endswith("/backup.json")]
    with ThreadPoolExecutor(8, "markers") as pool:
        bodies = list(pool.map(store.get, markers))
    found = [_marker(key, body[0]) for key, body in zip(markers, bodies, strict=True) if body is not None]
    return tuple(sorted(found, key=lambda each: (each.ended_at, each.id)))


def _marker(key: str, body: bytes) -> Backup:
    """A commit marker. Raises Failed that names a damaged one: passing over it would hide a lost backup."""
    try:
        return Backup.model_validate_json(body)
    except ValueError:
        raise Failed(
            f"the commit marker {key} does not read as one",
            hint="copy it again from the other site's bucket, or delete it: the backup then no longer exists",
        ) from None


@dataclass(frozen=True, kw_only=True, slots=True)
class Native:
    """A bucket in our own layout, and the keys that open it (the current one first)."""

    store: Store
    keys: Mapping[str, Key] = field(default_factory=dict)
    host: Host = field(default_factory=LocalHost)

    @property
    def name(self) -> str:
        """See Engine.name."""
        return "native"

    def version(self) -> str:
        """See Engine.version."""
        return "native"

    def backups(self) -> tuple[Backup, ...]:
        """See Engine.backups."""
        return complete(self.store)

    def archive(self, system_id: str) -> Archive:
        """See Engine.archive."""
        return wal.list_archive(self.store, system_id, keys=self.keys)

    def take(self, wanted: Wanted) -> Backup:
        """See Engine.take."""
        return basebackup.take(
            wanted.member,
            self.store,
            host=self.host,
            resource=wanted.resource,
            kind=wanted.kind,
            parent=self._parent(wanted.parent),
            clock=wanted.clock,
            key=next(iter(self.keys.values()), None),
            level=wanted.level,
            progress=wanted.progress,
        )

    def _parent(self, name: str | None) -> Backup | None:
        if name is None:
            return None
        for each in self.backups():
            if each.id == name:
                return each
        raise BadInput(f"the full backup {name} is not in the bucket", hint="take a full backup: 'dr backup --full'")

    def fetch_data(self, chain: Sequence[Backup], into: Path, progress: Progress) -> Restored:
        """See Engine.fetch_data."""
        if len(chain) == 1:
            made = unpack.restore(self.store, chain[0], into, keys=self.keys, host=self.host, progress=progress)
        else:
            full, last = chain
            made = unpack_chain.restore_chain(
                self.store, full, last, into, keys=self.keys, host=self.host, progress=progress
            )
        return Restored(seconds=made.seconds, size_bytes=made.size_bytes)

    def fetch_wal(self, system_id: str, names: Sequence[str], into: Path) -> int:
        """See Engine.fetch_wal."""
        return wal.fetch(self.store, system_id, names, into, keys=self.keys, threads=2)

    def stored(self, backup: Backup) -> Check:
        """See Engine.stored."""
        return bucket.backup_objects(self.store, backup)

    def without_manifest(self) -> str | None:
        """See Engine.without_manifest."""
        return None
