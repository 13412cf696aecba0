"""The heartbeat: a row a second in `standfast.beat` on a primary, and what the server says of itself meanwhile.

Separate because it is the one part of the agent that talks to Postgres: RPO is read from these rows after a restore
(their commit times, not their clocks), and status from the same question. On a standby it only looks. On a primary it
ends a segment that the server leaves open beyond its own `archive_timeout` (recovery/open_segment.py says when).
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import psycopg
from pydantic import JsonValue

from recovery.open_segment import OpenSegment, ended, is_overdue, looked
from recovery.value import Instant, Value
from tasks.postgres.agent_memory import Alerts, utc_now

PATIENCE_SECONDS = 5.0
LONGEST_PAUSE_SECONDS = 10.0
KEEP = "6 hours"

_MAKE = """
create schema if not exists standfast;
create table if not exists standfast.beat (
  id bigint generated always as identity primary key,
  at timestamptz not null default clock_timestamp(),
  lsn pg_lsn not null default pg_current_wal_insert_lsn());
"""
_LOOK = """
select pg_is_in_recovery(),
       case when pg_is_in_recovery()
            then coalesce((select received_tli from pg_stat_wal_receiver),
                          (select timeline_id from pg_control_checkpoint()))
            else ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int end,
       case when pg_is_in_recovery() then pg_last_wal_receive_lsn() else pg_current_wal_flush_lsn() end - '0/0',
       case when pg_is_in_recovery() then pg_last_wal_replay_lsn() - '0/0' end,
       pg_last_xact_replay_timestamp(),
       case when not pg_is_in_recovery() and current_setting('archive_mode') <> 'off'
            then pg_walfile_name(pg_current_wal_lsn()) end,
       pg_snapshot_xmax(pg_current_snapshot())::text::bigint,
       extract(epoch from current_setting('archive_timeout')::interval)::float
"""
_BEAT = "insert into standfast.beat default values returning at"
_END_SEGMENT = "select pg_switch_wal()"
_SWEEP = f"delete from standfast.beat where at < clock_timestamp() - interval '{KEEP}'"  # noqa: S608 -- a constant


class Pulse(Value):
    """What the server said last. `flushed_lsn`: flushed on a primary, received on a standby; `beat_at`: last row."""

    seen_at: Instant
    role: str
    timeline: int
    flushed_lsn: int | None
    replayed_lsn: int | None = None
    replayed_at: Instant | None = None
    beat_at: Instant | None = None


class Heartbeat:
    """`run` is the body of a thread; `pulse` what it saw last."""

    def __init__(
        self,
        dsn: str,
        *,
        alerts: Alerts,
        beats: bool = True,
        every_seconds: float = 1.0,
        now: Callable[[], datetime] = utc_now,
        kept_down: Callable[[], str] = lambda: "",
    ) -> None:
        self._kept_down = kept_down
        self._dsn = dsn
        self._alerts = alerts
        self._beats = beats
        self._every_seconds = every_seconds
        self._now = now
        self.pulse: Pulse | None = None
        self._segment: OpenSegment | None = None

    def status(self) -> JsonValue:
        """The last pulse, or None before the first."""
        return None if self.pulse is None else self.pulse.model_dump(mode="json")

    def run(self, stop: threading.Event) -> None:
        """Beat until `stop`. A server that is down, restarting or stopped is tried again with growing pauses."""
        pause = 0.0
        while not stop.wait(pause):
            try:
                self._session(stop)
            except psycopg.Error as error:
                pause = min(max(2 * pause, 0.2), LONGEST_PAUSE_SECONDS)
                self._alerts.tell("postgres", *self._unasked(next(iter(str(error).splitlines()), "")))

    def _unasked(self, said: str) -> tuple[str, str]:
        """Why the server can't be asked, and what to do: nobody is to start one that is kept stopped on purpose."""
        if why := self._kept_down():
            return (
                f"Postgres is kept stopped on purpose: {why}",
                "don't start it by hand; 'dr plan failback' lists what it alone holds and brings it back",
            )
        why = said or "no answer in time"
        return (
            f"Postgres can't be asked: {why}",
            "see whether the server runs and the agent's dsn is right; the agent tries again",
        )

    def _session(self, stop: threading.Event) -> None:
        options = f"-c statement_timeout={int(PATIENCE_SECONDS * 1000)} -c synchronous_commit=local"
        with psycopg.connect(
            self._dsn,
            autocommit=True,
            connect_timeout=int(PATIENCE_SECONDS),
            application_name="standfast-agent",
            options=options,
        ) as connection:
            made, count = False, 0
            while True:
                with _patience(connection, PATIENCE_SECONDS * 2):
                    made = self._once(connection, made=made, sweep=count % 60 == 0)
                self._alerts.over("postgres")
                count += 1
                if stop.wait(self._every_seconds):
                    return

    def _once(self, connection: psycopg.Connection[Any], *, made: bool, sweep: bool) -> bool:
        """One look and, on a primary, one row. Gives whether the table is known to be there."""
        row = connection.execute(_LOOK).fetchone()
        standby, timeline, flushed, replayed, replayed_at, *segment = row or (True, 0, None, None, None, None, 0, 0.0)
        beat_at = None
        if self._beats and not standby:
            if not made:
                connection.execute(_MAKE)
            beat = connection.execute(_BEAT).fetchone()
            beat_at = beat[0] if beat else None
            if sweep:
                connection.execute(_SWEEP)
        self.pulse = Pulse(
            seen_at=self._now(),
            role="standby" if standby else "primary",
            timeline=timeline,
            flushed_lsn=None if flushed is None else int(flushed),
            replayed_lsn=None if replayed is None else int(replayed),
            replayed_at=replayed_at,
            beat_at=beat_at,
        )
        self._bound(connection, *segment)
        return not standby

    def _bound(self, connection: psycopg.Connection[Any], name: str | None, xid: int, timeout_seconds: float) -> None:
        """End the segment that is being written where the server should have. `name`: None: nothing is archived."""
        if name is None:
            self._segment = None
            return
        now = time.monotonic()
        self._segment = looked(self._segment, name=name, xid=xid, at_seconds=now)
        if self._segment.since_seconds == now:  # another one than at the last look
            self._alerts.over("open-segment")
        if not is_overdue(self._segment, at_seconds=now, timeout_seconds=timeout_seconds):
            return
        self._segment = ended(self._segment, at_seconds=now)
        try:
            connection.execute(_END_SEGMENT)
        except psycopg.errors.InsufficientPrivilege as refused:
            self._alerts.tell(
                "open-segment",
                f"a segment is open beyond archive_timeout and may not be ended: {refused.diag.message_primary}",
                "grant the agent's role execute on function pg_switch_wal(), or make it a superuser",
            )


@contextmanager
def _patience(connection: psycopg.Connection[Any], seconds: float) -> Iterator[None]:
    """A server that was stopped (SIGSTOP) never answers: then the line is cut, which psycopg raises as an error."""

    def cut() -> None:
        try:
            with socket.socket(fileno=os.dup(connection.fileno())) as line:
                line.shutdown(socket.SHUT_RDWR)
        except (OSError, psycopg.Error):
            return  # closed meanwhile: nobody waits any more

    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
