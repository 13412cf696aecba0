"""Are the objects of a backup in the bucket what its commit marker says? Small ones by SHA-256, large ones by size.

Separate from the checks of a restored copy: it looks before anything is fetched, and a restore never reads all of them.
"""

from __future__ import annotations

import hashlib

from recovery.check import Check, Finding
from recovery.point import Backup
from tasks.postgres import base_index
from tasks.postgres.checks.context import judged
from tasks.store import Store

SMALL_BYTES = 64 * 1024 * 1024
_HINT = "copy this object again from the other site's bucket, or choose another backup"


def backup_objects(store: Store, backup: Backup, name: str = "backup objects") -> Check:
    """Every object is there; index and manifest have their checksums. The frames are checked as they are fetched."""
    where = f"base/{backup.system_id}/{backup.id}"
    facts = []
    if store.head(f"{where}/{base_index.MARKER}") is None:
        facts.append(f"backup {backup.id} has no {base_index.MARKER}: it was never finished, so it is no backup")
    for each, sha256 in sorted(backup.objects.items()):
        head = store.head(f"{where}/{each}")
        if head is None:
            facts.append(f"object {each} of backup {backup.id} is missing")
        elif head.size_bytes <= SMALL_BYTES or each not in (base_index.BASE, base_index.SEALED):
            body = store.get(f"{where}/{each}")
            if body is None or hashlib.sha256(body[0]).hexdigest() != sha256:
                facts.append(f"object {each} of backup {backup.id} is damaged: {head.size_bytes} bytes, wrong SHA-256")
    found = [Finding(check=name, fact=fact, hint=_HINT) for fact in facts]
    return judged(name, found, f"{len(backup.objects)} objects of backup {backup.id} are as its marker says")
