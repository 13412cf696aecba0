"""The platform's way to its site's database: a few connections, and a patience with everything.

Separate because a database that hangs must never hang the platform: work runs on threads of its own, and whoever asked
waits for its answer no longer than a patience. libpq itself waits for a connection at least 2 s.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TypeVar

import psycopg

T = TypeVar("T")
Sql = psycopg.Connection
IDLE_MOST = 8
AT_ONCE_MOST = 16
OPTIONS = "-c statement_timeout=1500 -c lock_timeout=1000 -c idle_in_transaction_session_timeout=5000"


class Silent(Exception):
    """The database did not answer within the patience; what was asked may still happen."""


class Database:
    """One database, by one server or by several of its site: of those the one that takes writes, else any that answers.
    Connections are kept for the next who asks, and all dropped when one of them shows trouble."""

    def __init__(self, *dsns: str, at_once: int = AT_ONCE_MOST) -> None:
        self._dsns = dsns
        self._idle: SimpleQueue[Sql] = SimpleQueue()
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="sql")

    def run(self, work: Callable[[Sql], T], *, patience_seconds: float = 1.5) -> T:
        """`work` on a connection in autocommit. Raises Silent past the patience, and whatever psycopg raises."""
        asked = self._threads.submit(self._on_a_connection, work)
        try:
            return asked.result(patience_seconds)
        except TimeoutError:
            asked.cancel()
            raise Silent(f"the database did not answer within {patience_seconds:g} s") from None

    def drop(self) -> int:
        """Close every connection that nobody uses now; gives how many."""
        dropped = 0
        with suppress(Empty):
            while True:
                self._idle.get_nowait().close()
                dropped += 1
        return dropped

    def close(self) -> None:
        """Take no more work and close what is idle; what is under way ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self.drop()

    def _on_a_connection(self, work: Callable[[Sql], T]) -> T:
        sql = self._one()
        try:
            told = work(sql)
        except psycopg.Error as trouble:
            sql.close()
            if isinstance(trouble, psycopg.OperationalError | psycopg.errors.ReadOnlySqlTransaction):
                self.drop()  # it went away, or went read-only: the others are of the same past
            raise
        except BaseException:
            sql.close()
            raise
        if self._idle.qsize() < IDLE_MOST:
            self._idle.put(sql)
        else:
            sql.close()
        return told

    def _one(self) -> Sql:
        """An idle connection that is still whole, else a new one."""
        with suppress(Empty):
            while True:
                sql = self._idle.get_nowait()
                if not sql.closed and not _has_news(sql):
                    return sql
                sql.close()
        return self._connected()

    def _connected(self) -> Sql:
        trouble: psycopg.OperationalError | None = None
        for wanted in ("read-write", "any") if len(self._dsns) > 1 else ("any",):
            for dsn in self._dsns:
                try:
                    return psycopg.connect(
                        dsn, options=OPTIONS, connect_timeout=2, autocommit=True, target_session_attrs=wanted
                    )
                except psycopg.OperationalError as each:
                    trouble = each
        raise trouble or psycopg.OperationalError("no server is known")


def _has_news(sql: Sql) -> bool:
    """Whether an idle connection has something to read: the server's farewell."""
    readable, _, _ = select.select([sql.fileno()], [], [], 0)
    return bool(readable)
