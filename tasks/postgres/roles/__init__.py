"""Changing a database's roles: fence, promote, demote, sync, protect, losses. One verb a file. And their rehearsal."""

from __future__ import annotations

from tasks.kind import Verbs
from tasks.stage import Stage


def verbs(stage: Stage) -> Verbs:
    """The verbs of databases whose roles change."""
    from tasks.postgres.roles.demote import Demote
    from tasks.postgres.roles.fence import Fence
    from tasks.postgres.roles.losses import Losses
    from tasks.postgres.roles.promote import Promote
    from tasks.postgres.roles.protect import Protect
    from tasks.postgres.roles.rehearsing import Discard, Restore
    from tasks.postgres.roles.sync import Sync
    from tasks.postgres.roles.unfence import Unfence

    return {
        "fence": Fence(stage=stage),
        "unfence": Unfence(stage=stage),
        "promote": Promote(stage=stage),
        "demote": Demote(stage=stage),
        "protect": Protect(stage=stage),
        "sync": Sync(stage=stage),
        "losses": Losses(stage=stage),
        "restore": Restore(stage=stage),
        "discard": Discard(stage=stage),
    }
