"""Read-only sessions whose text output is the same everywhere, with limits on every statement.

Separate because marks and checks must read with the same eyes: a fingerprint depends on TimeZone, DateStyle and so on.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from recovery.errors import Failed, Unproven

Row = tuple[Any, ...]
Connection = psycopg.Connection[Row]
T = TypeVar("T")

CONNECT_SECONDS = 10
MOST_CONNECTIONS = 4

FIXED: Mapping[str, str] = {
    "search_path": "",
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "iso_8601",
    "extra_float_digits": "3",
    "bytea_output": "hex",
    "xmlbinary": "base64",
    "lc_monetary": "C",
    "lc_messages": "C",
    "quote_all_identifiers": "off",
    "row_security": "off",
    "client_min_messages": "error",
    "default_transaction_read_only": "on",
    "max_parallel_workers_per_gather": "0",
    "jit": "off",
    "lock_timeout": "2s",
    "idle_in_transaction_session_timeout": "15min",
}
"""What decides how a value is written as text, and what keeps a session from doing harm."""


class Deadline:
    """A patience that has begun: how many seconds are left of it, on a clock that never steps."""

    def __init__(self, patience_seconds: float) -> None:
        self._end = time.monotonic() + patience_seconds

    @property
    def left_seconds(self) -> float:
        """Never negative."""
        return max(0.0, self._end - time.monotonic())


@contextmanager
def reading(dsn: str, deadline: Deadline, database: str | None = None) -> Iterator[Connection]:
    """A session in autocommit mode with the fixed settings. Raises Unproven when the server cannot be reached."""
    named = {} if database is None else {"dbname": database}
    try:
        connection = psycopg.connect(
            psycopg.conninfo.make_conninfo(dsn, **named),
            autocommit=True,
            connect_timeout=max(2, min(CONNECT_SECONDS, int(deadline.left_seconds))),
            client_encoding="UTF8",
            application_name="standfast",
            row_factory=tuple_row,
        )
    except psycopg.OperationalError as error:
        where = f"database {database}" if database else "the server"
        raise Unproven(
            f"{where} cannot be reached: {first_line(error)}",
            hint="check that it runs, accepts connections in recovery (hot_standby) and has one to spare",
        ) from error
    with connection:
        limits = {**FIXED, "statement_timeout": f"{max(1, int(deadline.left_seconds * 1000))}ms"}
        settings = sql.SQL(", ").join(
            sql.SQL("pg_catalog.set_config({}, {}, false)").format(sql.Literal(name), sql.Literal(value))
            for name, value in limits.items()
        )
        connection.execute(sql.SQL("select {}").format(settings))
        yield connection


def only(connection: Connection, query: str) -> Row:
    """The one row of a query. Raises Failed when there is none."""
    row = connection.execute(query.encode()).fetchone()
    if row is None:
        raise Failed("the server gave no row where there is always one", hint="check the server's log")
    return row


def databases(connection: Connection) -> tuple[str, ...]:
    """The databases that can be connected to, in order of name."""
    query = b"""select datname from pg_catalog.pg_database where datallowconn and datconnlimit <> -2
        order by datname collate "C\""""
    return tuple(str(row[0]) for row in connection.execute(query).fetchall())


def closed_databases(connection: Connection) -> tuple[str, ...]:
    """Those that take no connections, so that nothing in them can be read; not the template that no server changes."""
    query = b"""select datname from pg_catalog.pg_database where not (datallowconn and datconnlimit <> -2)
        and datname <> 'template0' order by datname collate "C\""""
    return tuple(str(row[0]) for row in connection.execute(query).fetchall())


def first_line(error: BaseException) -> str:
    """What a server or a library said, shortened to its first line."""
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__


def connections_for(jobs: int) -> int:
    """How many connections to read with: bounded by the cores, the jobs and MOST_CONNECTIONS."""
    return max(1, min(MOST_CONNECTIONS, os.cpu_count() or 1, jobs))


def in_parallel(
    dsn: str, database: str, jobs: Sequence[T], work: Callable[[Connection, T], None], deadline: Deadline
) -> None:
    """Do `work` for every job, each thread with a session of its own; the first error ends all and is raised."""
    waiting: SimpleQueue[T] = SimpleQueue()
    for job in jobs:
        waiting.put(job)
    stop: list[BaseException] = []

    def drain() -> None:
        with reading(dsn, deadline, database) as connection:
            while not stop:
                try:
                    job = waiting.get_nowait()
                except Empty:
                    return
                try:
                    work(connection, job)
                except BaseException as error:
                    stop.append(error)
                    raise

    if not jobs:
        return
    with ThreadPoolExecutor(connections_for(len(jobs))) as pool:
        done: Iterable[object] = [pool.submit(drain) for _ in range(connections_for(len(jobs)))]
    for future in done:
        future.result()  # type: ignore[attr-defined]
