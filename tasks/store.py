"""The port to object storage: what backups, WAL, marks and the S3 ledger need of a bucket, and no more.

Separate from its S3 adapter so that tests and break glass can put a directory behind it. Keys are text with slashes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol


class AlreadyThere(Exception):
    """A create-only put met an object of that key; `stored` is what is there, when it is known."""

    def __init__(self, key: str) -> None:
        super().__init__(f"{key} exists already")
        self.key = key


class Changed(Exception):
    """A compare-and-put met another version than the expected one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stored:
    """An object's head: size in bytes, entity tag, and the user metadata (lower-case keys, ASCII). `told_at`: the
    server's clock when it answered a `get`, to the second, where it tells one."""

    key: str
    size_bytes: int
    etag: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    told_at: datetime | None = field(default=None, compare=False)


class Store(Protocol):
    """One bucket (or folder). All calls are bounded in time and raise a DrError with a hint when it is unreachable."""

    def put(self, key: str, body: bytes, metadata: Mapping[str, str] | None = None) -> None:
        """Create the object, durably. Raises AlreadyThere when the key exists, whatever its content."""
        ...

    def replace(self, key: str, body: bytes, etag: str | None) -> str:
        """Compare-and-put: `etag` None means create. Gives the new etag. Raises Changed when another was faster."""
        ...

    def get(self, key: str) -> tuple[bytes, Stored] | None:
        """The whole object, or None when it is absent. For small objects."""
        ...

    def head(self, key: str) -> Stored | None:
        """The head, or None when the object is absent."""
        ...

    def list(self, prefix: str, after: str = "") -> Iterator[Stored]:
        """Objects of the prefix in key order, beginning behind the key `after`. Metadata is not filled."""
        ...

    def delete(self, key: str) -> None:
        """Remove the object; absent is fine. In a versioned bucket this writes a delete marker."""
        ...

    def read(self, key: str, begin: int, length: int, into: memoryview) -> None:
        """Fill `into[:length]` with that range of the object. Raises Failed when it is shorter. Thread-safe."""
        ...

    def upload(self, key: str) -> Upload:
        """Begin a multipart upload of a large object."""
        ...


class Upload(Protocol):
    """A large object in the making: parts may be put from several threads; it exists only after `complete`."""

    def part(self, number: int, body: bytes | memoryview) -> None:
        """Put part `number` (from 1). At least 5 MiB but for the last."""
        ...

    def complete(self, metadata: Mapping[str, str] | None = None) -> None:
        """Make the object visible. Raises AlreadyThere when the key exists."""
        ...

    def abort(self) -> None:
        """Forget the parts; harmless when it is complete or aborted already."""
        ...
