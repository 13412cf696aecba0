"""The ledger's port. Adapters: a directory, a bucket, a home with its mirrors; the journal appends to any of them.

The ledger is append-only: there is no replace and no delete.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol


class Ledger(Protocol):
    """Append-only storage of small JSON documents, by key."""

    @property
    def place(self) -> str:
        """Where it is, for people: a path or s3://bucket/prefix. No secrets."""
        ...

    def put(self, key: str, body: bytes) -> None:
        """Write once, durably. Raises tasks.store.AlreadyThere when the key exists."""
        ...

    def get(self, key: str) -> bytes | None:
        """The document, or None."""
        ...

    def list(self, prefix: str, after: str = "") -> Iterator[str]:
        """Keys of the prefix in order, beginning behind `after`."""
        ...
