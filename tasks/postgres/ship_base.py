"""Copying a whole backup from one bucket to another: streamed, verified, the commit marker last.

Separate from the shipper because backups are large and rare while WAL is small and constant.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import suppress

from recovery.errors import Failed
from recovery.point import Backup
from tasks.store import AlreadyThere, Store, Stored

MARKER = "backup.json"
PART_BYTES = 16 * 1024 * 1024
SMALL_BYTES = 8 * 1024 * 1024


def unshipped(here: Store, there: Store) -> Iterator[str]:
    """Folders (`base/SYSTEM/ID/`) of complete backups here whose marker is not there, oldest first."""
    mine = {each.key for each in here.list("base/") if each.key.endswith(f"/{MARKER}")}
    theirs = {each.key for each in there.list("base/") if each.key.endswith(f"/{MARKER}")}
    return (key.removesuffix(MARKER) for key in sorted(mine - theirs))


def ship_backup(here: Store, there: Store, folder: str, *, go_on: Callable[[], bool]) -> bool:
    """Copy what is missing there, then the marker; False when `go_on` said stop. Raises Failed for damage here.

    Memory: one part of 16 MiB. What the marker gives a SHA-256 for is verified while it passes.
    """
    found = here.get(folder + MARKER)
    if found is None:
        return True  # retention removed it meanwhile
    backup = Backup.model_validate_json(found[0])
    held = {each.key: each.size_bytes for each in there.list(folder)}
    for entry in list(here.list(folder)):
        if entry.key == folder + MARKER or held.get(entry.key) == entry.size_bytes:
            continue
        if not _ship_object(here, there, entry, backup.objects.get(entry.key.removeprefix(folder)), go_on):
            return False
    if here.head(folder + MARKER) is None:
        return True
    lacking = _lacking(here, there, folder)
    if lacking:
        raise Failed(
            f"{lacking[0]} vanished at the other site while its backup was copied",
            hint="a sweep there took the copy for a leftover; the backup is copied again",
        )
    with suppress(AlreadyThere):  # another copier was faster: the marker is what both write
        there.put(folder + MARKER, found[0], found[1].metadata)
    return True


def _lacking(here: Store, there: Store, folder: str) -> list[str]:
    """What of a backup is not there, or of another size: looked at last, since a marker says that all of it is."""
    held = {each.key: each.size_bytes for each in there.list(folder)}
    mine = [each for each in here.list(folder) if each.key != folder + MARKER]
    return [each.key for each in mine if held.get(each.key) != each.size_bytes]


def _ship_object(here: Store, there: Store, entry: Stored, sha256: str | None, go_on: Callable[[], bool]) -> bool:
    head = here.head(entry.key)
    if head is None:
        raise Failed(
            f"{entry.key} vanished while it was copied", hint="it is tried again; see whether retention removed it"
        )
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(min(PART_BYTES, max(1, entry.size_bytes))))
    if entry.size_bytes <= SMALL_BYTES:
        here.read(entry.key, 0, entry.size_bytes, buffer)
        digest.update(buffer[: entry.size_bytes])
        _verify(entry.key, digest.hexdigest(), sha256)
        _create(there, entry, lambda: there.put(entry.key, bytes(buffer[: entry.size_bytes]), head.metadata))
        return True
    upload = there.upload(entry.key)
    try:
        for number, begin in enumerate(range(0, entry.size_bytes, PART_BYTES), start=1):
            if not go_on():
                upload.abort()
                return False
            length = min(PART_BYTES, entry.size_bytes - begin)
            here.read(entry.key, begin, length, buffer)
            digest.update(buffer[:length])
            upload.part(number, buffer[:length])
        _verify(entry.key, digest.hexdigest(), sha256)
        _create(there, entry, lambda: upload.complete(head.metadata))
    except BaseException:
        upload.abort()
        raise
    return True


def _create(there: Store, entry: Stored, act: Callable[[], None]) -> None:
    try:
        act()
    except AlreadyThere:
        other = there.head(entry.key)
        if other is None or other.size_bytes != entry.size_bytes:
            raise Failed(
                f"{entry.key} has another size at the other site",
                hint="a copy of it was altered there; remove that object (no marker names it) and it is copied again",
            ) from None


def _verify(key: str, actual: str, promised: str | None) -> None:
    if promised is not None and actual != promised:
        raise Failed(
            f"{key} is not what its backup's marker says (SHA-256 differs)",
            hint="this copy is damaged: take a new backup now and see what wrote to the bucket; it is not copied on",
        )
