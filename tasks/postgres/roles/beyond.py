"""What the archive holds beyond a standby, brought to it and replayed, before it is promoted (TRUTH.md, lost commits).

Separate from the promotion because it is the part that depends on the archive. Everything goes through the server's own
door (SQL), so that it works from any machine that can ask it: `COPY … TO PROGRAM` is allowed in recovery. Only files of
the pinned timeline are brought, so a clone's history in the archive is never followed.
"""

from __future__ import annotations

import base64
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from psycopg import sql

from recovery.errors import Failed
from recovery.point import lsn_number, lsn_text
from tasks.postgres import archived, wal
from tasks.postgres.reading import Connection, Deadline, only
from tasks.postgres.roles.servers import REPLAY_FOLDER
from tasks.postgres.seal import Keys
from tasks.store import Store

RESTORE_COMMAND = f'test -f {REPLAY_FOLDER}/%f && cp {REPLAY_FOLDER}/%f "%p"'
AT_ONCE = 8
"""Files on the standby's disk at the same time, besides what it keeps itself."""
STUCK_SECONDS = 10.0
_PIECE_BYTES = 24 * 1024 * 1024  # a multiple of 3, so that pieces of base64 join; far below Postgres's 1 GiB


@dataclass(frozen=True, kw_only=True, slots=True)
class Beyond:
    """What was replayed: how many files, up to where the archive reaches, how many bytes were gained."""

    files: int = 0
    end_lsn: int | None = None
    gained_bytes: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Replay:
    """Brings files to one standby and sees them replayed."""

    store: Store
    keys: Keys
    bin_dir: Path
    system_id: str
    timeline: int
    segment_bytes: int
    say: Callable[[str, float | None], None]

    def all(self, connection: Connection, received_lsn: int, deadline: Deadline) -> Beyond:
        """Replay all that the archive holds beyond `received_lsn`. The standby's settings are as before afterwards."""
        names = list(archived.files(self.store, self.system_id, self.timeline, received_lsn, self.segment_bytes))
        if not names:
            return Beyond()
        begin = replayed(connection)
        end = begin
        try:
            for first in range(0, len(names), AT_ONCE):
                end = self._batch(connection, names[first : first + AT_ONCE], deadline)
                self.say(f"replayed the archive up to {lsn_text(end)}", min(1.0, (first + AT_ONCE) / len(names)))
        finally:
            take_back(connection)
        return Beyond(files=len(names), end_lsn=end, gained_bytes=max(0, end - max(begin, received_lsn)))

    def _batch(self, connection: Connection, names: list[str], deadline: Deadline) -> int:
        with tempfile.TemporaryDirectory(prefix="standfast-") as folder:
            into = Path(folder)
            wal.fetch(self.store, self.system_id, names, into, keys=self.keys, segment_bytes=self.segment_bytes)
            _shell(connection, f"rm -rf {REPLAY_FOLDER} && mkdir -m 700 {REPLAY_FOLDER}")
            for name in names:
                full = into / name.removesuffix(".partial")
                (into / name).rename(full)
                _put(connection, full.name, full.read_bytes())
            end = wal.last_lsn(self.bin_dir, full)  # its last whole record: the next may go on in a file nobody has
        use(connection)
        _await(connection, end, deadline)
        return end


def use(connection: Connection) -> None:
    """Let the standby read our folder, at once: its receiver, which may hang on a silent primary, is ended."""
    connection.execute(sql.SQL("alter system set restore_command = {}").format(sql.Literal(RESTORE_COMMAND)))
    connection.execute("select pg_reload_conf()")
    connection.execute("select pg_terminate_backend(pid) from pg_stat_wal_receiver")


def take_back(connection: Connection) -> None:
    """Our setting and our folder are gone."""
    connection.execute("alter system reset restore_command")
    connection.execute("select pg_reload_conf()")
    _shell(connection, f"rm -rf {REPLAY_FOLDER}")


def replayed(connection: Connection) -> int:
    """The end of the last record replayed."""
    return lsn_number(only(connection, "select coalesce(pg_last_wal_replay_lsn(), '0/0')::text")[0])


def yield_to_replay(connection: Connection) -> None:
    """Sessions whose snapshots hold the replay up are ended: they may read again from the new primary."""
    connection.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity where backend_type = 'client backend' "
        "and pid <> pg_backend_pid() and application_name not like 'standfast%' and exists "
        "(select from pg_stat_activity where backend_type = 'startup' and wait_event like 'RecoveryConflict%')"
    )


def _await(connection: Connection, end: int, deadline: Deadline) -> None:
    at, since, pause = 0, time.monotonic(), 0.005
    while (now := replayed(connection)) < end:
        if now > at:
            at, since = now, time.monotonic()
        if time.monotonic() - since > STUCK_SECONDS or not deadline.left_seconds:
            raise Failed(
                f"the standby replayed only up to {lsn_text(now)} of the archive, which reaches {lsn_text(end)}",
                hint="see its server log: a damaged file, a full disk, or a slow one; nothing was promoted",
            )
        yield_to_replay(connection)
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)


def _put(connection: Connection, name: str, raw: bytes) -> None:
    fresh = f"{REPLAY_FOLDER}/{name}.new"
    for begin in range(0, len(raw), _PIECE_BYTES):
        text = base64.b64encode(raw[begin : begin + _PIECE_BYTES]).decode()
        program = f"base64 -d {'>>' if begin else '>'} {fresh}"
        connection.execute(sql.SQL("copy (select {}) to program {}").format(sql.Literal(text), sql.Literal(program)))
    _shell(connection, f"mv {fresh} {REPLAY_FOLDER}/{name}")


def _shell(connection: Connection, program: str) -> None:
    """A fixed command line of ours in the server's data directory; the names in it are hexadecimal. Nothing is sent to
    it: it reads nothing, and a row that comes after its end would be a broken pipe."""
    connection.execute(sql.SQL("copy (select where false) to program {}").format(sql.Literal(program)))
