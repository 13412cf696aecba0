"""What a failover gave up: the transactions that the old primary committed beyond the point of promotion. Pure.

Separate from reading WAL and rows (hands): from commits and changes as values to the list, each with its class. Nothing
is left out: what only the system itself wrote is listed too, in a class of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, JsonValue

from recovery.step import Name
from recovery.value import Instant, Value

Op = Literal["insert", "update", "delete", "truncate"]
Class = Literal["rows", "schema", "other", "heartbeat", "maintenance"]
USERS: tuple[Class, ...] = ("rows", "schema", "other")
"""The classes that count as lost: what users did, or what nobody can tell."""
WAL = "WAL"
"""The key of what is `unread` because the WAL itself is broken."""
HEARTBEAT_SCHEMA = "standfast"
STATISTICS = frozenset({"pg_statistic", "pg_statistic_ext", "pg_statistic_ext_data"})
TOUCHED_BY_STATISTICS = STATISTICS | {"pg_class", "pg_index", "pg_database"}
_RELABELLED = {"pg_toast"}


class Relation(Value):
    """A relation by its name, where the old data still tells it; else by its file."""

    database: str
    schema_name: str
    name: str

    @property
    def text(self) -> str:
        """`database.schema.name`."""
        return f"{self.database}.{self.schema_name}.{self.name}"


class Commit(Value):
    """A commit record: where it begins, when it was, and the subtransactions that it includes."""

    xid: int
    lsn: int
    at: Instant
    subxids: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """One change of rows in a WAL record. `file` is database/filenode; `rows` as many as it wrote (a truncate: 0)."""

    xid: int
    file: str
    op: Op
    block: int
    rows: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Running:
    """A record that tells which transactions ran when it was written."""

    xids: tuple[int, ...]


class Row(Value):
    """A row as the old data still has it. Numbers that are not whole are text, exactly as Postgres writes them."""

    relation: str
    xid: int
    row: dict[str, JsonValue]


class Lost(Value):
    """One transaction. `changes`: relation → how many rows were inserted, updated, deleted."""

    xid: int
    lsn: int
    at: Instant
    klass: Class
    changes: dict[str, dict[str, int]] = {}
    rows: tuple[Row, ...] = ()


class Losses(Value):
    """The whole list of one database, as it is exported. `from_lsn` is where the new timeline began, `to_lsn` where the
    old data's WAL ends. `unread`: why rows are missing from it, by relation. Equal data give equal bytes."""

    schema_version: Literal[1] = 1
    resource: Name
    site: Name
    system_id: str
    timeline: Annotated[int, Field(ge=1)]
    from_lsn: int
    to_lsn: int
    transactions: tuple[Lost, ...] = ()
    unread: dict[str, str] = {}

    @property
    def count(self) -> int:
        """How many transactions of users were lost."""
        return sum(1 for each in self.transactions if each.klass in USERS)

    def by_class(self) -> dict[str, int]:
        """How many of each class, all of them."""
        found: dict[str, int] = {}
        for each in self.transactions:
            found[each.klass] = found.get(each.klass, 0) + 1
        return found


def furthest(lists: Iterable[Losses]) -> tuple[Losses, ...]:
    """Of the lists of one server's old data the one that reaches furthest: it holds what the others do."""
    found: dict[tuple[str, str, int], Losses] = {}
    for each in lists:
        name = (each.resource, each.site, each.timeline)
        if name not in found or found[name].to_lsn < each.to_lsn:
            found[name] = each
    return tuple(found.values())


def counted(lists: Iterable[Losses], databases: Collection[str]) -> int | None:
    """How many transactions of users these lists say were lost; None where they don't tell of every database, or where
    WAL could not be read to its end."""
    known = furthest(lists)
    if set(databases) - {each.resource for each in known} or any(WAL in each.unread for each in known):
        return None
    return sum(each.count for each in known)


