"""From a full and an incremental backup to a data directory, without writing the whole twice.

pg_combinebackup reads both and writes a third; here the incremental is laid first (its changed blocks in memory where
they fit), and then of the full what the incremental still needs, with the changed blocks put in while it passes.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from awscrt.checksums import crc32c

from recovery.errors import Failed, Refused
from recovery.point import Backup
from tasks.host import Host, LocalHost
from tasks.postgres import seal
from tasks.postgres.base_source import Source, open_source
from tasks.postgres.basebackup import manifest_of
from tasks.postgres.laying import Piece, lay, told
from tasks.postgres.merge import DAMAGED, Merge, Read
from tasks.postgres.pack import Progress
from tasks.postgres.tar_index import Member
from tasks.postgres.unpack import Restored, folders, refuse_unfit
from tasks.store import Store

_PREFIX = "INCREMENTAL."
_IN_MEMORY_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Overlay:
    """An INCREMENTAL file: whose blocks it changes, and its content, in memory as long as there is room."""

    member: Member
    target: str
    memory: bytearray | None

    def reader(self, into: Path) -> Read:
        """How its bytes are had, once it was laid into that folder."""
        if self.memory is not None:
            view = memoryview(self.memory)
            return lambda at, size: view[at : at + size]
        path = into / self.member.name
        return lambda at, size: _pread(path, at, size)


def restore_chain(
    store: Store,
    full: Backup,
    incremental: Backup,
    into: Path,
    *,
    keys: seal.Keys | None = None,
    threads: int = 4,
    host: Host | None = None,
    progress: Progress | None = None,
) -> Restored:
    """Restore `incremental` over its `full` into `into`; the result passes pg_verifybackup.

    Raises as `unpack.restore`, and Refused when the two do not belong together.
    """
    begun = time.monotonic()
    if incremental.kind != "incremental" or incremental.parent != full.id or incremental.system_id != full.system_id:
        raise Refused(f"{incremental.id} is not based on {full.id}", hint=f"its full is {incremental.parent}")
    below, above = open_source(store, full, keys), open_source(store, incremental, keys)
    overlays = _overlays(above)
    plain = [one for one in above.index.members if one.kind == "f" and not _is_overlay(one)]
    needed = _needed(below, overlays)
    kept_folders = [one for one in above.index.members if one.kind == "d"]
    by_disk = [one.member for one in overlays if one.memory is None]
    refuse_unfit(into, [*kept_folders, *plain, *needed, *by_disk], host or LocalHost())
    folders(into, kept_folders)
    pieces = sorted([*map(_piece, plain), *map(_overlay_piece, overlays)], key=lambda piece: piece.begin)
    first = sum(piece.size for piece in pieces)
    total = first + sum(one.size_bytes for one in needed)
    fetched = lay(above, into, pieces, threads=threads, progress=_of(progress, 0, total))
    with told(into):
        merges = _merges(into, overlays, needed)
    merged = [_merged_piece(one, merges[one.name]) for one in needed]
    fetched += lay(below, into, merged, threads=threads, progress=_of(progress, first, total))
    with told(into), ThreadPoolExecutor(threads, "combine") as pool:
        again = [name for name, merge in merges.items() if merge.changed]
        sums = dict(zip(again, pool.map(lambda name: merges[name].finish(into / name), again), strict=True))
        for one in by_disk:
            (into / one.name).unlink()
        _strip_label(into)
        _write_manifest(into, manifest_of(store, full), {name: (merges[name].size_bytes, sums[name]) for name in again})
    return Restored(
        seconds=time.monotonic() - begun,
        size_bytes=sum(one.size_bytes for one in plain) + sum(merge.size_bytes for merge in merges.values()),
        fetched_bytes=fetched,
        files=len(plain) + len(needed),
    )


def _is_overlay(member: Member) -> bool:
    return member.kind == "f" and member.name.rpartition("/")[2].startswith(_PREFIX)


def _overlays(source: Source) -> list[Overlay]:
    """All of them; the small ones have the room in memory, since a file of its own costs the same for each."""
    found: list[Overlay] = []
    room = _IN_MEMORY_BYTES
    for member in sorted(filter(_is_overlay, source.index.members), key=lambda one: one.size_bytes):
        fits = member.size_bytes <= room
        room -= member.size_bytes if fits else 0
        memory = bytearray(member.size_bytes) if fits else None
        found.append(Overlay(member=member, target=_target(member.name), memory=memory))
    return found


def _target(name: str) -> str:
    folder, _, last = name.rpartition("/")
    return f"{folder}/{last.removeprefix(_PREFIX)}".lstrip("/")


def _needed(below: Source, overlays: Sequence[Overlay]) -> list[Member]:
    """The files of the full that the incremental refers to; all others vanish or come whole with it."""
    targets = {one.target for one in overlays}
    needed = [one for one in below.index.members if one.kind == "f" and one.name in targets]
    if missing := targets - {one.name for one in needed}:
        raise Failed(f"the full {below.backup.id} lacks {min(missing)}, which the incremental changes", hint=DAMAGED)
    return needed


def _merges(into: Path, overlays: Sequence[Overlay], needed: Sequence[Member]) -> dict[str, Merge]:
    before = {one.name: one.size_bytes for one in needed}
    return {
        one.target: Merge(
            one.member.name,
            full_bytes=before[one.target],
            overlay_bytes=one.member.size_bytes,
            read=one.reader(into),
        )
        for one in overlays
    }


def _piece(member: Member) -> Piece:
    return Piece(member.begin, member.size_bytes, member.name, member.mode)


def _overlay_piece(one: Overlay) -> Piece:
    return Piece(one.member.begin, one.member.size_bytes, one.member.name, one.member.mode, one.memory)


def _merged_piece(member: Member, merge: Merge) -> Piece:
    passing = merge.put_in if merge.changed else None
    return Piece(member.begin, merge.kept_bytes, member.name, member.mode, passing=passing)


def _of(progress: Progress | None, before: int, total: int) -> Progress | None:
    return (lambda done, _: progress(before + done, total)) if progress else None


def _strip_label(into: Path) -> None:
    """Postgres refuses to start on a label that still says it is incremental, as it must."""
    label = into / "backup_label"
    lines = label.read_text().splitlines(keepends=True)
    label.write_text("".join(line for line in lines if not line.startswith("INCREMENTAL FROM ")))


def _write_manifest(into: Path, fulls: bytes, again: Mapping[str, tuple[int, int]]) -> None:
    """The incremental's manifest with the combined files in place of its INCREMENTAL ones, sealed by its checksum.

    `again` has size and CRC32C of what is not exactly the full's.
    """
    path = into / "backup_manifest"
    told_ = json.loads(path.read_bytes())
    below = {one["Path"]: one for one in json.loads(fulls)["Files"] if "Path" in one}
    label = (into / "backup_label").read_bytes()
    entries: list[dict[str, Any]] = []
    for entry in told_["Files"]:
        name = str(entry.get("Path", ""))
        target = _target(name)
        if name != target:
            made = {**entry, "Path": target, **_sized(*again[target])} if target in again else below[target]
        elif name == "backup_label":
            made = {**entry, **_sized(len(label), crc32c(label))}
        else:
            made = entry
        entries.append(made)
    path.write_bytes(manifest_bytes({**told_, "Files": entries}))


def _sized(size_bytes: int, checksum: int) -> dict[str, Any]:
    return {"Size": size_bytes, "Checksum": struct.pack("<I", checksum).hex()}


def manifest_bytes(told_: Mapping[str, Any]) -> bytes:
    """A manifest as Postgres writes it: its checksum stands alone on the last line and covers all lines before."""
    parts = [f'{{ "PostgreSQL-Backup-Manifest-Version": {told_["PostgreSQL-Backup-Manifest-Version"]},\n']
    if "System-Identifier" in told_:
        parts.append(f'"System-Identifier": {told_["System-Identifier"]},\n')
    files = ",\n".join(json.dumps(entry) for entry in told_["Files"])
    parts.append(f'"Files": [\n{files}\n],\n"WAL-Ranges": {json.dumps(told_["WAL-Ranges"])},\n')
    body = "".join(parts).encode()
    return body + f'"Manifest-Checksum": "{hashlib.sha256(body).hexdigest()}"}}\n'.encode()


def _pread(path: Path, at: int, size: int) -> memoryview:
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        return memoryview(os.pread(handle, size, at))
    finally:
        os.close(handle)
