"""Throwaway real servers for tests: a Postgres cluster (with a standby when asked) and an S3 server.

Separate from the lab because most tests need one server for a second, and neither sites nor proxies.
"""

from __future__ import annotations

import hashlib
import os
import random
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from deployments.lab.parts import postgres_bin_dir
from deployments.lab.postgres import server
from deployments.lab.process import wait_until
from deployments.lab.s3 import weed
from deployments.lab.s3.client import wait_until_ready
from recovery.catalog import S3Endpoint
from tasks.postgres.run_as import give
from tasks.postgres.stopping import servers_in

SETTINGS = {
    "listen_addresses": "",
    "wal_level": "replica",
    "summarize_wal": "on",
    "wal_compression": "pglz",
    "track_commit_timestamp": "on",
    "max_wal_senders": "10",
    "max_connections": "30",
    "shared_buffers": "16MB",
    "fsync": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
PORT = 5432


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A running cluster. Superuser postgres, no password, reached through a unix socket in a private folder.

    `archive_dir` holds raw WAL files as archived (with `archive=True`); `standby` is its streaming standby, if asked.
    """

    data_dir: Path
    bin_dir: Path
    socket_dir: Path
    dsn: str
    log: Path
    archive_dir: Path | None
    process: subprocess.Popen[bytes]
    standby: Cluster | None = None

    @property
    def pid(self) -> int:
        """The postmaster's."""
        return self.process.pid

    def stop(self) -> None:
        """Stop cleanly; the data stays until the end of the context."""
        server.stop(self.process)

    def kill(self) -> None:
        """kill -9 of the postmaster and all its children; returns when none is left."""
        os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()
        wait_until(
            lambda: not servers_in(self.data_dir), what="the end of all backends", patience_seconds=10, hint="see ps"
        )


@contextmanager
def cluster(
    folder: Path,
    *,
    archive: bool = False,
    settings: Mapping[str, str] | None = None,
    standby: bool = False,
    standby_settings: Mapping[str, str] | None = None,
    segment_mb: int = 16,
    bin_dir: Path | None = None,
) -> Iterator[Cluster]:
    """A fresh cluster in `folder` (made when missing), running; stopped and removed at the end. About a second.

    A standby streams through a slot named `standby` and has the same settings but for `standby_settings`. `bin_dir`
    names another Postgres than the embedded one. Raises Failed when it does not start.
    """
    bin_dir = bin_dir or postgres_bin_dir()
    folder.mkdir(parents=True, exist_ok=True)
    archive_dir = folder / "archive" if archive else None
    chosen = {**SETTINGS, **_archiving(archive_dir), **(settings or {})}
    with ExitStack() as stack:
        if server.major(bin_dir) < 17:
            chosen.pop("summarize_wal")
        data_dir = folder / "data"
        stack.callback(shutil.rmtree, data_dir, ignore_errors=True)
        server.initdb(bin_dir, data_dir, auth=["--auth=trust", f"--wal-segsize={segment_mb}"])
        primary = _run(stack, bin_dir, data_dir, archive_dir, chosen)
        if standby:
            copy = folder / "standby"
            stack.callback(shutil.rmtree, copy, ignore_errors=True)
            how = ["--checkpoint=fast", "--wal-method=stream", "--no-sync", "-R", "-C", "--slot=standby"]
            server.tool(bin_dir, "pg_basebackup", "-d", primary.dsn, "-D", str(copy), *how)
            give(copy)
            second = _run(stack, bin_dir, copy, None, {**chosen, "archive_mode": "off", **(standby_settings or {})})
            primary = Cluster(**{**primary.__dict__, "standby": second})
        yield primary


@contextmanager
def s3_server(folder: Path) -> Iterator[S3Endpoint]:
    """One S3 server with its data in `folder`, telemetry off; ended at the end. About three seconds to start.

    Gives its endpoint, whose `credentials` is `file:…`. It has no buckets.
    """
    address = _own_address(folder)
    with ExitStack() as stack:
        runtime = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="standfast-")))
        one = weed.prepare(folder / "s3", address=address)
        stack.callback(_unlink, one.sockets)
        with (folder / "s3" / "log" / "server.log").open("ab") as sink:
            process = subprocess.Popen(
                weed.argv(one, runtime),
                env={**os.environ, **weed.ENVIRONMENT},
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        stack.callback(_kill, process)
        wait_until_ready(one.endpoint, alive=lambda: process.poll() is None)
        yield one.endpoint


def _archiving(archive_dir: Path | None) -> dict[str, str]:
    if archive_dir is None:
        return {}
    archive_dir.mkdir(exist_ok=True)
    give(archive_dir)
    place = shlex.quote(str(archive_dir)).replace("%", "%%")
    return {"archive_mode": "on", "archive_command": f"test ! -f {place}/%f && cp %p {place}/%f"}


def _run(
    stack: ExitStack, bin_dir: Path, data_dir: Path, archive_dir: Path | None, settings: Mapping[str, str]
) -> Cluster:
    # Unix socket paths end at 107 bytes, so the socket never lies in the (possibly long) folder of a test.
    socket_dir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="standfast-")))
    give(socket_dir)
    server.configure(data_dir, {**settings, "unix_socket_directories": str(socket_dir), "port": str(PORT)})
    log = data_dir.with_suffix(".log")
    process = server.start(bin_dir, data_dir, log=log)
    stack.callback(_drop, process)
    server.wait_for_status(data_dir, log=log, alive=lambda: process.poll() is None)
    return Cluster(
        data_dir=data_dir,
        bin_dir=bin_dir,
        socket_dir=socket_dir,
        dsn=f"host={socket_dir} port={PORT} user=postgres dbname=postgres",
        log=log,
        archive_dir=archive_dir,
        process=process,
    )


def _drop(process: subprocess.Popen[bytes]) -> None:
    # An immediate shutdown removes the shared memory that a kill would leave behind.
    if process.poll() is None:
        process.send_signal(signal.SIGCONT)
        process.send_signal(signal.SIGQUIT)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    finally:
        process.wait()


def _unlink(paths: list[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _own_address(folder: Path) -> str:
    digest = hashlib.sha256(f"{folder}{os.getpid()}{random.random()}".encode()).digest()  # noqa: S311 -- no secret
    return f"127.{64 + digest[0] % 128}.{digest[1]}.{2 + digest[2] % 250}"
