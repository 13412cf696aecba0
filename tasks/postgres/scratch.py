"""A scratch server: a restored data directory, started so that it can act on nothing and stops exactly at its target.

Separate from the verbs because its rules are Postgres's own and each of them guards against silent wrong data
(facts/postgres.md section 7): no setting of the source travels, one target, an explicit timeline, archiving off, no
network, a fresh folder for every attempt and never a second start in it.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import psutil
import psycopg

from recovery.errors import DrError, Failed, Refused, Unproven
from recovery.point import lsn_text
from tasks.postgres import run_as

PORT = 5432
_SOCKET_PATH_MOST = 90
_START_SECONDS = 10.0
_TOLD_TO_CLIENTS = ("the database system is", "terminating connection", "sorry, too many clients")
APPEARS_WITHIN_SECONDS = 10.0
GONE_AFTER_SECONDS = 0.3
"""A server that is absent for so long has ended."""


_KEPT = frozenset({"HOME", "LANG", "LANGUAGE", "LD_LIBRARY_PATH", "PATH", "TMPDIR", "TZ", "TZDIR", "USER"})
"""What a server needs of its starter's environment. Code in a backup can read its own, which must hold no secret."""


def bare(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment with nothing in it but what any program needs; locales are kept, options of Postgres are not."""
    return {name: value for name, value in environment.items() if name in _KEPT or name.startswith("LC_")}


@dataclass(frozen=True, kw_only=True, slots=True)
class Scratch:
    """One attempt's folder and who may use it."""

    folder: Path
    bin_dir: Path
    user: str

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.folder / "data"

    @property
    def spool(self) -> Path:
        """WAL that was fetched for this attempt."""
        return self.folder / "spool"

    @property
    def log(self) -> Path:
        """The server's log."""
        return self.folder / "server.log"

    @property
    def spent(self) -> bool:
        """Whether a server was started here and is gone: nothing is ever started again in such a folder.

        A start is noted before it is made and its pid afterwards, so an old note without a pid is a start that died.
        """
        note = self.folder / "started"
        try:
            pid, noted_at = note.read_text(), note.stat().st_mtime
        except FileNotFoundError:
            return False
        if not pid:
            return self.pid() is None and time.time() - noted_at > _START_SECONDS
        return _gone(int(pid)) and self.pid() is None

    def dsn(self, database: str = "postgres") -> str:
        """How to connect: the socket in the attempt's folder, through the server's cwd where that is too long."""
        folder = str(self.folder / "socket")
        if len(folder) > _SOCKET_PATH_MOST:
            folder = f"/proc/{self.pid()}/cwd/../socket"
        return psycopg.conninfo.make_conninfo(host=folder, port=PORT, user=self.user, dbname=database)

    def pid(self) -> int | None:
        """The running postmaster of this very data directory, or None.

        Postgres rewrites its pid file in place while it starts, so a file that does not read is read again.
        """
        for _ in range(10):
            try:
                return self._running()
            except (IndexError, ValueError):
                time.sleep(0.01)
        return None

    def _running(self) -> int | None:
        try:
            first = int((self.data / "postmaster.pid").read_text().splitlines()[0])
            process = psutil.Process(first)
            alive = process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()) == self.data.resolve()
        except (OSError, psutil.Error):
            return None
        return first if alive else None


def _gone(pid: int) -> bool:
    """Whether no process of that id runs; one that ended and was not yet collected is gone, too."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def start(scratch: Scratch, *, as_it_is: bool = False) -> bool:
    """Start the server of a fresh attempt; gives whether it really has no network. Returns before it has recovered.
    `as_it_is`: a copy of a server's own data, which recovers its own WAL, and no restored backup."""
    needed = () if as_it_is else ("backup_label", "recovery.signal")
    missing = [name for name in needed if not (scratch.data / name).exists()]
    if missing:
        raise Refused(
            f"the restored folder has no {' and no '.join(missing)}, so a server would begin at a wrong place",
            hint="never start it so: restore again from this backup, or from another",
        )
    argv = [
        str(scratch.bin_dir / "postgres"), "-D", str(scratch.data),
        "-c", f"config_file={scratch.folder / 'postgresql.conf'}",
        "-c", f"hba_file={scratch.folder / 'hba.conf'}",
        "-c", f"ident_file={scratch.folder / 'ident.conf'}",
    ]  # fmt: skip
    wrapped, isolated = run_as.server_argv(argv, isolated=True)
    run_as.give(scratch.folder)
    note = scratch.folder / "started"
    note.touch()
    with scratch.log.open("ab") as sink:
        process = subprocess.Popen(
            wrapped,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            start_new_session=True,
            cwd=scratch.folder,
            env=bare(os.environ),
        )
    fresh = scratch.folder / "started.new"
    fresh.write_text(str(process.pid))
    fresh.replace(note)
    return isolated


@dataclass(frozen=True, kw_only=True, slots=True)
class Reached:
    """Where a recovery stands: paused at its target, at this LSN, with this last commit."""

    lsn: int
    committed_at: datetime | None
    seconds: float


