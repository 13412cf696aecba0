"""The rows that lost transactions left, read from a copy of the old data which runs isolated. By the pages that they wrote.

Separate from listing the transactions, which needs no server: what can't be read here says why, and nothing else fails.
"""

# ruff: noqa: E501 -- SQL reads best unbroken

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import psycopg
from psycopg import sql

from recovery.errors import Failed, Unproven
from recovery.losses import HEARTBEAT_SCHEMA, Relation, Row, Seen
from tasks.postgres import scratch, scratch_conf
from tasks.postgres.reading import Connection, first_line
from tasks.postgres.scratch import Scratch

MOST_ROWS = 50_000
RECOVERS_SECONDS = 3600.0
TABLE_SECONDS = 600
_NAMES = """
select case when c.relisshared then 0 else (select oid from pg_database where datname = current_database()) end::bigint,
  pg_relation_filenode(c.oid)::bigint, n.nspname, c.relname, c.relkind::text
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 't', 'm', 'S') and pg_relation_filenode(c.oid) is not null
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """A relation of the copy, and whether its rows are worth reading."""

    relation: Relation
    readable: bool


def read_rows(
    copy: Scratch, seen: Seen, say: Callable[[str, float | None], None]
) -> tuple[Mapping[str, Relation], Sequence[Row], dict[str, str]]:
    """Names and rows of what the lost transactions changed, from the copy. What can't be read says why."""
    files = seen.files()
    if not files:
        return {}, (), {}
    scratch_conf.configure_copy(copy)
    scratch.start(copy, as_it_is=True)
    say("the copy recovers its own WAL", None)
    _await_open(copy)
    xids = [xid for commit in seen.commits for xid in (commit.xid, *commit.subxids)]
    names: dict[str, Relation] = {}
    rows: list[Row] = []
    unread: dict[str, str] = {}
    for database in _databases(copy, files):
        with psycopg.connect(copy.dsn(database), autocommit=True, connect_timeout=10) as connection:
            tables = {file: each for file, each in _tables(connection, database) if file in files}
            names |= {file: each.relation for file, each in tables.items()}
            for file, each in tables.items():
                if each.readable:
                    say(f"reading {each.relation.text}", None)
                    _rows(connection, each.relation, seen.blocks(file), xids, rows, unread)
    return names, rows, unread


def _await_open(copy: Scratch) -> None:
    begin = time.monotonic()
    absent = begin + scratch.APPEARS_WITHIN_SECONDS
    while time.monotonic() - begin < RECOVERS_SECONDS:
        if copy.pid() is not None:
            absent = time.monotonic() + 1.0
            with suppress(psycopg.OperationalError), psycopg.connect(copy.dsn(), connect_timeout=5):
                return  # else it takes no connections yet
        if time.monotonic() > absent:
            words = copy.log.read_text(errors="replace")[-300:] if copy.log.exists() else ""
            raise Unproven(
                f"the copy of the old data does not start: {' '.join(words.split())}",
                hint="the transactions are known, their rows are not; keep the old data and look at it by hand",
            )
        time.sleep(0.02)
    raise Failed(
        f"the copy did not recover within {RECOVERS_SECONDS:g} s", hint="see its log; the order may be sent again"
    )


def _databases(copy: Scratch, files: Sequence[str]) -> list[str]:
    """Those in which something changed; the first one also tells of what all share."""
    wanted = {int(file.partition("/")[0]) for file in files}
    with psycopg.connect(copy.dsn(), autocommit=True, connect_timeout=10) as connection:
        known = connection.execute(
            "select oid::bigint, datname from pg_database where datallowconn order by oid"
        ).fetchall()
    found = [str(name) for oid, name in known if oid in wanted]
    return found if found or 0 not in wanted else ["postgres"]


def _tables(connection: Connection, database: str) -> Iterator[tuple[str, Table]]:
    for oid, filenode, schema, name, kind in connection.execute(_NAMES.encode()).fetchall():
        own = schema not in {"pg_catalog", "pg_toast", "information_schema", HEARTBEAT_SCHEMA}
        relation = Relation(database=database, schema_name=str(schema), name=str(name))
        yield f"{oid}/{filenode}", Table(relation=relation, readable=kind == "r" and own)


def _rows(
    connection: Connection, relation: Relation, blocks: Sequence[int], xids: Sequence[int], into: list[Row],
    unread: dict[str, str],
) -> None:  # fmt: skip
    """The rows of lost transactions, from the pages that they wrote."""
    query = sql.SQL(
        "select xmin::text::bigint, to_jsonb(t)::text from only {}.{} t"
        " where ctid >= {} and ctid < {} and xmin::text::bigint = any(%s)"
    )
    try:
        connection.execute(f"set statement_timeout = '{TABLE_SECONDS}s'".encode())
        for first, last in _runs(blocks):
            bounds = sql.Literal(f"({first},0)") + sql.SQL("::tid"), sql.Literal(f"({last + 1},0)") + sql.SQL("::tid")
            table = sql.Identifier(relation.schema_name), sql.Identifier(relation.name)
            for xid, text in connection.execute(query.format(*table, *bounds), [list(xids)]).fetchall():
                if len(into) >= MOST_ROWS:
                    unread[relation.text] = f"only the first {MOST_ROWS} rows of all are listed"
                    return
                into.append(Row(relation=relation.text, xid=xid, row=json.loads(text, parse_float=str)))
    except psycopg.Error as error:
        unread[relation.text] = first_line(error)


def _runs(blocks: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Neighbouring pages as one range; small holes are read over."""
    begin = end = -1
    for block in blocks:
        if begin >= 0 and block - end > 8:
            yield begin, end
            begin = block
        begin = block if begin < 0 else begin
        end = block
    if begin >= 0:
        yield begin, end
