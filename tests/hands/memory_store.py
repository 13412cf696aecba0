"""A Store in memory, with the troubles that tests need. Not a test."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping

from recovery.errors import Failed
from tasks.store import AlreadyThere, Stored, Upload


class MemoryStore:
    """A Store in memory. `down` makes every call fail; `puts` counts."""

    def __init__(self) -> None:
        self.objects: dict[str, tuple[bytes, dict[str, str]]] = {}
        self.down = False
        self.slow_seconds = 0.0
        self.lock = threading.Lock()
        self.at_once = self.most_at_once = 0

    def _up(self) -> None:
        if self.down:
            raise Failed("the bucket can't be reached", hint="start it")

    def put(self, key: str, body: bytes, metadata: Mapping[str, str] | None = None) -> None:
        self._up()
        with self.lock:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        time.sleep(self.slow_seconds)
        with self.lock:
            self.at_once -= 1
            if key in self.objects:
                raise AlreadyThere(key)
            self.objects[key] = (bytes(body), dict(metadata or {}))

    def replace(self, key: str, body: bytes, etag: str | None) -> str:
        raise NotImplementedError

    def get(self, key: str) -> tuple[bytes, Stored] | None:
        head = self.head(key)
        return None if head is None else (self.objects[key][0], head)

    def head(self, key: str) -> Stored | None:
        self._up()
        found = self.objects.get(key)
        return None if found is None else Stored(key=key, size_bytes=len(found[0]), metadata=found[1])

    def list(self, prefix: str, after: str = "") -> Iterator[Stored]:
        self._up()
        for key in sorted(self.objects):
            if key.startswith(prefix) and key > after:
                yield Stored(key=key, size_bytes=len(self.objects[key][0]))

    def delete(self, key: str) -> None:
        self.objects.pop(key, None)

    def read(self, key: str, begin: int, length: int, into: memoryview) -> None:
        self._up()
        piece = self.objects[key][0][begin : begin + length]
        if len(piece) < length:
            raise Failed("short", hint="none")
        into[:length] = piece

    def upload(self, key: str) -> Upload:
        self._up()
        return MemoryUpload(self, key)


class MemoryUpload:
    def __init__(self, store: MemoryStore, key: str) -> None:
        self.store, self.key, self.parts = store, key, dict[int, bytes]()

    def part(self, number: int, body: bytes | memoryview) -> None:
        self.parts[number] = bytes(body)

    def complete(self, metadata: Mapping[str, str] | None = None) -> None:
        self.store.put(self.key, b"".join(self.parts[n] for n in sorted(self.parts)), metadata)

    def abort(self) -> None:
        self.parts.clear()
