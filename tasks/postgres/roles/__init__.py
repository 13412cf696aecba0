"""Changing a database's roles: fence, promote, demote, sync, protect, losses. One verb a file. And their rehearsal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasks.kind import Verbs
    from tasks.stage import Stage

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


def verbs(stage: Stage) -> Verbs:
    """The verbs of databases whose roles change, on that stage; each is imported when it is first asked for."""
    from tasks.kind import Opened

    return Opened(PLACES, stage)
