"""What a check is told about the restored copy that it looks at, and how it answers.

Separate because all families of checks share it, and the flow that restores fills it in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Literal

from recovery.catalog import Assertion
from recovery.check import Check, Finding, Outcome
from recovery.mark import Mark
from recovery.point import SEGMENT_BYTES, Backup
from tasks.postgres.reading import Connection, Deadline, databases, reading


class Level(StrEnum):
    """Daily checks read everything once; deep ones may take many times as long."""

    DAILY = "daily"
    DEEP = "deep"


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """Where the recovery was to end. `lsn`: exactly there; `time`: `at`; `latest`: at least `lsn`, the WAL's end;
    `own-end`: where the backup is consistent, which is `lsn`, its end."""

    kind: Literal["lsn", "time", "latest", "own-end"]
    lsn: int | None = None
    at: datetime | None = None
    inclusive: bool = True
    """Of a moment: whether a commit at exactly `at` belongs to it (recovery_target_inclusive)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Commit:
    """A commit as the WAL holds it; `lsn` is where its record begins, `xid` the 32-bit transaction number."""

    xid: int
    lsn: int
    at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Boundary:
    """The last commit before the target and the first after it, in the order of the WAL; None where there is none."""

    last_before: Commit | None
    first_after: Commit | None
    behind: Commit | None = None
    """A commit behind `first_after` that is dated well before the moment: the source's clock was set back (hazard 12),
    and no recovery to that moment has it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckContext:
    """All facts about one restored copy.

    `dsn` reaches it as a superuser. `timeline` is the one that it was to be recovered on. `wal_dir` holds the raw WAL
    that it recovers from, `wal_end` is the LSN up to which WAL is needed. `network_isolated` is true only if the server
    has no way out. `unlisted` are files that the restore itself wrote or changed: the manifest cannot know them.
    `preload` are the libraries that the source loads at start.
    """

    dsn: str
    backup: Backup
    target: Target
    timeline: int
    data_dir: Path
    bin_dir: Path
    log: Path
    mark: Mark | None = None
    boundary: Boundary | None = None
    assertions: tuple[Assertion, ...] = ()
    level: Level = Level.DAILY
    promoted: bool = False
    network_isolated: bool = False
    heartbeat: bool = True
    wal_dir: Path | None = None
    wal_end: int | None = None
    unlisted: tuple[str, ...] = ()
    preload: tuple[str, ...] = ()
    config: Path | None = None
    """The server's configuration file; None for the one in the data directory."""
    patience_seconds: float = 3600

    @property
    def segment_bytes(self) -> int:
        """The size of a WAL segment."""
        return self.backup.segment_bytes or SEGMENT_BYTES


class Phase(StrEnum):
    """When a check can look: the files before the server has started, the server, the server last, the files again."""

    BEFORE_START = "before start"
    RUNNING = "running"
    LAST = "last"
    STOPPED = "stopped"


@dataclass(frozen=True, kw_only=True, slots=True)
class Probe:
    """A check by name: when it looks, and how. `levels` are those in which it is made."""

    name: str
    phase: Phase
    look: Callable[[CheckContext, str], Check]
    levels: frozenset[Level] = frozenset(Level)


def passed(name: str, fact: str) -> Check:
    """It was looked at, and it is so."""
    return Check(name=name, outcome=Outcome.PASSED, fact=fact)


def failed(name: str, findings: list[Finding] | tuple[Finding, ...], fact: str = "") -> Check:
    """It was looked at, and it is not so: at least one finding."""
    more = f" and {len(findings) - 1} more" if len(findings) > 1 else ""
    return Check(name=name, outcome=Outcome.FAILED, fact=fact or findings[0].fact + more, findings=tuple(findings))


def judged(name: str, findings: list[Finding], fact: str) -> Check:
    """Passed with `fact` when nothing was found, else failed."""
    return failed(name, findings) if findings else passed(name, fact)


def unproven(name: str, fact: str, *, applies: bool = True, findings: tuple[Finding, ...] = ()) -> Check:
    """It could not be looked at; `applies` false where it has no meaning in this proof."""
    return Check(name=name, outcome=Outcome.UNPROVEN, fact=fact, applies=applies, findings=findings)


def not_configured(name: str, fact: str) -> Check:
    """Nobody asked for it."""
    return Check(name=name, outcome=Outcome.NOT_CONFIGURED, fact=fact)


@contextmanager
def session(context: CheckContext, database: str | None = None) -> Iterator[Connection]:
    """A read-only session with the fixed settings and the context's patience as the limit of each statement."""
    with reading(context.dsn, Deadline(context.patience_seconds), database) as connection:
        yield connection


def each_database(context: CheckContext) -> Iterator[tuple[str, Connection]]:
    """(name, session) of every database, one after the other."""
    with session(context) as connection:
        names = databases(connection)
    for name in names:
        with session(context, name) as connection:
            yield name, connection
