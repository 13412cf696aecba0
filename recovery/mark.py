"""A mark: the fingerprint of a whole database cluster at one LSN, and what differs between two of them. Pure.

Separate from taking one, because equality and its wording are decided here and tested without a server. A mark
never holds a row of anybody's data: definitions and contents are hashes.

To recover to exactly `lsn`: recovery_target_lsn = lsn with recovery_target_inclusive = off. `lsn` is the end of the
last record replayed; an inclusive target would replay one more (xlogrecovery.c, recoveryStopsAfter compares where the
record begins).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain, islice
from typing import Annotated, Literal

from pydantic import Field

from recovery.check import Finding
from recovery.value import Instant, Value, canonical

MOST_FINDINGS = 200
CATALOG = "catalog"
CONTENT = "content"


class TableMark(Value):
    """A table's rows. `rows` and `content` are None where they cannot be compared; `note` then says why.

    `content` is independent of the order of rows and of how they lie on disk.
    """

    rows: int | None = None
    content: str | None = None
    note: str = ""


class DatabaseMark(Value):
    """One database: objects as `class identity` → hash of the definition, tables by quoted name.

    `unsound` names the indexes that are not valid and the constraints that are not validated: so at the source.
    """

    objects: dict[str, str]
    tables: dict[str, TableMark]
    unsound: tuple[str, ...] = ()


class Mark(Value):
    """The fingerprint of a cluster at `lsn` on `timeline`; `at` is when it was taken.

    `committed_at` is the commit time of the last transaction in it, by the primary's clock, if any was seen.
    """

    schema_version: Literal[1] = 1
    system_id: str
    timeline: Annotated[int, Field(ge=1)]
    lsn: Annotated[int, Field(ge=0)]
    at: Instant
    committed_at: Instant | None = None
    server_version: int
    segment_bytes: int
    globals: dict[str, str]
    databases: dict[str, DatabaseMark]
    notes: tuple[str, ...] = ()

    @property
    def body(self) -> bytes:
        """What is stored."""
        return canonical(self)


def mark_key(prefix: str, system_id: str, timeline: int, lsn: int) -> str:
    """Where a mark lives in the backups bucket. Text order is order of timeline, then of LSN."""
    return f"{marks_folder(prefix, system_id)}{timeline:08X}/{lsn:016X}.json"


def marks_folder(prefix: str, system_id: str) -> str:
    """The prefix of all marks of a cluster, with its slash."""
    return "/".join(part for part in (prefix.strip("/"), "mark", system_id) if part) + "/"


def same_place(mark: Mark, *, system_id: str, timeline: int, lsn: int) -> str:
    """Empty when a copy stands exactly at the mark; else why its content cannot be judged by it."""
    if mark.system_id != system_id:
        return f"the mark is of system {mark.system_id}, the copy of {system_id}"
    if mark.timeline != timeline:
        return f"the mark is on timeline {mark.timeline}, the copy was recovered on {timeline}"
    if mark.lsn != lsn:
        return f"the copy stands {abs(lsn - mark.lsn)} bytes of WAL {'after' if lsn > mark.lsn else 'before'} the mark"
    return ""


def compare(mark: Mark, seen: Mark) -> tuple[Finding, ...]:
    """All that differs in `seen` from `mark`, at most MOST_FINDINGS of it, each named. Places are not compared."""
    differences = chain(
        _objects("", mark.globals, seen.globals),
        *(_database(name, mark.databases.get(name), seen.databases.get(name)) for name in _names(mark, seen)),
    )
    found = list(islice(differences, MOST_FINDINGS + 1))
    if len(found) > MOST_FINDINGS:
        more = Finding(check=CATALOG, fact=f"more than {MOST_FINDINGS} differences; the rest is not listed", hint=_HINT)
        return (*found[:MOST_FINDINGS], more)
    return tuple(found)


_HINT = "the restored copy is not the database that was marked; keep the attempt and compare the object with the source"


def _names(mark: Mark, seen: Mark) -> list[str]:
    return sorted({*mark.databases, *seen.databases})


def _database(name: str, mark: DatabaseMark | None, seen: DatabaseMark | None) -> Iterator[Finding]:
    if mark is None or seen is None:
        what = "is missing" if seen is None else "is there, but was not at the mark"
        yield Finding(check=CATALOG, fact=f"database {name} {what}", hint=_HINT)
        return
    where = f" in database {name}"
    yield from _objects(where, mark.objects, seen.objects)
    for table in sorted({*mark.tables, *seen.tables}):
        yield from _table(f"{table}{where}", mark.tables.get(table), seen.tables.get(table))


def _objects(where: str, mark: Mapping[str, str], seen: Mapping[str, str]) -> Iterator[Finding]:
    for key in sorted({*mark, *seen}):
        if mark.get(key) != seen.get(key):
            how = "is missing" if key not in seen else "was added" if key not in mark else "was changed"
            yield Finding(check=CATALOG, fact=f"{key}{where} {how}", hint=_HINT)


def _table(name: str, mark: TableMark | None, seen: TableMark | None) -> Iterator[Finding]:
    """A table that only one side has is a difference of objects, and said there."""
    if mark is None or seen is None:
        return
    if mark.rows is None or seen.rows is None:
        if (mark.rows is None) != (seen.rows is None):
            fact = f"table {name}: its content could be read on one side only ({mark.note or seen.note})"
            yield Finding(check=CONTENT, fact=fact, hint=_HINT)
        return
    if seen.rows != mark.rows:
        how = (
            f"{mark.rows - seen.rows} rows missing" if seen.rows < mark.rows else f"{seen.rows - mark.rows} rows extra"
        )
        yield Finding(check=CONTENT, fact=f"table {name}: {how} ({seen.rows} instead of {mark.rows})", hint=_HINT)
    elif seen.content != mark.content:
        fact = f"table {name}: content altered in {seen.rows} rows of the same count"
        yield Finding(check=CONTENT, fact=fact, hint=_HINT)
