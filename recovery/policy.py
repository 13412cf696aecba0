"""Policies: how a resource is backed up, retained and proven. Deciding is in due.py and retention.py."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field

from recovery.objective import Duration
from recovery.value import Value


class Schedule(Value):
    """A cron line in UTC and how late its work may begin before that is a finding."""

    cron: str
    late_after: Duration = timedelta(minutes=30)


class Kept(Value):
    """A kind of backup: when it is taken and for how long it is kept."""

    schedule: Schedule
    keep: Duration


class WalPolicy(Value):
    """Continuous WAL: how long it is kept and how old an unfinished segment may grow."""

    keep: Duration = timedelta(days=7)
    archive_timeout: Duration = timedelta(minutes=1)


class BackupPolicy(Value):
    """The backups of a resource. `window` is the stretch within which any moment can be restored."""

    full: Kept
    incremental: Kept | None = None
    wal: WalPolicy = WalPolicy()
    marks: Schedule
    window: Duration = timedelta(days=7)
    copies: tuple[str, ...] = ()
    """Sites whose buckets hold a copy of everything."""
    encryption: str | None = None
    """A reference to the key (`file:…`, `env:…`), never the key."""
    compression_level: int = 1


class ProofPolicy(Value):
    """The daily proof: when, with which depth of checks, and whether a fault is planted in an extra restore."""

    schedule: Schedule
    deep: Schedule | None = None
    site: str
    """Where the restore is proven: the site that would have to do it."""
    planted_fault: Literal["daily", "never"] = "daily"
    scratch_keep: Duration = timedelta(hours=4)
    """The expiry that a scratch carries: what is older is swept, whoever made it."""


class FencePolicy(Value):
    """How an old primary ends by itself: a leash keeps its server running only while it can confirm, within `lease`,
    that there is no newer primary. `clock_bound`: by how much two machines' measures of that time may differ."""

    lease: Annotated[Duration, Field(gt=timedelta(0), le=timedelta(minutes=10))] = timedelta(seconds=15)
    clock_bound: Annotated[Duration, Field(gt=timedelta(0), le=timedelta(minutes=1))] = timedelta(seconds=2)
