"""The server a base backup is taken from: what must be known of it beforehand, and pg_basebackup as a stream.

Separate from the backup's order of events because everything that can go wrong with the server is told here.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from subprocess import Popen
from typing import IO, Any

from recovery.catalog import Member
from recovery.errors import BadInput, Failed
from tasks.host import Host, end

_ASK = """select (select system_identifier from pg_control_system())::text, current_setting('server_version_num')::int,
  pg_size_bytes(current_setting('wal_segment_size'))::int, clock_timestamp(),
  coalesce(current_setting('summarize_wal', true), 'absent'),
  (select count(*) from pg_tablespace where spcname not in ('pg_default', 'pg_global'))::int,
  (select coalesce(sum(pg_database_size(oid)), 0) from pg_database)::bigint"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Server:
    """What a backup needs to know of its server. `size_bytes` is an estimate for progress."""

    system_id: str
    version: int
    segment_bytes: int
    clock: datetime
    summarize_wal: str
    tablespaces: int
    size_bytes: int


@contextmanager
def connected(member: Member) -> Iterator[Any]:
    """A connection (psycopg, autocommit). Raises Failed with what the server said when it can't be had."""
    import psycopg

    try:
        made = psycopg.connect(
            member.dsn, autocommit=True, connect_timeout=10, options="-c statement_timeout=60s -c lock_timeout=10s"
        )
    except psycopg.Error as error:
        raise _unreachable(error) from None
    with made:
        yield made


def look(connection: Any) -> Server:
    """Ask the server. Raises Failed."""
    import psycopg

    try:
        row = connection.execute(_ASK).fetchone()
    except psycopg.Error as error:
        raise _unreachable(error) from None
    system_id, version, segment_bytes, clock, summarize_wal, tablespaces, size_bytes = row
    return Server(
        system_id=system_id,
        version=version,
        segment_bytes=segment_bytes,
        clock=clock,
        summarize_wal=summarize_wal,
        tablespaces=tablespaces,
        size_bytes=size_bytes,
    )


def clock_of(connection: Any) -> datetime:
    """The server's clock: commit times, and so targets of recovery, are in its terms and not in ours."""
    import psycopg

    try:
        now: datetime = connection.execute("select clock_timestamp()").fetchone()[0]
    except psycopg.Error as error:
        raise _unreachable(error) from None
    return now


def hold_wal(connection: Any) -> None:
    """Keep all WAL from now on until the connection ends, by a temporary slot, so that the backup can carry its own."""
    import psycopg

    try:
        connection.execute(
            "select pg_create_physical_replication_slot('standfast_base_' || pg_backend_pid(), true, true)"
        )
    except psycopg.Error as error:
        raise Failed(
            f"no temporary replication slot could be made: {_said(error)}",
            hint="raise max_replication_slots, and give the backup's role REPLICATION",
        ) from None


def refuse_unfit(server: Server, *, incremental: bool) -> None:
    """Raise BadInput, before anything is begun, when this server can't be backed up in the way asked."""
    if server.tablespaces:
        raise BadInput(
            f"the cluster has {server.tablespaces} tablespaces besides its own two; a streamed backup holds one",
            hint="move their tables into pg_default, or back this resource up with engine: pgbackrest",
        )
    if server.version < 140000:
        raise BadInput(
            f"the server's version is {server.version // 10000}", hint="PostgreSQL 14 is the oldest supported"
        )
    if incremental and server.version < 170000:
        raise BadInput(
            f"PostgreSQL {server.version // 10000} knows no incremental backup",
            hint="take full ones, by a policy without `incremental`, or upgrade to PostgreSQL 17 or later",
        )
    if incremental and server.summarize_wal != "on":
        raise BadInput(
            "summarize_wal is off, so the server does not know what changed",
            hint="alter system set summarize_wal = on; select pg_reload_conf(); then take a full backup first",
        )


