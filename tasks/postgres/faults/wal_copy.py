"""Faults in fetched WAL: what an archive can do to segments, and what a clone can do to an archive."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from tasks.postgres.checks.walls import HEADER
from tasks.postgres.faults.fault import Attempt, Fault, Planted, Stage, WalCopy, not_plantable


def _copy(attempt: Attempt) -> WalCopy:
    if not isinstance(attempt, WalCopy):
        raise TypeError("this fault is planted in fetched WAL")
    return attempt


def _one(copy: WalCopy) -> Path:
    """A segment that is needed; not the last, whose end no record may reach."""
    if not copy.names:
        raise not_plantable("WAL segment")
    return copy.folder / copy.random.choice(copy.names[:-1] or copy.names)


def _planted(path: Path, what: str, *others: str) -> Planted:
    return Planted(what=f"WAL {path.name} {what}", expects=(path.name, *others))


def _missing(attempt: Attempt) -> Planted:
    path = _one(_copy(attempt))
    path.unlink()
    return _planted(path, "is gone")


def _truncated(attempt: Attempt) -> Planted:
    path = _one(_copy(attempt))
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    return _planted(path, "is cut in half")


def _written_end(content: bytes) -> int:
    """Where the segment's zeros begin: WAL behind a forced switch is empty, and breaking it breaks nothing."""
    return len(content.rstrip(b"\0"))


def _flipped(attempt: Attempt) -> Planted:
    """The last record that begins in the page would hide it: the middle of what was written is always a record."""
    copy = _copy(attempt)
    path = _one(copy)
    content = path.read_bytes()
    place = _written_end(content) // 2
    with path.open("r+b") as file:
        file.seek(place)
        file.write(bytes(byte ^ 0xFF for byte in content[place : place + 64]))
    return _planted(path, f"has 64 bytes flipped at {place}")


def _zeroed(attempt: Attempt) -> Planted:
    copy = _copy(attempt)
    path = _one(copy)
    content = path.read_bytes()
    place = _written_end(content) // 2
    path.write_bytes(content[:place] + bytes(len(content) - place))
    return _planted(path, f"is zeros from byte {place} on, as after a lost write")


def _stale(attempt: Attempt) -> Planted:
    """A recycled file: the new segment's beginning, an older one's end."""
    copy = _copy(attempt)
    if len(copy.names) < 2:
        raise not_plantable("second WAL segment")
    path, other = copy.folder / copy.names[0], copy.folder / copy.names[1]
    content, older = path.read_bytes(), other.read_bytes()
    place = _written_end(content) // 2 // 8192 * 8192
    path.write_bytes(content[:place] + older[place:])
    return _planted(path, f"holds another segment's content from byte {place} on")


def _duplicated(attempt: Attempt) -> Planted:
    copy = _copy(attempt)
    if len(copy.names) < 2:
        raise not_plantable("second WAL segment")
    first, second = copy.random.sample(range(len(copy.names)), 2)
    path = copy.folder / copy.names[first]
    shutil.copyfile(copy.folder / copy.names[second], path)
    return _planted(path, f"holds the content of {copy.names[second]}")


def _swapped(attempt: Attempt) -> Planted:
    copy = _copy(attempt)
    if len(copy.names) < 2:
        raise not_plantable("second WAL segment")
    path, other = copy.folder / copy.names[0], copy.folder / copy.names[-1]
    first, second = path.read_bytes(), other.read_bytes()
    path.write_bytes(second)
    other.write_bytes(first)
    return _planted(path, f"and {other.name} changed places", other.name)


def _header(field: int, change: Callable[[int], int], what: str) -> Callable[[Attempt], Planted]:
    def act(attempt: Attempt) -> Planted:
        path = _one(_copy(attempt))
        with path.open("r+b") as file:
            fields = list(HEADER.unpack(file.read(HEADER.size)))
            fields[field] = change(fields[field])
            file.seek(0)
            file.write(HEADER.pack(*fields))
        return _planted(path, what)

    return act


def _history(attempt: Attempt) -> Planted:
    """What a promoted clone with the source's archive_command leaves behind (hazard 5)."""
    copy = _copy(attempt)
    path = copy.folder / f"{copy.timeline + 1:08X}.history"
    path.write_text(f"{copy.timeline}\t0/1000000\tno recovery target specified\n")
    return _planted(path, "was written by a clone")


FAULTS = tuple(
    Fault(name=name, stage=Stage.WAL_COPY, description=description, act=act)
    for name, description, act in (
        ("wal-missing", "a WAL segment is missing", _missing),
        ("wal-truncated", "a WAL segment is cut short", _truncated),
        ("wal-flipped", "bytes of a WAL segment are flipped", _flipped),
        ("wal-zeroed", "the end of a WAL segment was never written", _zeroed),
        ("wal-stale", "the end of a WAL segment is an older one's", _stale),
        ("wal-duplicated", "a WAL segment holds the content of another one", _duplicated),
        ("wal-reordered", "two WAL segments changed places", _swapped),
        (
            "wal-other-timeline",
            "a WAL segment is of a later timeline",
            _header(2, lambda n: n + 1, "is of another timeline"),
        ),
        (
            "wal-other-system",
            "a WAL segment is another cluster's",
            _header(5, lambda n: n ^ 1, "is of another cluster"),
        ),
        ("wal-foreign-history", "a clone's timeline history lies in the archive", _history),
    )
)
