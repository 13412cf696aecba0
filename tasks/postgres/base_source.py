"""A packed base backup as a restore reads it: its object in a store, its checked index, what opens its frames.

Separate because a restore of a full backup and one of a chain open their backups by the same rules.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from recovery.errors import Failed
from recovery.point import Backup
from tasks.postgres import base_index, seal
from tasks.postgres.base_index import BaseIndex
from tasks.store import Store


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """An opened backup: its object in its store, its checked index, what opens its frames."""

    store: Store
    key: str
    backup: Backup
    index: BaseIndex
    sealer: seal.Sealer | None


def open_source(store: Store, backup: Backup, keys: seal.Keys | None) -> Source:
    """Fetch and check the index. Raises BadInput for a missing key, Failed for a damaged or impossible index."""
    where = f"base/{backup.system_id}/{backup.id}"
    key = None if backup.encrypted_with is None else seal.chosen(keys or {}, backup.encrypted_with)
    found = store.get(f"{where}/{base_index.INDEX}")
    if found is None or hashlib.sha256(found[0]).hexdigest() != backup.objects.get(base_index.INDEX):
        raise Failed(
            f"the index of backup {backup.id} is {'absent' if found is None else 'damaged'}",
            hint="restore another backup, or this one from the other site's copy",
        )
    index = base_index.decoded(found[0])
    sealer = seal.sealer(key, index.salt) if key and index.salt else None
    name = base_index.BASE if key is None else base_index.SEALED
    return Source(store=store, key=f"{where}/{name}", backup=backup, index=index, sealer=sealer)
