"""What killed backups leave in a bucket: folders without a commit marker, uploads without an end; and their removal.

Separate because it runs at other times than backups do and must never touch one that is underway.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from tasks.postgres.base_index import BEGUN, MARKER
from tasks.store import Store

_FOLDER = re.compile(r"^base/([^/]+)/((\d{8}T\d{6}Z)[^/]*)/(.+)$")


class Sweepable(Store, Protocol):
    """A store that also knows its unfinished uploads."""

    def uploads(self, prefix: str) -> Iterator[tuple[str, str, datetime]]:
        """Key, upload id, begun when."""
        ...

    def forget_upload(self, key: str, upload_id: str) -> None:
        """Abort it; absent is fine."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Leftover:
    """A folder (`keys`) or an upload (`upload_id` of its one key) that no backup will ever finish."""

    what: str
    since: datetime
    keys: tuple[str, ...]
    upload_id: str | None = None


def leftovers(store: Sweepable, *, now: datetime, older_than: timedelta) -> list[Leftover]:
    """Those begun more than `older_than` before `now`; younger ones may be backups underway."""
    found: list[Leftover] = []
    for name, keys in _folders(store).items():
        stamp = _FOLDER.match(keys[0])
        since = datetime.strptime(stamp.group(3), "%Y%m%dT%H%M%S%z") if stamp else now
        complete = any(key.endswith(f"/{MARKER}") for key in keys)
        if not complete and now - since > older_than:
            found.append(Leftover(what=f"unfinished backup {name}", since=since, keys=tuple(keys)))
    for key, upload_id, begun in store.uploads("base/"):
        since = begun.astimezone(UTC)
        if now - since > older_than:
            found.append(Leftover(what=f"unfinished upload of {key}", since=since, keys=(key,), upload_id=upload_id))
    return found


def sweep_leftovers(store: Sweepable, *, now: datetime, older_than: timedelta) -> list[Leftover]:
    """Remove the leftovers and give what was removed. `begun.json` goes first: a writer that lives after all sees it
    gone and does not commit. A folder that became complete meanwhile is left alone."""
    swept: list[Leftover] = []
    for one in leftovers(store, now=now, older_than=older_than):
        if one.upload_id is not None:
            store.forget_upload(one.keys[0], one.upload_id)
        else:
            where = one.keys[0].rpartition("/")[0]
            store.delete(f"{where}/{BEGUN}")
            if store.head(f"{where}/{MARKER}") is not None:
                continue
            for key in one.keys:
                store.delete(key)
            if store.head(f"{where}/{MARKER}") is not None:
                store.delete(f"{where}/{MARKER}")  # a copier wrote it in between: without its bodies it is none
        swept.append(one)
    return swept


def _folders(store: Store) -> dict[str, list[str]]:
    folders: dict[str, list[str]] = {}
    for stored in store.list("base/"):
        if match := _FOLDER.match(stored.key):
            folders.setdefault(f"{match.group(1)}/{match.group(2)}", []).append(stored.key)
    return folders
