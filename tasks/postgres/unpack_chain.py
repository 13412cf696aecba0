"""From a full and an incremental backup to a data directory, without writing the whole twice.

pg_combinebackup reads both and writes a third; here the full is laid down (only what the incremental still needs of it)
and the incremental's changed blocks are applied in place. The rules are those of src/bin/pg_combinebackup/reconstruct.c
for a chain of two: an incremental file says the length the relation was cut to since, and holds changed blocks.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import time
from collections.abc import Callable, Mapping, Sequence
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
from tasks.postgres.pack import Progress
from tasks.postgres.tar_index import Member
from tasks.postgres.unpack import Restored, folders, refuse_unfit
from tasks.store import Store

MAGIC = 0xD3AE1F0D
BLOCK_BYTES = 8192
_PREFIX = "INCREMENTAL."
_IN_MEMORY_BYTES = 256 * 1024
_IN_MEMORY_TOTAL_BYTES = 64 * 1024 * 1024
_DAMAGED = "restore another backup, or this one from the other site's copy"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Overlay:
    """An INCREMENTAL file: whose blocks it changes, and its content, in memory when small."""

    member: Member
    target: str
    memory: bytearray | None


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
    refuse_unfit(into, [*kept_folders, *plain, *needed], host or LocalHost())
    folders(into, kept_folders)
    total = sum(one.size_bytes for one in (*needed, *plain)) + sum(one.member.size_bytes for one in overlays)
    base = sum(one.size_bytes for one in needed)
    fetched = lay(below, into, [_piece(one) for one in needed], threads=threads, progress=_of(progress, 0, total))
    pieces = sorted([*map(_piece, plain), *map(_overlay_piece, overlays)], key=lambda piece: piece.begin)
    fetched += lay(above, into, pieces, threads=threads, progress=_of(progress, base, total))
    with told(into), ThreadPoolExecutor(threads, "combine") as pool:
        changed = dict(zip(overlays, pool.map(lambda one: _apply(into, one), overlays), strict=True))
        _strip_label(into)
        sums = {one.target: size for one, size in changed.items()}
        _write_manifest(into, manifest_of(store, full), sums, pool.map)
    files = [*plain, *needed]
    return Restored(
        seconds=time.monotonic() - begun,
        size_bytes=sum(one.size_bytes for one in files),
        fetched_bytes=fetched,
        files=len(files),
    )


def _is_overlay(member: Member) -> bool:
    return member.kind == "f" and member.name.rpartition("/")[2].startswith(_PREFIX)


def _overlays(source: Source) -> list[Overlay]:
    found: list[Overlay] = []
    room = _IN_MEMORY_TOTAL_BYTES
    for member in source.index.members:
        if _is_overlay(member):
            small = member.size_bytes <= min(_IN_MEMORY_BYTES, room)
            room -= member.size_bytes if small else 0
            folder, _, name = member.name.rpartition("/")
            target = f"{folder}/{name.removeprefix(_PREFIX)}".lstrip("/")
            found.append(Overlay(member=member, target=target, memory=bytearray(member.size_bytes) if small else None))
    return found


def _needed(below: Source, overlays: Sequence[Overlay]) -> list[Member]:
    """The files of the full that the incremental refers to; all others vanish or come whole with it."""
    targets = {one.target for one in overlays}
    needed = [one for one in below.index.members if one.kind == "f" and one.name in targets]
    if missing := targets - {one.name for one in needed}:
        raise Failed(f"the full {below.backup.id} lacks {min(missing)}, which the incremental changes", hint=_DAMAGED)
    return needed


def _piece(member: Member) -> Piece:
    return Piece(member.begin, member.size_bytes, member.name, member.mode)


def _overlay_piece(one: Overlay) -> Piece:
    return Piece(one.member.begin, one.member.size_bytes, one.member.name, one.member.mode, one.memory)


def _of(progress: Progress | None, before: int, total: int) -> Progress | None:
    return (lambda done, _: progress(before + done, total)) if progress else None


def _apply(into: Path, one: Overlay) -> int | None:
    """Apply the changed blocks; gives the file's new size, or None when the file is exactly the full's."""
    if one.memory is not None:
        content = one.memory
        return _patch(into / one.target, one, lambda at, size: memoryview(content)[at : at + size])
    path = into / one.member.name
    handle = os.open(path, os.O_RDONLY)
    try:
        return _patch(into / one.target, one, lambda at, size: memoryview(os.pread(handle, size, at)))
    finally:
        os.close(handle)
        path.unlink()


def _patch(path: Path, one: Overlay, read: Callable[[int, int], memoryview]) -> int | None:
    size = one.member.size_bytes
    if size < 12:
        raise Failed(f"{one.member.name} is too short for an incremental file", hint=_DAMAGED)
    magic, count, cut_blocks = struct.unpack("<III", read(0, 12))
    head = 12 + 4 * count
    head += -head % BLOCK_BYTES if count else 0
    if magic != MAGIC or size != head + count * BLOCK_BYTES:
        raise Failed(f"{one.member.name} is not of an incremental file's form", hint=_DAMAGED)
    blocks = struct.unpack(f"<{count}I", read(12, 4 * count))
    handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    try:
        before = os.fstat(handle).st_size
        after: int = max((cut_blocks, *(block + 1 for block in blocks))) * BLOCK_BYTES
        if not count and before == after:
            return None
        os.ftruncate(handle, min(before - before % BLOCK_BYTES, cut_blocks * BLOCK_BYTES))
        os.ftruncate(handle, after)
        for position, number, length in _runs(blocks):
            _write_all(handle, read(head + position * BLOCK_BYTES, length * BLOCK_BYTES), number * BLOCK_BYTES)
    finally:
        os.close(handle)
    return after


def _runs(blocks: Sequence[int], limit: int = 256) -> list[tuple[int, int, int]]:
    """Adjacent blocks joined: (position in the incremental file, block number, how many), at most `limit` (2 MiB)."""
    runs: list[tuple[int, int, int]] = []
    for position, block in enumerate(blocks):
        if runs and block == runs[-1][1] + runs[-1][2] and runs[-1][2] < limit:
            first, number, length = runs[-1]
            runs[-1] = (first, number, length + 1)
        else:
            runs.append((position, block, 1))
    return runs


def _write_all(handle: int, data: memoryview, at: int) -> None:
    done = 0
    while done < len(data):
        done += os.pwrite(handle, data[done:], at + done)


def _strip_label(into: Path) -> None:
    """Postgres refuses to start on a label that still says it is incremental, as it must."""
    label = into / "backup_label"
    lines = label.read_text().splitlines(keepends=True)
    label.write_text("".join(line for line in lines if not line.startswith("INCREMENTAL FROM ")))


def _write_manifest(into: Path, fulls: bytes, changed: Mapping[str, int | None], spread: Callable[..., Any]) -> None:
    """The incremental's manifest with the combined files in place of its INCREMENTAL ones, sealed by its checksum."""
    path = into / "backup_manifest"
    told_ = json.loads(path.read_bytes())
    below = {one["Path"]: one for one in json.loads(fulls)["Files"] if "Path" in one}
    again = [name for name, size in changed.items() if size is not None]
    sums = dict(zip(again, spread(lambda name: _crc32c(into / name), again), strict=True))
    entries: list[dict[str, Any]] = []
    for entry in told_["Files"]:
        folder, _, name = str(entry.get("Path", "")).rpartition("/")
        target = f"{folder}/{name.removeprefix(_PREFIX)}".lstrip("/")
        if name.startswith(_PREFIX):
            if (size := changed.get(target)) is None:
                entry = below[target]  # noqa: PLW2901 -- the full's file, untouched
            else:
                checksum = struct.pack("<I", sums[target]).hex()
                entry = {**entry, "Path": target, "Size": size, "Checksum": checksum}  # noqa: PLW2901
        elif entry.get("Path") == "backup_label":
            label = (into / "backup_label").read_bytes()
            checksum = struct.pack("<I", crc32c(label)).hex()
            entry = {**entry, "Size": len(label), "Checksum": checksum}  # noqa: PLW2901
        entries.append(entry)
    path.write_bytes(manifest_bytes({**told_, "Files": entries}))


def manifest_bytes(told_: Mapping[str, Any]) -> bytes:
    """A manifest as Postgres writes it: its checksum stands alone on the last line and covers all lines before."""
    parts = [f'{{ "PostgreSQL-Backup-Manifest-Version": {told_["PostgreSQL-Backup-Manifest-Version"]},\n']
    if "System-Identifier" in told_:
        parts.append(f'"System-Identifier": {told_["System-Identifier"]},\n')
    files = ",\n".join(json.dumps(entry) for entry in told_["Files"])
    parts.append(f'"Files": [\n{files}\n],\n"WAL-Ranges": {json.dumps(told_["WAL-Ranges"])},\n')
    body = "".join(parts).encode()
    return body + f'"Manifest-Checksum": "{hashlib.sha256(body).hexdigest()}"}}\n'.encode()


def _crc32c(path: Path) -> int:
    total = 0
    with path.open("rb", buffering=0) as source:
        buffer = bytearray(1024 * 1024)
        while got := source.readinto(buffer):
            total = crc32c(memoryview(buffer)[:got], total)
    return total
