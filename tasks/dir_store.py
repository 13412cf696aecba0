"""A folder behind the Store port: for break glass without S3, and so that tests know a second implementation.

Objects are plain files under `objects/`, so that a person can read them with any tool; metadata lies beside, under
`metadata/`. Creating is a hard link of a finished, synced file: it exists whole or not at all.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from recovery.errors import BadInput, Failed
from tasks.store import AlreadyThere, Changed, Stored


class DirStore:
    """See tasks.store.Store. Safe between threads and processes of one machine; not over NFS without locks."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._objects, self._metadata, self._making = root / "objects", root / "metadata", root / "making"
        try:
            for folder in (self._objects, self._metadata, self._making):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInput(
                f"the folder {root} can't be used as a store: {error.strerror}",
                hint="name a folder that this user may write",
            ) from None

    @property
    def place(self) -> str:
        """Where it is, for people."""
        return str(self._root)

    def put(self, key: str, body: bytes, metadata: Mapping[str, str] | None = None) -> None:
        """See Store.put."""
        made = self._written(body)
        try:
            self._create(key, made, metadata)
        finally:
            made.unlink(missing_ok=True)

    def replace(self, key: str, body: bytes, etag: str | None) -> str:
        """See Store.replace."""
        made, path = self._written(body), self._path(key)
        try:
            with self._locked():
                now = _etag(path) if path.exists() else None
                if now != etag:
                    raise Changed(key)
                path.parent.mkdir(parents=True, exist_ok=True)
                made.replace(path)
                _sync(path.parent)
                return _etag(path)
        finally:
            made.unlink(missing_ok=True)

    def get(self, key: str) -> tuple[bytes, Stored] | None:
        """See Store.get."""
        head = self.head(key)
        try:
            return None if head is None else (self._path(key).read_bytes(), head)
        except FileNotFoundError:
            return None

    def head(self, key: str) -> Stored | None:
        """See Store.head."""
        path = self._path(key)
        try:
            size, etag = path.stat().st_size, _etag(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        beside = self._metadata / key
        told = json.loads(beside.read_text()) if beside.is_file() else {}
        return Stored(key=key, size_bytes=size, etag=etag, metadata=told)

    def list(self, prefix: str, after: str = "") -> Iterator[Stored]:
        """See Store.list."""
        for key in _keys(self._objects, ""):
            if key.startswith(prefix) and key > after:
                path = self._objects / key
                try:
                    yield Stored(key=key, size_bytes=path.stat().st_size, etag=_etag(path))
                except FileNotFoundError:
                    continue

    def delete(self, key: str) -> None:
        """See Store.delete."""
        path = self._path(key)
        with self._locked():
            path.unlink(missing_ok=True)
            (self._metadata / key).unlink(missing_ok=True)

    def read(self, key: str, begin: int, length: int, into: memoryview) -> None:
        """See Store.read."""
        try:
            with self._path(key).open("rb", buffering=0) as source:
                filled = 0
                while filled < length:
                    got = os.preadv(source.fileno(), [into[filled:length]], begin + filled)
                    if not got:
                        raise self._short(key)
                    filled += got
        except (FileNotFoundError, NotADirectoryError):
            raise self._short(key) from None

    def upload(self, key: str) -> DirUpload:
        """See Store.upload."""
        self._path(key)
        return DirUpload(self, key)

    def uploads(self, prefix: str) -> Iterator[tuple[str, str, datetime]]:
        """Uploads underway or forgotten: key, upload id, begun when."""
        for folder in sorted(self._making.glob("*.upload")):
            told = folder / "key"
            if told.exists() and (key := told.read_text()).startswith(prefix):
                yield key, folder.name, datetime.fromtimestamp(told.stat().st_mtime, UTC)

    def forget_upload(self, key: str, upload_id: str) -> None:
        """Remove an upload's parts; absent is fine."""
        del key
        shutil.rmtree(self._making / Path(upload_id).name, ignore_errors=True)

    def _short(self, key: str) -> Failed:
        return Failed(
            f"{key} is absent or shorter than it was when it was written ({self._root})",
            hint="restore from another backup or another site's copy, and have this one repaired",
        )

    def _path(self, key: str) -> Path:
        if not key or key.startswith("/") or any(part in {"", ".", ".."} for part in key.split("/")):
            raise BadInput(f"{key!r} is no key", hint="keys are names joined by single slashes")
        return self._objects / key

    def _written(self, body: bytes) -> Path:
        made = self._making / f"{uuid.uuid4().hex}.part"
        with _told(self._root), made.open("wb") as sink:
            sink.write(body)
            sink.flush()
            os.fsync(sink.fileno())
        return made

    def _create(self, key: str, made: Path, metadata: Mapping[str, str] | None) -> None:
        path = self._path(key)
        with self._locked(), _told(self._root):
            if path.exists():
                raise AlreadyThere(key)
            beside = self._metadata / key
            if metadata:
                beside.parent.mkdir(parents=True, exist_ok=True)
                beside.write_text(json.dumps({name.lower(): text for name, text in metadata.items()}))
            else:
                beside.unlink(missing_ok=True)
            path.parent.mkdir(parents=True, exist_ok=True)
            os.link(made, path)
            _sync(path.parent)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self._root / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


class DirUpload:
    """See tasks.store.Upload: parts as files, joined at the end."""

    def __init__(self, store: DirStore, key: str) -> None:
        self._store, self._key = store, key
        self._folder = store._making / f"{uuid.uuid4().hex}.upload"  # noqa: SLF001 -- the upload is the store's other half
        self._folder.mkdir()
        (self._folder / "key").write_text(key)
        self._lock = threading.Lock()
        self._numbers: set[int] = set()

    def part(self, number: int, body: bytes | memoryview) -> None:
        """See Upload.part."""
        with _told(self._folder):
            (self._folder / f"{number:06}").write_bytes(body)
        with self._lock:
            self._numbers.add(number)

    def complete(self, metadata: Mapping[str, str] | None = None) -> None:
        """See Upload.complete."""
        whole = self._folder / "whole"
        with _told(self._folder), whole.open("wb") as sink:
            for number in sorted(self._numbers):
                part = self._folder / f"{number:06}"
                with part.open("rb") as source:
                    shutil.copyfileobj(source, sink, 1 << 20)
            sink.flush()
            os.fsync(sink.fileno())
        self._store._create(self._key, whole, metadata)  # noqa: SLF001 -- as above
        self.abort()

    def abort(self) -> None:
        """See Upload.abort."""
        shutil.rmtree(self._folder, ignore_errors=True)


def _keys(folder: Path, before: str) -> Iterator[str]:
    """Keys below the folder in the order of their text, which is not the order of a plain walk ("a-b" < "a/b")."""
    try:
        entries = [(entry.name + ("/" if entry.is_dir() else ""), entry) for entry in os.scandir(folder)]
    except FileNotFoundError:
        return
    for name, entry in sorted(entries, key=lambda pair: pair[0]):
        if entry.is_dir():
            yield from _keys(Path(entry.path), before + name)
        else:
            yield before + name


def _etag(path: Path) -> str:
    seen = path.stat()
    return f"{seen.st_ino:x}-{seen.st_mtime_ns:x}-{seen.st_size:x}"


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _told(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Failed(
            f"the store in {root} can't be written: {error.strerror}", hint="see its disk's space and its permissions"
        ) from None
