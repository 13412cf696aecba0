"""Faults in a copy of a backup's objects: what a bucket can do to them between backup and restore."""

from __future__ import annotations

from collections.abc import Callable

from tasks.postgres import base_index
from tasks.postgres.faults.fault import Attempt, BackupCopy, Fault, Planted, Stage, not_plantable
from tasks.store import Store, Upload

PART_BYTES = 8 * 1024 * 1024
Edit = Callable[[bytearray, int], None]
"""Changes a part of an object in place; the number is where the part begins."""


def copied(store: Store, backup: BackupCopy) -> None:
    """Copy the objects of a backup from `store` into the copy's own store, the commit marker last. Bounded memory."""
    names = sorted((*backup.backup.objects, base_index.MARKER), key=lambda name: name == base_index.MARKER)
    for name in names:
        head = store.head(backup.key(name))
        if head is None:
            raise not_plantable(f"object {name} in backup {backup.backup.id}")
        _rewritten(store, backup.store, backup.key(name), head.size_bytes, _same)


def _same(part: bytearray, begin: int) -> None:
    """A plain copy."""


def _rewritten(source: Store, into: Store, key: str, size: int, edit: Edit) -> None:
    """Write `size` bytes of the object again, part by part, each edited. Small objects at once."""
    head = source.head(key)
    metadata = dict(head.metadata) if head else {}
    if size <= PART_BYTES:
        body = bytearray(size)
        source.read(key, 0, size, memoryview(body))
        edit(body, 0)
        into.delete(key)
        into.put(key, bytes(body), metadata)
        return
    fresh: Upload = into.upload(f"{key}.fault" if source is into else key)
    for number, begin in enumerate(range(0, size, PART_BYTES), start=1):
        part = bytearray(min(PART_BYTES, size - begin))
        source.read(key, begin, len(part), memoryview(part))
        edit(part, begin)
        fresh.part(number, bytes(part))
    fresh.complete(metadata)
    if source is into:
        into.delete(key)
        _rewritten_from(into, f"{key}.fault", key, size)


def _rewritten_from(store: Store, source: str, into: str, size: int) -> None:
    """A store has no rename: copy the edited object to its name, and drop the helper."""
    upload = store.upload(into)
    for number, begin in enumerate(range(0, size, PART_BYTES), start=1):
        part = bytearray(min(PART_BYTES, size - begin))
        store.read(source, begin, len(part), memoryview(part))
        upload.part(number, bytes(part))
    upload.complete()
    store.delete(source)


def _copy(attempt: Attempt) -> BackupCopy:
    if not isinstance(attempt, BackupCopy):
        raise TypeError("this fault is planted in a copy of a backup")
    return attempt


def _base(copy: BackupCopy) -> str:
    return base_index.BASE if copy.backup.encrypted_with is None else base_index.SEALED


def _size(copy: BackupCopy, name: str) -> int:
    head = copy.store.head(copy.key(name))
    if head is None:
        raise not_plantable(f"object {name}")
    return head.size_bytes


def _planted(copy: BackupCopy, name: str, what: str) -> Planted:
    return Planted(what=f"{name} of backup {copy.backup.id} {what}", expects=(name, copy.key(name)))


def _cut(name: str | None) -> Callable[[Attempt], Planted]:
    def act(attempt: Attempt) -> Planted:
        copy = _copy(attempt)
        chosen = name or _base(copy)
        keep = _size(copy, chosen) * 2 // 3
        _rewritten(copy.store, copy.store, copy.key(chosen), keep, _same)
        return _planted(copy, chosen, f"is cut to {keep} bytes")

    return act


def _flipped(name: str | None) -> Callable[[Attempt], Planted]:
    def act(attempt: Attempt) -> Planted:
        copy = _copy(attempt)
        chosen = name or _base(copy)
        size = _size(copy, chosen)
        place = copy.random.randrange(size // 4, size * 3 // 4)

        def flip(part: bytearray, begin: int) -> None:
            if begin <= place < begin + len(part):
                part[place - begin] ^= 0x40

        _rewritten(copy.store, copy.store, copy.key(chosen), size, flip)
        return _planted(copy, chosen, f"has one bit flipped at byte {place}")

    return act


def _removed(name: str | None) -> Callable[[Attempt], Planted]:
    def act(attempt: Attempt) -> Planted:
        copy = _copy(attempt)
        chosen = name or _base(copy)
        _size(copy, chosen)
        copy.store.delete(copy.key(chosen))
        return _planted(copy, chosen, "is gone")

    return act


def _frames(attempt: Attempt, *, swap: bool) -> Planted:
    """Two frames exchanged, or one written over the other: both are whole, each in the wrong place."""
    copy = _copy(attempt)
    body = copy.store.get(copy.key(base_index.INDEX))
    index = base_index.decoded(body[0]) if body else None
    if index is None or len(index.frames) < 2:
        raise not_plantable("two frames in its base backup")
    first = 0
    second = copy.random.randrange(1, len(index.frames))
    spans = [(index.stored_begin[number], index.frames[number].stored) for number in (first, second)]
    size = min(span for _, span in spans)
    contents = [bytearray(size), bytearray(size)]
    key, name = copy.key(_base(copy)), _base(copy)
    for (begin, _), content in zip(spans, contents, strict=True):
        copy.store.read(key, begin, size, memoryview(content))

    def edit(part: bytearray, begin: int) -> None:
        _overlay(part, begin, spans[1][0], contents[0])
        if swap:
            _overlay(part, begin, spans[0][0], contents[1])

    _rewritten(copy.store, copy.store, key, _size(copy, name), edit)
    return _planted(
        copy, name, f"has frames {first} and {second} {'exchanged' if swap else 'alike: the second is stale'}"
    )


def _overlay(part: bytearray, begin: int, at: int, content: bytearray) -> None:
    low, high = max(begin, at), min(begin + len(part), at + len(content))
    if low < high:
        part[low - begin : high - begin] = content[low - at : high - at]


def _half_finished(attempt: Attempt) -> Planted:
    copy = _copy(attempt)
    copy.store.delete(copy.key(base_index.MARKER))
    what = f"backup {copy.backup.id} has no commit marker, as if it had been killed"
    return Planted(what=what, expects=(copy.backup.id, base_index.MARKER))


FAULTS = tuple(
    Fault(name=name, stage=Stage.BACKUP_COPY, description=description, act=act)
    for name, description, act in (
        ("base-truncated", "the base backup's object is cut short", _cut(None)),
        ("base-flipped", "one bit of the base backup is flipped", _flipped(None)),
        ("base-missing", "the base backup's object is gone", _removed(None)),
        ("base-swapped", "two frames of the base backup changed places", lambda attempt: _frames(attempt, swap=True)),
        ("base-stale", "a frame of the base backup holds older content", lambda attempt: _frames(attempt, swap=False)),
        ("index-flipped", "one bit of the base backup's index is flipped", _flipped(base_index.INDEX)),
        ("index-missing", "the base backup's index is gone", _removed(base_index.INDEX)),
        ("manifest-flipped", "one bit of the stored manifest is flipped", _flipped(base_index.MANIFEST)),
        ("manifest-missing", "the stored manifest is gone", _removed(base_index.MANIFEST)),
        ("backup-half-finished", "the backup's commit marker was never written", _half_finished),
    )
)
