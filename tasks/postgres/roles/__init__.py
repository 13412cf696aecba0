"""Changing a database's roles: fence, promote, demote, sync, protect, losses. One verb a file. And their rehearsal."""

from __future__ import annotations

PLACES = {
    "fence": "tasks.postgres.roles.fence:Fence",
    "unfence": "tasks.postgres.roles.unfence:Unfence",
    "promote": "tasks.postgres.roles.promote:Promote",
    "demote": "tasks.postgres.roles.demote:Demote",
    "protect": "tasks.postgres.roles.protect:Protect",
    "sync": "tasks.postgres.roles.sync:Sync",
    "losses": "tasks.postgres.roles.losses:Losses",
    "restore": "tasks.postgres.roles.rehearsing:Restore",
    "discard": "tasks.postgres.roles.rehearsing:Discard",
}
"""Verb → where it is made."""
