"""A writing session in a promoted copy, and how a fault finds something to break in it.

Separate because all faults in data need the same: the database with the most in it, candidates in random order, and a
savepoint for each, since some cannot be broken (something else depends on them).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from tasks.postgres.faults.fault import Attempt, OpenCopy, Planted, not_plantable
from tasks.postgres.reading import Connection, Row, databases

STATEMENT_SECONDS = 60
_OWN_TABLES = (
    b"select count(*) from pg_catalog.pg_class where oid >= 16384 and relkind in ('r', 'p') and relpersistence = 'p'"
)
_NOT_OURS = "not exists (select from pg_catalog.pg_depend e where e.objid = {oid} and e.deptype = 'e')"


def own(oid: str) -> str:
    """The SQL condition for an object that somebody made and that is no extension's."""
    return f"{oid} >= 16384 and {_NOT_OURS.format(oid=oid)}"


@contextmanager
def opened(attempt: Attempt) -> Iterator[Connection]:
    """One transaction in the database that holds the most tables, without triggers, foreign keys or a search path."""
    if not isinstance(attempt, OpenCopy):
        raise TypeError("this fault is planted in a copy that is open for writing")
    with _session(attempt.dsn, None) as connection:
        names = databases(connection)
    sizes = []
    for name in names:
        with _session(attempt.dsn, name) as connection:
            row = connection.execute(_OWN_TABLES).fetchone()
            sizes.append((int(row[0]) if row else 0, name))
    with _session(attempt.dsn, max(sizes)[1]) as connection:
        connection.execute(b"set search_path to ''; set session_replication_role = replica")
        with connection.transaction():
            yield connection


@contextmanager
def _session(dsn: str, database: str | None) -> Iterator[Connection]:
    named = {} if database is None else {"dbname": database}
    text = psycopg.conninfo.make_conninfo(dsn, client_encoding="UTF8", connect_timeout=10, **named)
    with psycopg.connect(text, autocommit=True, row_factory=tuple_row) as connection:
        connection.execute(f"set statement_timeout = '{STATEMENT_SECONDS}s'".encode())
        yield connection


def candidates(connection: Connection, attempt: Attempt, query: str) -> list[Row]:
    """What could be broken, in the attempt's random order."""
    rows = connection.execute(query.encode()).fetchall()
    attempt.random.shuffle(rows)
    return rows


def first_that_breaks(
    connection: Connection, rows: Sequence[Row], what: str, act: Callable[[Row], Planted | None]
) -> Planted:
    """Try one after the other; a refusal by the database is undone and the next one tried. Raises NotPlantable."""
    for row in rows:
        try:
            with connection.transaction():
                planted = act(row)
        except psycopg.Error:
            continue
        if planted is not None:
            return planted
    raise not_plantable(what)


def do(connection: Connection, statement: str, *identifiers: tuple[str, ...] | str) -> int:
    """Execute a statement whose {} are (qualified) names. Gives how many rows it touched."""
    parts = [sql.Identifier(*((name,) if isinstance(name, str) else name)) for name in identifiers]
    return connection.execute(sql.SQL(statement).format(*parts)).rowcount
