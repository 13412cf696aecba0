"""What a planted fault is: where it is planted, what it breaks, and by which finding it counts as detected.

Separate because every stage shares it. A fault is detected only by a finding that names what was planted (TRUTH.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from random import Random

from recovery import planted as planted_words
from recovery.check import Finding
from recovery.errors import Unproven
from recovery.point import SEGMENT_BYTES, Backup
from tasks.store import Store


class Stage(StrEnum):
    """When a fault is planted: in a copy of the backup, in the fetched WAL, in the restored files, in the data."""

    BACKUP_COPY = "backup-copy"
    WAL_COPY = "wal-copy"
    FILES = "files"
    SQL = "sql"


@dataclass(frozen=True, kw_only=True, slots=True)
class BackupCopy:
    """A copy of one backup's objects in a store of its own, under the same keys as the original."""

    store: Store
    backup: Backup
    random: Random = field(default_factory=Random)

    def key(self, name: str) -> str:
        """The key of one of its objects."""
        return f"base/{self.backup.system_id}/{self.backup.id}/{name}"


@dataclass(frozen=True, kw_only=True, slots=True)
class WalCopy:
    """The raw WAL files that were fetched for an attempt. `names` are the segments it needs, in order."""

    folder: Path
    names: tuple[str, ...]
    timeline: int
    segment_bytes: int = SEGMENT_BYTES
    random: Random = field(default_factory=Random)


@dataclass(frozen=True, kw_only=True, slots=True)
class RestoredFiles:
    """A restored data directory, configured and not started. `config` is the file with the recovery target in it."""

    data_dir: Path
    config: Path
    moment: datetime
    random: Random = field(default_factory=Random)


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenCopy:
    """A copy that was promoted at the mark and may be written to. `dsn` is a superuser's."""

    dsn: str
    random: Random = field(default_factory=Random)


Attempt = BackupCopy | WalCopy | RestoredFiles | OpenCopy


@dataclass(frozen=True, kw_only=True, slots=True)
class Planted:
    """`what` was broken, for people; a finding that holds one of `expects` has named it."""

    what: str
    expects: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """One way to break a copy. `act` plants it; it raises NotPlantable where there is nothing of the sort to break."""

    name: str
    stage: Stage
    description: str
    act: Callable[[Attempt], Planted]

    def plant(self, attempt: Attempt) -> Planted:
        """Break it. Raises NotPlantable where the copy has nothing of the sort."""
        return self.act(attempt)

    def detected(self, findings: Iterable[Finding], planted: Planted) -> bool:
        """Whether a failure names what was planted; failing for another reason is not enough."""
        told = planted_words.Planted(name=self.name, what=planted.what, expects=planted.expects)
        return planted_words.judged(told, findings).detected


class NotPlantable(Unproven):
    """The copy holds nothing that this fault could break."""


def not_plantable(what: str) -> NotPlantable:
    """The error for a copy without any `what`."""
    return NotPlantable(f"the copy has no {what}", hint="choose another fault; this one cannot be planted here")
