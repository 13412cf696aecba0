"""Reading the fingerprint of a cluster: objects, sequences, large objects and the content of every table.

Separate from taking a mark, because a restored copy is read with the same function and nothing is paused for it.
"""

# ruff: noqa: E501, S608 -- SQL reads best unbroken, and is made of constants and quoted names only

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from threading import Lock

from psycopg import errors, sql

from recovery.errors import Unproven
from recovery.mark import DatabaseMark, Mark, TableMark
from recovery.point import lsn_text
from tasks.postgres.mark_objects import (
    OF_A_DATABASE,
    OF_THE_CLUSTER,
    SETTINGS,
    Source,
    columns_query,
    digest,
    objects_query,
)
from tasks.postgres.place import Place, place
from tasks.postgres.reading import (
    Connection,
    Deadline,
    closed_databases,
    connections_for,
    databases,
    in_parallel,
    reading,
)

CHUNK_PAGES = 16384
"""A part of a large table that is read by itself: 128 MiB of pages."""
SMALL_PAGES = 16
SMALL_TABLES = 40
MOST_LARGE_OBJECTS = 5000
ROW_ALIAS = "standfast row"
SEEDS = (20261124, 42)

_TABLES = """
select c.oid::bigint, n.nspname::text, c.relname::text, pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname),
  c.relpersistence = 'u', not c.relispopulated, a.amname = 'heap',
  case when c.relpersistence = 'u' then 0
    else pg_catalog.pg_relation_size(c.oid) / pg_catalog.current_setting('block_size')::int end
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
left join pg_catalog.pg_am a on a.oid = c.relam
where c.relkind in ('r', 'm') and c.relpersistence <> 't' and c.oid >= 16384 order by 2, 3
"""
_SEQUENCES = """
select n.nspname::text, c.relname::text, pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname),
  s.seqincrement
from pg_catalog.pg_sequence s join pg_catalog.pg_class c on c.oid = s.seqrelid join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relkind = 'S' and c.relpersistence = 'p' order by 1, 2
"""
_PAGES_OF_ONE = """pg_catalog.string_agg(loid || ' ' || pageno || ' ' || pg_catalog.encode(pg_catalog.sha256(data), 'hex'),
  E'\\n' order by loid, pageno)"""
