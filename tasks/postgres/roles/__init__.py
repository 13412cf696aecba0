"""Changing a database's roles: fence, promote, demote, sync, protect, losses. One verb a file."""

from __future__ import annotations

from tasks.kind import Verbs
from tasks.stage import Stage


def verbs(stage: Stage) -> Verbs:
    """The verbs of databases whose roles change."""
    return {}
