"""From a packed base backup to a data directory: what may be written where, and a full backup put there.

Separate from the laying of its bytes (laying.py), which is where the time goes: here a restore is refused before
anything is written, when its target isn't empty, has no space, or its names would leave it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from recovery.errors import BadInput, Failed
from recovery.point import Backup
from tasks.host import Host, LocalHost
from tasks.postgres import seal
from tasks.postgres.base_source import open_source
from tasks.postgres.laying import Piece, lay, told
from tasks.postgres.pack import Progress
from tasks.postgres.tar_index import Member
from tasks.store import Store

_SPARE_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Restored:
    """What a restore did: wall seconds, bytes written into files, bytes read from the store, number of files."""

    seconds: float
    size_bytes: int
    fetched_bytes: int
    files: int


def restore(
    store: Store,
    backup: Backup,
    into: Path,
    *,
    keys: seal.Keys | None = None,
    threads: int = 4,
    host: Host | None = None,
    progress: Progress | None = None,
) -> Restored:
    """Restore a full backup into `into` (made when missing, refused when not empty).

    Raises BadInput before anything is written, Failed for damage, a lost store or a full disk; then `into` is useless.
    """
    if backup.kind != "full":
        raise BadInput(f"{backup.id} is incremental", hint=f"restore it together with its full, {backup.parent}")
    begun = time.monotonic()
    source = open_source(store, backup, keys)
    refuse_unfit(into, source.index.members, host or LocalHost())
    folders(into, source.index.members)
    pieces = [Piece(one.begin, one.size_bytes, one.name, one.mode) for one in source.index.members if one.kind == "f"]
    fetched = lay(source, into, pieces, threads=threads, progress=progress)
    return Restored(
        seconds=time.monotonic() - begun,
        size_bytes=sum(piece.size for piece in pieces),
        fetched_bytes=fetched,
        files=len(pieces),
    )


def refuse_unfit(into: Path, members: Sequence[Member], host: Host) -> None:
    """Raise, before anything is written: target not empty, not enough space, or names that would leave the target."""
    if into.is_symlink() or (into.exists() and (not into.is_dir() or any(into.iterdir()))):
        raise BadInput(f"{into} is not an empty folder", hint="name a folder that is absent or empty")
    seen: set[str] = set()
    for member in members:
        path = PurePosixPath(member.name)
        unsafe = member.kind == "l" or path.is_absolute() or ".." in path.parts or "\0" in member.name
        if unsafe or (member.name in seen and member.kind == "f"):
            raise Failed(
                f"the backup holds {member.name!r}, which would leave the target or be written twice",
                hint="do not trust this backup; see who can write into its bucket, and restore another",
            )
        seen.add(member.name)
    need = sum(member.size_bytes for member in members) + _SPARE_BYTES
    free = host.free_bytes(into)
    if free < need:
        raise BadInput(
            f"{into} has {free / 1e9:.2f} GB free, the restore needs {need / 1e9:.2f} GB",
            hint="free space there, or restore to another disk",
        )


def folders(into: Path, members: Iterable[Member]) -> None:
    """Make the target and its folders, private as Postgres demands."""
    with told(into):
        into.mkdir(parents=True, exist_ok=True)
        into.chmod(0o700)
        for member in members:
            if member.kind == "d":
                (into / member.name).mkdir(mode=member.mode or 0o700, parents=True, exist_ok=True)
