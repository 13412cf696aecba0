"""The ledger in a bucket, over the store's create-only put.

How long nobody can delete a record is the bucket's own promise: versioning with a default retention of object lock,
which S3 applies to every object that is put. A ledger that set it per object could also be told to set less.
"""

from __future__ import annotations

from collections.abc import Iterator

from tasks.store import Store


class S3Ledger:
    """Implements tasks.ledger.Ledger over any Store. `place` is for people, like s3://bucket/prefix."""

    def __init__(self, store: Store, place: str) -> None:
        self._store = store
        self._place = place

    @property
    def place(self) -> str:
        """See Ledger.place."""
        return self._place

    def put(self, key: str, body: bytes) -> None:
        """See Ledger.put. A put whose answer was lost is the store's to tell from another's."""
        self._store.put(key, body)

    def get(self, key: str) -> bytes | None:
        """See Ledger.get."""
        found = self._store.get(key)
        return None if found is None else found[0]

    def list(self, prefix: str, after: str = "") -> Iterator[str]:
        """See Ledger.list."""
        for stored in self._store.list(prefix, after):
            yield stored.key
