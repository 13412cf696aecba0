"""What a proof, a restore and a backup need of whatever keeps the backups: the port of an engine, and nothing more.

Separate so that the plan, the loop and the checks are the same whether our own engine, pgBackRest or barman-cloud keeps
them. A tool's answer is taken for what it is: "not found" is a missing file that is named, any other error stops the
restore, and neither ever means "end of WAL" (facts/postgres.md, hazard 9).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol

from recovery.catalog import Member
from recovery.check import Check
from recovery.point import Backup
from recovery.wal import Archive

Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes expected); expected may be 0 where it is not known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """A backup to be taken. `level` is the compression's, where the engine leaves it to us."""

    resource: str
    member: Member
    kind: Literal["full", "incremental"]
    parent: str | None
    level: int
    clock: Callable[[], datetime]
    progress: Progress


@dataclass(frozen=True, kw_only=True, slots=True)
class Restored:
    """What bringing the data took: wall seconds, and bytes of the data directory."""

    seconds: float
    size_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Expired:
    """What an engine's own retention removed (or would), in its words, the ids of backups among it, and notes."""

    backups: tuple[str, ...]
    others: tuple[str, ...]
    notes: tuple[str, ...]


class Engine(Protocol):
    """Whatever keeps one resource's backups at one site. All calls are bounded in time and raise DrError."""

    @property
    def name(self) -> str:
        """The word of the catalog: native, pgbackrest, barman-cloud."""
        ...

    def version(self) -> str:
        """Name and version for evidence."""
        ...

    def backups(self) -> tuple[Backup, ...]:
        """Every complete backup, oldest first, of whatever cluster."""
        ...

    def archive(self, system_id: str) -> Archive:
        """What is kept of a system's WAL."""
        ...

    def take(self, wanted: Wanted) -> Backup:
        """Take one. Raises Failed when no new complete backup is there afterwards."""
        ...

    def fetch_data(self, chain: Sequence[Backup], into: Path, progress: Progress) -> Restored:
        """The data directory as of the last of `chain` into an empty or absent folder."""
        ...

    def fetch_wal(self, system_id: str, names: Sequence[str], into: Path) -> int:
        """Raw WAL files into `into`; gives the bytes. Raises Failed naming the first that is missing or damaged."""
        ...

    def stored(self, backup: Backup) -> Check:
        """The check `backup objects`: what can be said of the backup where it is kept."""
        ...

    def without_manifest(self) -> str | None:
        """Why a restored folder has no backup_manifest; None when it has one."""
        ...


class Expires(Protocol):
    """An engine with a retention of its own: then it is the only one, and ours never touches what it keeps."""

    def expire(self, policy_days: int, *, really: bool) -> Expired:
        """Apply it, or only say what it would remove. `policy_days`: how long the policy keeps a full."""
        ...
