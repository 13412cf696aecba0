"""What the sample platform does, without HTTP: rows with their side effects, videos, health, readiness."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg

from deployments.lab.app.capacity import FULL, Capacity
from deployments.lab.app.connections import Connections
from deployments.lab.app.database import Database, Silent, Sql
from deployments.lab.app.effects import SideEffects
from deployments.lab.observed import FIRST_SEQ
from deployments.lab.s3.client import client
from recovery.catalog import S3Endpoint

SORTS = ("mail", "webhook", "job")
LOOK_SECONDS = 0.8
"""The patience of health and readiness: whoever probes them gives up after a second."""
PAGE_ROWS = 10_000
ADD = """
with fresh as (insert into rows (seq, payload) values (%(seq)s, %(payload)s) on conflict (seq) do nothing returning seq)
insert into outbox (sort, seq, body) select %(sort)s, seq, %(body)s from fresh
"""
FOUND = """
select payload, at, pg_current_wal_insert_lsn()::text, pg_walfile_name(pg_current_wal_insert_lsn())
from rows where seq = %s
"""


class Platform:
    """One site's platform. FOLDER is its own: what is parked, what was sent, how large the site is."""

    def __init__(self, config: dict[str, Any]) -> None:
        folder = Path(config["folder"])
        self.site: str = config["site"]
        self.bucket: str = config["bucket"]
        self.s3 = client(S3Endpoint.model_validate(config["s3"]))
        self.connections = Connections()
        self._rows = Database(*config["dsns"])
        # Looks have threads of their own, so that they are answered while writes hang.
        self._looks = Database(*config["dsns"], at_once=4)
        self.effects = SideEffects(Database(*config["dsns"], at_once=1), folder, released_at_first=config["released"])
        self.capacity = Capacity(folder)

    def add_row(self, seq: int, payload: str) -> dict[str, Any]:
        """Write the row and its side effect in one transaction, committed when this returns. Again is the same answer.

        Gives `seq`, `at`, `lsn`, `timeline`, `site`. Raises ValueError when the row is there with another payload.
        """
        sort = SORTS[seq % len(SORTS)]
        asked = {"seq": seq, "payload": payload, "sort": sort, "body": f"{sort} for row {seq}"}

        def work(sql: Sql) -> Any:
            sql.execute(ADD, asked)
            return sql.execute(FOUND, [seq]).fetchone()

        found = self._rows.run(work)
        if found is None or found[0] != payload:
            raise ValueError(f"row {seq} is there with another payload")
        timeline = int(found[3][:8], 16)
        return {"seq": seq, "at": found[1].isoformat(), "lsn": found[2], "timeline": timeline, "site": self.site}

    def row(self, seq: int) -> dict[str, Any] | None:
        """The row of that number, or None."""
        found = self._rows.run(lambda sql: sql.execute("select payload, at from rows where seq = %s", [seq]).fetchone())
        if found is None:
            return None
        return {"seq": seq, "payload": found[0], "at": found[1].isoformat(), "site": self.site}

    def last_row(self, begin: int = 0, end: int = FIRST_SEQ) -> dict[str, Any]:
        """The newest row from `begin` to below `end` (by default all but the observer's), and how many there are."""
        ask = "select max(seq), count(*) from rows where seq >= %s and seq < %s"
        found = self._rows.run(lambda sql: sql.execute(ask, [begin, end]).fetchone())
        return {"seq": found[0] if found else None, "count": found[1] if found else 0}

    def page(self, begin: int) -> dict[str, Any]:
        """The numbers of rows from `begin` on, up to a page; `more` says whether there are others."""
        ask = "select seq from rows where seq >= %s order by seq limit %s"
        found = self._rows.run(lambda sql: sql.execute(ask, [begin, PAGE_ROWS + 1]).fetchall(), patience_seconds=3)
        return {"site": self.site, "seqs": [seq for (seq,) in found[:PAGE_ROWS]], "more": len(found) > PAGE_ROWS}

    def health(self) -> dict[str, Any]:
        """What it can do: `database` is writable, read-only or the trouble's words. Answers within LOOK_SECONDS."""
        return {"site": self.site, "database": self._database()}

    def ready(self) -> tuple[bool, dict[str, Any]]:
        """Whether this site could serve all users once its database takes writes: `writable`, `capacity`, `why`."""
        database, serving = self._database(), self.capacity.told()["in_service"]
        small = serving < FULL
        why = [] if database in {"writable", "read-only"} else [database]
        why += [f"this site is too small for all users: {serving} of {FULL} instances"] if small else []
        told = {"site": self.site, "writable": database == "writable", "capacity": "small" if small else "full"}
        return not why, {**told, "why": "; ".join(why)} if why else told

    def drain(self) -> dict[str, Any]:
        """Send long-lived clients away, and drop the database connections that nobody uses."""
        gone = self.connections.drain()
        dropped = self._rows.drop() + self._looks.drop()
        return {"site": self.site, "told_to_go": gone, "database_connections_dropped": dropped}

    def end(self) -> None:
        """Send nothing more, and leave the database."""
        self.effects.stop()
        for each in (self._rows, self._looks):
            each.close()

    def _database(self) -> str:
        ask = "select pg_is_in_recovery() or current_setting('default_transaction_read_only')::boolean"
        try:
            found = self._looks.run(lambda sql: sql.execute(ask).fetchone(), patience_seconds=LOOK_SECONDS)
        except (Silent, psycopg.Error) as trouble:
            return str(trouble).splitlines()[0] if str(trouble) else type(trouble).__name__
        return "read-only" if found == (True,) else "writable"
