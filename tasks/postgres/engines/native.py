"""Our own engine behind the port: the mover, the archive that the agent writes, and nothing added to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from recovery.check import Check, Finding, Severity
from recovery.errors import BadInput, Failed
from recovery.point import Backup
from recovery.wal import Archive
from tasks.host import Host, LocalHost
from tasks.postgres import basebackup, unpack, unpack_chain, wal
from tasks.postgres.base_index import HOLD, MARKER
from tasks.postgres.checks import bucket
from tasks.postgres.engines.port import Progress, Restored, Wanted
from tasks.postgres.seal import Key
from tasks.store import Store

MEND = "copy it again from the other site's bucket, or delete it: the backup then no longer exists"


def complete(store: Store) -> tuple[Backup, ...]:
    """Every complete backup of a bucket, oldest first; without its commit marker a backup does not exist.

    Raises Failed that names a damaged marker: for who deletes, since nothing says what a damaged one needs.
    """
    found, damaged = readable(store)
    if damaged:
        raise Failed(damaged[0], hint=MEND)
    return found


def readable(store: Store) -> tuple[tuple[Backup, ...], tuple[str, ...]]:
    """The complete backups whose markers read, oldest first, and a fact for each marker that does not: for who restores
    or looks. One lost backup is a finding, and no reason not to use the others."""
    keys = [each.key for each in store.list("base/")]
    markers = [each for each in keys if each.endswith(f"/{MARKER}")]
    held = {each.removesuffix(f"/{HOLD}") for each in keys if each.endswith(f"/{HOLD}")}
    with ThreadPoolExecutor(8, "markers") as pool:
        bodies = list(pool.map(store.get, markers))
    read = [_marker(key, body[0]) for key, body in zip(markers, bodies, strict=True) if body is not None]
    found = [
        each.but(hold=True) if basebackup.folder(each) in held else each for each in read if isinstance(each, Backup)
    ]
    damaged = tuple(each for each in read if isinstance(each, str))
    return tuple(sorted(found, key=lambda each: (each.ended_at, each.id))), damaged


def _marker(key: str, body: bytes) -> Backup | str:
    """A commit marker, or the fact that it is damaged, or not where it belongs."""
    try:
        found = Backup.model_validate_json(body)
    except ValueError:
        return f"the commit marker {key} does not read as one, so its backup cannot be used"
    if key != f"{basebackup.folder(found)}/{MARKER}":
        return f"the commit marker {key} is that of {basebackup.folder(found)}: somebody copied it there"
    return found


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
        return readable(self.store)[0]

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
        check = bucket.backup_objects(self.store, backup)
        warnings = (
            Finding(check=check.name, severity=Severity.WARNING, fact=fact, hint=MEND)
            for fact in readable(self.store)[1]
        )
        return check.but(findings=(*check.findings, *warnings))

    def without_manifest(self) -> str | None:
        """See Engine.without_manifest."""
        return None
