"""The ledger in a directory: for the lab, and for break glass when no bucket can be reached.

The layout is that of the bucket: a key is a path below the root. A document appears whole or not at all: it is written
beside its place, made durable, and linked there, which the file system refuses when the name is taken.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

from recovery.errors import BadInput, DrError, Failed
from tasks.store import AlreadyThere

_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@+=:-]{0,199}")
_UNFINISHED = "."
"""Names that begin so are documents in the making; no key has such a part."""


class DirectoryLedger:
    """Implements tasks.ledger.Ledger. The root is made with the first document."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def place(self) -> str:
        """See Ledger.place."""
        return str(self._root)

    def put(self, key: str, body: bytes) -> None:
        """See Ledger.put. Costs two fsyncs: of the document and of its folder."""
        path = self._path(key)
        try:
            self._put(path, body)
        except FileExistsError:
            raise AlreadyThere(key) from None
        except OSError as error:
            raise _trouble(error, f"the record {key} could not be written to {self._root}") from error

    def get(self, key: str) -> bytes | None:
        """See Ledger.get."""
        self._refuse_file()
        try:
            return self._path(key).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except OSError as error:
            raise _trouble(error, f"the record {key} could not be read from {self._root}") from error

    def list(self, prefix: str, after: str = "") -> Iterator[str]:
        """See Ledger.list."""
        self._refuse_file()
        folder, _, name = prefix.rpartition("/")
        start = self._path(folder) if folder else self._root
        for key in _walk(start, f"{folder}/" if folder else "", after):
            if key.startswith(f"{folder}/{name}" if folder else name) and key > after:
                yield key

    def _refuse_file(self) -> None:
        """Raises Failed where the root is no folder: it would read as a ledger that is empty, and whole."""
        if self._root.exists() and not self._root.is_dir():
            raise _trouble(NotADirectoryError(errno.ENOTDIR, ""), f"the ledger {self._root} could not be read")

    def _put(self, path: Path, body: bytes) -> None:
        folder = path.parent
        unfinished = folder / f"{_UNFINISHED}{path.name}.{secrets.token_hex(6)}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            handle = os.open(unfinished, flags, 0o640)
        except FileNotFoundError:
            _make(folder)
            handle = os.open(unfinished, flags, 0o640)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            os.link(unfinished, path)
        finally:
            unfinished.unlink()
        _sync(folder)

    def _path(self, key: str) -> Path:
        parts = key.split("/")
        if not all(_PART.fullmatch(part) for part in parts):
            raise BadInput(
                f"{key!r} is not a key of the ledger",
                hint="keys are letters, digits and . _ @ + = : - between single slashes; no part begins with a dot",
            )
        return self._root.joinpath(*parts)


def _walk(folder: Path, prefix: str, after: str) -> Iterator[str]:
    """Keys below `folder` in the order of their text: a folder sorts as its name with the slash that follows."""
    try:
        with os.scandir(folder) as entries:
            found = sorted(
                (entry.name + "/" if entry.is_dir(follow_symlinks=False) else entry.name)
                for entry in entries
                if not entry.name.startswith(_UNFINISHED)
            )
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise _trouble(error, f"the ledger's folder {folder} could not be listed") from error
    for name in found:
        key = prefix + name
        if not name.endswith("/"):
            yield key
        elif key > after or after.startswith(key):
            yield from _walk(folder / name[:-1], key, after)


def _make(folder: Path) -> None:
    """Make the folder and its missing parents, each durable in its own parent."""
    missing = [folder]
    while not missing[-1].parent.exists():
        missing.append(missing[-1].parent)
    for each in reversed(missing):
        each.mkdir(mode=0o750, exist_ok=True)
        _sync(each.parent)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _trouble(error: OSError, fact: str) -> DrError:
    why = os.strerror(error.errno) if error.errno else str(error)
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            hint = "free space there; until then name another ledger, since nothing goes on without evidence"
        case errno.EPERM | errno.EOPNOTSUPP | errno.EMLINK:
            hint = "the ledger needs a file system with hard links (ext4, xfs, btrfs, zfs, apfs)"
        case _:
            hint = "see that the folder exists, is writable for this user and its disk is healthy"
    return Failed(f"{fact}: {why}", hint=hint)
