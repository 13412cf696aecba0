"""The platform's side effects: an outbox of mail, webhooks and jobs, delivered in order, once by a site, unless parked.

Separate because they are what a recovered platform must not do before somebody looked: parked is a file of the site, so
that it outlives a restart, and a site that was never released is parked. The world outside is FOLDER/sent.jsonl. What a
lost site had delivered, while its marks did not arrive at the other, would go out from there again: hence quarantine.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg

from deployments.lab.app.database import Database, Silent, Sql

EVERY_SECONDS = 0.1
AT_ONCE_MOST = 200
TAIL_BYTES = 64 * 1024
WAITING = """
select id, sort, seq, body from outbox
where sent_at is null and xid < pg_snapshot_xmin(pg_current_snapshot()) order by xid, id limit %s
"""
"""In the order of transactions. One that is still open may yet add something earlier, so nothing beyond it goes out."""


class SideEffects:
    """The sender of one site. `released_at_first`: what a site is that has never been told anything."""

    def __init__(self, database: Database, folder: Path, *, released_at_first: bool) -> None:
        self._database = database
        self._state = folder / "side-effects.json"
        self._sent = folder / "sent.jsonl"
        self._sending = threading.Lock()
        self._stopped = threading.Event()
        folder.mkdir(parents=True, exist_ok=True)
        if not self._state.exists():
            self._remember(parked=not released_at_first)
        self._parked = bool(json.loads(self._state.read_text())["parked"])
        self._count, self._last = _read(self._sent)

    def park(self, parked: bool) -> None:
        """Park or release. On return nothing more goes out when parked: a delivery that was under way has ended."""
        with self._sending:
            self._remember(parked=parked)
            self._parked = parked

    def told(self) -> dict[str, Any]:
        """`parked`; `waiting`: not yet delivered, None when the database does not say; `sent` by this site."""
        try:
            waiting = self._database.run(_count_waiting, patience_seconds=0.8)
        except (Silent, psycopg.Error):
            waiting = None
        return {"parked": self._parked, "waiting": waiting, "sent": self._count}

    def start(self) -> None:
        """Send in the background until `stop`."""
        threading.Thread(target=self._send_all, name="sender", daemon=True).start()

    def stop(self) -> None:
        """Send nothing more; what is remembered stays."""
        self._stopped.set()
        with self._sending:
            self._parked = True
        self._database.close()

    def send(self) -> int:
        """Deliver what waits, up to a batch, and mark it sent; gives how many. Nothing when parked or read-only."""
        with self._sending:
            if self._parked:
                return 0
            try:
                waiting = self._database.run(_waiting, patience_seconds=1.0)
            except (Silent, psycopg.Error):
                return 0  # the database is away: what waits, waits; `told` says so
            if not waiting:
                return 0
            # Delivered first, marked then: who dies between the two finds the id in the file and does not repeat it.
            fresh = [each for each in waiting if each[0] not in self._last]
            with self._sent.open("a") as out:
                for number, sort, seq, body in fresh:
                    out.write(json.dumps({"id": number, "sort": sort, "seq": seq, "body": body}) + "\n")
            self._count += len(fresh)
            self._last |= {each[0] for each in fresh}
            return self._mark([each[0] for each in waiting])

    def _mark(self, numbers: Sequence[int]) -> int:
        try:
            self._database.run(lambda sql: _marked(sql, numbers), patience_seconds=1.0)
        except (Silent, psycopg.Error):
            return 0
        self._last -= set(numbers)
        return len(numbers)

    def _send_all(self) -> None:
        while not self._stopped.is_set():
            if self.send() < AT_ONCE_MOST:
                self._stopped.wait(EVERY_SECONDS)

    def _remember(self, *, parked: bool) -> None:
        fresh = self._state.with_suffix(".new")
        fresh.write_text(json.dumps({"parked": parked}))
        fresh.replace(self._state)


def _waiting(sql: Sql) -> list[tuple[int, str, int, str]]:
    if sql.execute("select current_setting('transaction_read_only')").fetchone() == ("on",):
        return []  # of a standby, or of a primary that gives way: another one sends these, and could not see our marks
    return sql.execute(WAITING, [AT_ONCE_MOST]).fetchall()


def _count_waiting(sql: Sql) -> int:
    found = sql.execute("select count(*) from outbox where sent_at is null").fetchone()
    return int(found[0]) if found else 0


def _marked(sql: Sql, numbers: Sequence[int]) -> None:
    sql.execute("update outbox set sent_at = clock_timestamp() where id = any(%s)", [list(numbers)])


def _read(sent: Path) -> tuple[int, set[int]]:
    """How many lines there are, and the ids of the last of them. A torn last line was not delivered: it is cut off."""
    if not sent.exists():
        return 0, set()
    whole = sent.read_bytes()
    kept = whole[: whole.rfind(b"\n") + 1]
    if kept != whole:
        sent.write_bytes(kept)
    tail = kept if len(kept) <= TAIL_BYTES else kept[kept.index(b"\n", len(kept) - TAIL_BYTES) + 1 :]
    return kept.count(b"\n"), {json.loads(line)["id"] for line in tail.splitlines()}