@contextmanager
def base_stream(
    member: Member, host: Host, *, label: str, manifest: Path | None, end_patience_seconds: float = 60.0
) -> Iterator[IO[bytes]]:
    """pg_basebackup's tar as a stream, with all WAL that it needs to become consistent, its manifest last.

    Leaving normally waits for its end and raises Failed with what it said when that was bad; leaving by an error ends
    its whole process group.
    """
    dsn, env = _without_password(member.dsn)
    argv = [
        f"{member.bin_dir}/pg_basebackup", "-d", dsn, "-Ft", "-D", "-", "-X", "fetch", "--checkpoint=fast",
        "--manifest-checksums=CRC32C", "--no-password", "--no-estimate-size", f"--label={label}",
    ]  # fmt: skip
    if manifest:
        argv.append(f"--incremental={manifest}")
    try:
        process = host.open(argv, env=env)
    except OSError as error:
        raise BadInput(
            f"{argv[0]} can't be run: {error.strerror}", hint="correct bin_dir of this member in the catalog"
        ) from None
    said = _Said(process)
    try:
        stdout = process.stdout
        if stdout is None:
            raise Failed("pg_basebackup has no output", hint="report this as a defect of the host adapter")
        _widen(stdout)
        try:
            yield stdout
            code = said.code(process, end_patience_seconds)
        except Failed as error:
            end(process, grace_seconds=1.0)
            raise _with(error, said.text()) from None
        if code:
            raise Failed(
                f"pg_basebackup ended with {code}: {said.text() or 'it said nothing'}",
                hint="see the server's log of this time; nothing of this backup is visible",
            )
    finally:
        end(process, grace_seconds=1.0)
        said.close(process)


class _Said:
    """Drains stderr in a thread, so that a talkative program never blocks; keeps the last 4000 characters."""

    def __init__(self, process: Popen[bytes]) -> None:
        self._kept = b""
        self._thread = threading.Thread(target=self._drain, args=(process,), daemon=True, name="pg_basebackup stderr")
        self._thread.start()

    def _drain(self, process: Popen[bytes]) -> None:
        if process.stderr is not None:
            while piece := os.read(process.stderr.fileno(), 4096):
                self._kept = (self._kept + piece)[-4000:]

    def code(self, process: Popen[bytes], patience_seconds: float) -> int:
        import subprocess

        try:
            code = process.wait(patience_seconds)
        except subprocess.TimeoutExpired:
            raise Failed(
                f"pg_basebackup did not end within {patience_seconds:g} s of its last byte",
                hint="see whether the server is stopped",
            ) from None
        self._thread.join(5)
        return code

    def text(self) -> str:
        self._thread.join(0.5)
        return self._kept.decode("utf-8", "replace").strip().removeprefix("pg_basebackup: error: ")

    def close(self, process: Popen[bytes]) -> None:
        self._thread.join(5)
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def _with(error: Failed, said: str) -> Failed:
    return Failed(f"{error.fact}; pg_basebackup said: {said}", hint=error.hint) if said else error


def _widen(stream: IO[bytes]) -> None:
    """A pipe of 1 MiB instead of 64 KiB halves the wake-ups; where the limit is lower, it stays as it is."""
    import fcntl
    from contextlib import suppress

    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with suppress(OSError):
            fcntl.fcntl(stream.fileno(), fcntl.F_SETPIPE_SZ, 1024 * 1024)


def _without_password(dsn: str) -> tuple[str, dict[str, str]]:
    """The DSN for an argument list, and the environment that carries its password, if it had one."""
    from psycopg.conninfo import conninfo_to_dict, make_conninfo

    parts = conninfo_to_dict(dsn)
    password = parts.pop("password", None)
    clean = make_conninfo("", **parts)
    return clean, ({"PGPASSWORD": str(password)} if password else {})


def _said(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _unreachable(error: BaseException) -> Failed:
    return Failed(
        f"the server could not be asked: {_said(error)}",
        hint="see whether Postgres runs and takes connections (dsn in the catalog, pg_hba.conf, max_connections)",
    )