_LARGE_OBJECTS = f"""
select case when (select count(*) from pg_catalog.pg_largeobject_metadata) <= {MOST_LARGE_OBJECTS}
  then 'large object ' || loid else 'large objects whose number ends in ' || loid::bigint % 1000 end,
  {digest(_PAGES_OF_ONE)}
from pg_catalog.pg_largeobject group by 1
"""
_UNSOUND = """
select 'index ' || (pg_catalog.pg_identify_object('pg_catalog.pg_class'::regclass, indexrelid, 0)).identity
from pg_catalog.pg_index where not (indisvalid and indisready and indislive)
union all
select 'table constraint ' || (pg_catalog.pg_identify_object('pg_catalog.pg_constraint'::regclass, oid, 0)).identity
from pg_catalog.pg_constraint where not convalidated and conrelid <> 0
order by 1
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Table:
    schema: str
    name: str
    shown: str
    note: str
    heap: bool
    pages: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _Part:
    """A table, or the pages [begin, end) of one; `end` None means to its end, `begin` None means all of it."""

    table: _Table
    begin: int | None = None
    end: int | None = None


def fingerprint(dsn: str, *, now: datetime, patience_seconds: float = 3600) -> Mark:
    """The fingerprint of the cluster at `dsn`, which must stand still (paused, or a copy that nobody writes to).

    Raises Unproven when it moved, a table is locked, the time ran out or a part could not be read.
    """
    deadline = Deadline(patience_seconds)
    try:
        with reading(dsn, deadline) as connection:
            before = place(connection)
            shared = _objects(connection, OF_THE_CLUSTER) | _settings(connection)
            names, closed = databases(connection), closed_databases(connection)
        with ThreadPoolExecutor(connections_for(len(names))) as pool:
            read = pool.map(lambda name: _database(dsn, name, deadline), names)
            parts = dict(zip(names, read, strict=True))
        with reading(dsn, deadline) as connection:
            _stood_still(before, place(connection))
    except (errors.LockNotAvailable, errors.QueryCanceled) as error:
        raise Unproven(
            f"the fingerprint could not be read in time: {error.diag.message_primary or error}",
            hint="a table is locked by DDL that was underway at this LSN, or the time is too short: try another moment",
        ) from error
    notes = (
        *(f"database {name}: it takes no connections, so nothing in it is compared" for name in closed),
        *(
            f"table {table} in database {name}: {mark.note}"
            for name, part in parts.items()
            for table, mark in part.tables.items()
            if mark.note
        ),
    )
    return Mark(
        system_id=before.system_id,
        timeline=before.timeline,
        lsn=before.lsn,
        at=now,
        committed_at=before.committed_at,
        server_version=before.server_version,
        segment_bytes=before.segment_bytes,
        globals=shared,
        databases=parts,
        notes=notes,
    )


def _stood_still(before: Place, after: Place) -> None:
    if (before.lsn, before.timeline) != (after.lsn, after.timeline):
        raise Unproven(
            f"the server moved from {lsn_text(before.lsn)} to {lsn_text(after.lsn)} while it was read",
            hint="somebody resumed the replay or promoted it; take the mark again",
        )


def _database(dsn: str, name: str, deadline: Deadline) -> DatabaseMark:
    with reading(dsn, deadline, name) as connection:
        connection.execute("begin isolation level repeatable read read only")
        objects = _objects(connection, OF_A_DATABASE)
        for key, found in connection.execute(_LARGE_OBJECTS.encode()).fetchall():
            _fold(objects, key, found)
        objects.update(_sequences(connection))
        unsound = tuple(str(row[0]) for row in connection.execute(_UNSOUND.encode()).fetchall())
        tables = _tables(connection)
    return DatabaseMark(objects=objects, tables=_contents(dsn, name, tables, deadline), unsound=unsound)


def _fold(objects: dict[str, str], key: str, found: str) -> None:
    """Rows of several catalogs make one object: the order of the sources is fixed, so the hash is too."""
    known = objects.get(key)
    objects[key] = found if known is None else hashlib.sha256(f"{known} {found}".encode()).hexdigest()[:16]


def _objects(connection: Connection, sources: Sequence[Source]) -> dict[str, str]:
    columns: dict[str, list[str]] = dict(connection.execute(columns_query(sources).encode()).fetchall())
    objects: dict[str, str] = {}
    for source in sources:
        query = objects_query(source, columns)
        if query is None:
            continue
        for key, found in connection.execute(query.encode()).fetchall():
            _fold(objects, key, found)
    return objects


def _settings(connection: Connection) -> dict[str, str]:
    query = SETTINGS.replace("{digest}", digest("s.definition"))
    return dict(connection.execute(query.encode()).fetchall())


def _sequences(connection: Connection) -> dict[str, str]:
    """Where each sequence goes on after a crash: the value in its last WAL record.

    A sequence writes WAL once for 32 values, so its page alone depends on when a base backup copied it;
    `last_value + log_cnt * increment` is what the WAL holds, in every copy.
    """
    found: dict[str, str] = {}
    names = connection.execute(_SEQUENCES.encode()).fetchall()
    for begin in range(0, len(names), SMALL_TABLES):
        query = sql.SQL(" union all ").join(
            sql.SQL("select {}, last_value::numeric + log_cnt * {}, is_called from {}").format(
                sql.Literal(shown), sql.Literal(increment), sql.Identifier(schema, name)
            )
            for schema, name, shown, increment in names[begin : begin + SMALL_TABLES]
        )
        for shown, value, called in connection.execute(query).fetchall():
            found[f"sequence value of {shown}"] = f"{value} {'used' if called else 'next'}"
    return found


def _tables(connection: Connection) -> list[_Table]:
    found = []
    for _, schema, name, shown, unlogged, empty, heap, pages in connection.execute(_TABLES.encode()).fetchall():
        note = "unlogged: only its existence is compared, it is empty after a restore" if unlogged else ""
        note = note or ("materialized view without data" if empty else "")
        found.append(_Table(schema=schema, name=name, shown=shown, note=note, heap=bool(heap), pages=pages or 0))
    return found


def _contents(dsn: str, database: str, tables: Sequence[_Table], deadline: Deadline) -> dict[str, TableMark]:
    sums: dict[str, list[int]] = {table.shown: [0, 0, 0] for table in tables if not table.note}
    guard = Lock()

    def read(connection: Connection, batch: Sequence[_Part]) -> None:
        query = sql.SQL(" union all ").join(_content_query(part) for part in batch)
        for shown, *parts in connection.execute(query).fetchall():
            with guard:
                sums[shown] = [old + int(new or 0) for old, new in zip(sums[shown], parts, strict=True)]

    in_parallel(dsn, database, list(_batches(tables)), read, deadline)
    return {
        table.shown: TableMark(note=table.note) if table.note else _table_mark(sums[table.shown]) for table in tables
    }


def _table_mark(sums: Sequence[int]) -> TableMark:
    rows, first, second = sums
    return TableMark(rows=rows, content=hashlib.sha256(f"{first} {second}".encode()).hexdigest()[:32])


def _batches(tables: Sequence[_Table]) -> Iterator[list[_Part]]:
    """Large tables in parts first, so that the last job is a short one; small ones many at a time."""
    readable = [table for table in tables if not table.note]
    for table in sorted((table for table in readable if table.pages > SMALL_PAGES), key=lambda table: -table.pages):
        if not table.heap or table.pages <= CHUNK_PAGES:
            yield [_Part(table=table)]
            continue
        for begin in range(0, table.pages, CHUNK_PAGES):
            last = begin + CHUNK_PAGES >= table.pages
            yield [_Part(table=table, begin=begin, end=None if last else begin + CHUNK_PAGES)]
    small = [_Part(table=table) for table in readable if table.pages <= SMALL_PAGES]
    for _, group in groupby(enumerate(small), key=lambda pair: pair[0] // SMALL_TABLES):
        yield [part for _, part in group]


def _content_query(part: _Part) -> sql.Composed:
    """(name, rows, two sums over the hashes of the rows' texts): sums don't depend on the order, two make chance small.

    `offset 0` keeps the planner from writing each row out twice.
    """
    alias = sql.Identifier(ROW_ALIAS)
    pages: sql.Composable = sql.SQL("")
    if part.begin is not None:
        pages = sql.SQL(" where {}.ctid >= {}").format(alias, sql.Literal(f"({part.begin},0)"))
        if part.end is not None:
            pages = pages + sql.SQL(" and {}.ctid < {}").format(alias, sql.Literal(f"({part.end},0)"))
    return sql.SQL(
        "select {shown}, count(*), pg_catalog.sum(h)::text, pg_catalog.sum(pg_catalog.hashint8extended(h, {second}))::text"
        ' from (select pg_catalog.hashtextextended({alias}::text collate "C", {first}) as h'
        " from only {table} {alias}{pages} offset 0) s"
    ).format(
        shown=sql.Literal(part.table.shown),
        table=sql.Identifier(part.table.schema, part.table.name),
        alias=alias,
        pages=pages,
        first=sql.Literal(SEEDS[0]),
        second=sql.Literal(SEEDS[1]),
    )