class Seen:
    """Folds the WAL of the old primary, record by record, in bounded memory: per transaction and relation a counter."""

    def __init__(self, from_lsn: int) -> None:
        self._from_lsn = from_lsn
        self._counts: dict[int, dict[str, dict[str, int]]] = {}
        self._blocks: dict[str, set[int]] = {}
        self._old: set[int] | None = None
        self.commits: list[Commit] = []

    def take(self, record: Commit | Change | Running) -> None:
        """The next record. Changes may lie before the promotion: only where the commit lies decides."""
        if isinstance(record, Running):
            if self._old is None:
                self._old = {*record.xids, *(commit.xid for commit in self.commits)}
        elif isinstance(record, Change):
            counts = self._counts.setdefault(record.xid, {}).setdefault(record.file, {})
            counts[record.op] = counts.get(record.op, 0) + record.rows
            self._blocks.setdefault(record.file, set()).add(record.block)
        elif record.lsn >= self._from_lsn:
            self.commits.append(record)
        else:
            self._forget(record)

    def whole(self, commit: Commit) -> bool:
        """Whether all that a transaction changed was read: it began behind the first word of who runs."""
        return self._old is not None and commit.xid not in self._old

    def files(self) -> tuple[str, ...]:
        """The files that lost transactions changed."""
        xids = {xid for commit in self.commits for xid in (commit.xid, *commit.subxids)}
        return tuple(sorted({file for xid in xids for file in self._counts.get(xid, {})}))

    def blocks(self, file: str) -> tuple[int, ...]:
        """Where in a file rows were written: a superset, since others wrote there too."""
        return tuple(sorted(self._blocks.get(file, ())))

    def changes(self, commit: Commit) -> dict[str, dict[str, int]]:
        """What a transaction changed, with its subtransactions: file → op → rows."""
        found: dict[str, dict[str, int]] = {}
        for xid in (commit.xid, *commit.subxids):
            for file, counts in self._counts.get(xid, {}).items():
                into = found.setdefault(file, {})
                for op, rows in counts.items():
                    into[op] = into.get(op, 0) + rows
        return found

    def _forget(self, commit: Commit) -> None:
        for xid in (commit.xid, *commit.subxids):
            self._counts.pop(xid, None)


def listed(seen: Seen, names: Mapping[str, Relation], rows: Iterable[Row] = ()) -> tuple[Lost, ...]:
    """Every transaction beyond the promotion, in the order of its commit, with its class and the rows that were read.
    `names`: the file of each relation that the old data still knows."""
    by_xid: dict[int, list[Row]] = {}
    for row in rows:
        by_xid.setdefault(row.xid, []).append(row)
    found = []
    for commit in sorted(seen.commits, key=lambda each: each.lsn):
        changes = seen.changes(commit)
        own = [row for xid in (commit.xid, *commit.subxids) for row in by_xid.get(xid, ())]
        found.append(
            Lost(
                xid=commit.xid,
                lsn=commit.lsn,
                at=commit.at,
                klass=class_of([names.get(file) for file in changes], whole=seen.whole(commit)),
                changes={_shown(file, names): counts for file, counts in changes.items()},
                rows=tuple(own),
            )
        )
    return tuple(found)


def class_of(changed: Iterable[Relation | None], *, whole: bool = True) -> Class:
    """The class of a transaction by the relations that it changed; None is one that the old data no longer knows.
    Where it isn't `whole`, what lies before what was read may be users' rows: statistics are no proof of the rest."""
    relations = list(changed)
    known = [each for each in relations if each is not None]
    if len(known) < len(relations):
        return "rows"
    schemas = {each.schema_name for each in known} - _RELABELLED
    if not schemas:
        return "other"
    if schemas == {HEARTBEAT_SCHEMA}:
        return "heartbeat"
    if schemas != {"pg_catalog"}:
        return "rows"
    names = {each.name for each in known if each.schema_name == "pg_catalog"}
    if names & STATISTICS and names <= TOUCHED_BY_STATISTICS:
        return "maintenance" if whole else "other"
    return "schema"


def _shown(file: str, names: Mapping[str, Relation]) -> str:
    relation = names.get(file)
    return relation.text if relation is not None else f"file {file}"


def losses_key(run: str, resource: str) -> str:
    """Where the list of a run lies in a ledger: written once."""
    return f"losses/{run}/{resource}.json"