def await_target(scratch: Scratch, *, patience_seconds: float, say: Callable[[str, float | None], None]) -> Reached:
    """Wait until recovery is paused at its target.

    Raises Refused with the server's own words when it says why it ends before (another try would end the same), Failed
    when it is gone without a word (killed from outside, out of memory), which a fresh attempt may survive.
    """
    begin = time.monotonic()
    pause = 0.01
    absent_since: float | None = begin + APPEARS_WITHIN_SECONDS
    while time.monotonic() - begin < patience_seconds:
        if scratch.pid() is not None:
            absent_since = None
            if (found := _paused(scratch)) is not None:
                lsn, committed_at, paused = found
                if paused:
                    return Reached(lsn=lsn, committed_at=committed_at, seconds=time.monotonic() - begin)
                say(f"replayed {lsn_text(lsn)}", None)
        elif absent_since is None:
            absent_since = time.monotonic()
        if absent_since is not None and time.monotonic() - absent_since > GONE_AFTER_SECONDS:
            raise _ended(scratch)
        time.sleep(pause)
        pause = min(pause * 1.5, 0.2)
    raise Failed(
        f"recovery did not reach its target within {patience_seconds:g} s",
        hint="choose a younger backup (less WAL to replay), or give the step more patience in the catalog",
    )


def _ended(scratch: Scratch) -> DrError:
    if words := _last_words(scratch.log):
        return Refused(
            f"recovery ended before its target: {words}",
            hint="the WAL or the backup is damaged, or the target lies behind the archive; "
            "'dr points' shows gaps, the server's log is in the evidence",
        )
    return Failed(
        "the scratch server is gone without a word: it was killed from outside, or could not be started at all",
        hint="look for the kernel's out-of-memory messages (dmesg) and for who ends processes here; "
        f"its log is kept as log/{scratch.folder.name}.log",
    )


def _paused(scratch: Scratch) -> tuple[int, datetime | None, bool] | None:
    """Replayed LSN, last commit, and whether it is paused; None while the server takes no connections yet."""
    query = (
        "select (pg_last_wal_replay_lsn() - '0/0')::bigint, pg_last_xact_replay_timestamp(), "
        "pg_is_in_recovery() and pg_get_wal_replay_pause_state() = 'paused', pg_is_in_recovery()"
    )
    try:
        with psycopg.connect(scratch.dsn(), connect_timeout=5, autocommit=True) as connection:
            row = connection.execute(query).fetchone()
    except psycopg.OperationalError:
        return None
    if row is None or not row[3]:
        raise Failed(
            "the scratch server left recovery by itself, so it passed its target or met the end of WAL",
            hint="the archive has a gap or the target lies before the backup's end; see 'dr points'",
        )
    return int(row[0] or 0), row[1], bool(row[2])


def promote(scratch: Scratch, *, patience_seconds: float) -> None:
    """Leave recovery here and open for writing, if it is not. Raises Failed when it does not within its patience."""
    with psycopg.connect(scratch.dsn(), connect_timeout=5, autocommit=True) as connection:
        query = "select case when pg_is_in_recovery() then pg_promote(true, %s::int) else true end"
        row = connection.execute(query, (int(patience_seconds),)).fetchone()
    if row is None or not row[0]:
        raise Failed(f"the server was not promoted within {patience_seconds:g} s", hint=f"see {scratch.log.name}")


def stop(scratch: Scratch, *, patience_seconds: float, cleanly: bool = False) -> None:
    """Stop the server and every process of its group. Raises Unproven when something is still alive afterwards."""
    pid = scratch.pid()
    if pid is None:
        return
    group = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    os.kill(pid, signal.SIGINT if cleanly else signal.SIGQUIT)
    _, alive = psutil.wait_procs(group, timeout=patience_seconds)
    for process in alive:
        process.kill()
    _, alive = psutil.wait_procs(alive, timeout=10)
    if alive:
        raise Unproven(
            f"{len(alive)} processes of the scratch server do not end",
            hint="look for processes in uninterruptible sleep (disk), then run 'dr sweep --really'",
        )


def discard(scratch: Scratch) -> None:
    """End the server and remove the folder; re-read until it is gone (a deletion underway is not absence)."""
    stop(scratch, patience_seconds=10)
    for _ in range(5):
        shutil.rmtree(scratch.folder, ignore_errors=True)
        if not scratch.folder.exists() or (scratch.folder.is_mount() and not any(scratch.folder.iterdir())):
            return
        time.sleep(0.1)
    raise Failed(f"{scratch.folder.name} cannot be removed", hint="see who holds files there and their modes")


def _last_words(log: Path) -> str:
    """The first FATAL or PANIC of the server's log, without time and pid; what it told our own connections is none."""
    if not log.exists():
        return ""
    for line in log.read_text(errors="replace").splitlines():
        found = re.search(r"(?:FATAL|PANIC):\s+(.*)", line)
        if found and not found[1].startswith(_TOLD_TO_CLIENTS):
            return found[1]
    return ""
