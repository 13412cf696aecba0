"""What all contenders share: the S3 server (http, and https for pgBackRest), the generated database, folders.

Separate from the contenders so that each is measured on the same bytes.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from deployments.lab.s3 import weed
from deployments.lab.s3.client import wait_until_ready
from deployments.lab.scratch_cluster import Cluster, cluster
from recovery.catalog import Member, S3Endpoint
from tasks.postgres import wal_file
from tasks.s3_store import S3Store, open_store

REGION = "us-east-1"
BUCKET = "bench"
SETTINGS = {"shared_buffers": "256MB", "max_wal_size": "2GB", "max_connections": "30"}
EVENTS = """
create table events (id bigint, account int, at timestamptz, kind text, payload text);
insert into events select i, (random() * 100000)::int, now() - i * interval '1 s', 'kind ' || i % 17,
  md5(i::text) || repeat('.', (i % 60)::int) || md5((i * 7)::text) from generate_series(1, {rows}) i;
create index on events (id); create index on events (account, at);
create table moment (at timestamptz, said text)
"""
CHANGES = (
    "update pgbench_accounts set abalance = abalance + 1 where aid % 400 = 0; delete from events where id % 1000 = 0"
)


@dataclass(frozen=True, kw_only=True)
class S3:
    """The S3 server: its endpoint, its https port, its process."""

    endpoint: S3Endpoint
    host: str
    tls_port: int
    pid: int
    access_key: str
    secret_key: str

    def store(self, prefix: str = "") -> S3Store:
        """A store of ours below a prefix."""
        return open_store(self.endpoint, BUCKET, prefix, region=REGION)

    def environment(self) -> dict[str, str]:
        """What AWS-speaking tools read."""
        return {
            **os.environ,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }


@dataclass(frozen=True, kw_only=True)
class Scene:
    """The database, the S3 server, where to work, how much of everything."""

    source: Cluster
    member: Member
    s3: S3
    folder: Path
    mb: int
    segments: int


@contextmanager
def scene(folder: Path, *, mb: int, segments: int) -> Iterator[Scene]:
    """Servers up and the database filled; all gone at the end."""
    with ExitStack() as stack:
        s3 = stack.enter_context(s3_server(folder / "s3"))
        source = stack.enter_context(cluster(folder / "source", archive=True, settings=SETTINGS))
        pgbench = [str(source.bin_dir / "pgbench")]
        fill(source.dsn, pgbench, mb)
        member = Member(dsn=source.dsn, data_dir=str(source.data_dir), bin_dir=str(source.bin_dir))
        yield Scene(source=source, member=member, s3=s3, folder=folder, mb=mb, segments=segments)


def fill(dsn: str, pgbench: list[str], mb: int) -> None:
    """Half of it pgbench with foreign keys (15 MB a unit), half events, which compress like real rows."""
    tool = [*pgbench, "-i", "-q", "-s", str(max(1, mb // 30)), "--foreign-keys", dsn]
    subprocess.run(tool, check=True, capture_output=True)
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in EVENTS.format(rows=mb * 2600).split(";"):
            connection.execute(statement.encode())
        connection.execute(b"vacuum analyze")
        connection.execute(b"checkpoint")


def change(dsn: str) -> None:
    """What an incremental backup finds."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in CHANGES.split(";"):
            connection.execute(statement.encode())
        connection.execute(b"checkpoint")


def write_wal(dsn: str, segments: int) -> datetime:
    """That many segments of inserts and updates with a marked moment near their end; gives the moment."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("create table if not exists t (id bigint generated always as identity, a int, b text)")
        begin = _lsn(connection)
        while _lsn(connection) - begin < segments * 16 * 2**20:
            connection.execute("insert into t (a, b) select i, md5(i::text) from generate_series(1, 30000) i")
            connection.execute("update t set a = a + 1 where id % 50 = 0")
        connection.execute("insert into moment values (clock_timestamp(), 'before')")
        time.sleep(0.05)
        row = connection.execute("select clock_timestamp()").fetchone()
        time.sleep(0.05)
        connection.execute("insert into moment values (clock_timestamp(), 'after')")
        connection.execute("select pg_switch_wal()")
        connection.execute("insert into moment values (clock_timestamp(), 'later')")
        connection.execute("select pg_switch_wal()")
    at: datetime = row[0] if row else datetime.now(UTC)
    return at.astimezone(UTC)


def _lsn(connection: psycopg.Connection[tuple[object, ...]]) -> int:
    row = connection.execute("select (pg_current_wal_insert_lsn() - '0/0')::bigint").fetchone()
    return int(str(row[0])) if row else 0


def archived(dsn: str, patience_seconds: float = 300.0) -> None:
    """Switch the segment and wait until archive_command has taken it."""
    deadline = time.monotonic() + patience_seconds
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("insert into moment values (clock_timestamp(), 'later still')")
        row = connection.execute("select pg_walfile_name(pg_switch_wal() - 1)").fetchone()
        while time.monotonic() < deadline:
            done = connection.execute("select last_archived_wal >= %s from pg_stat_archiver", row).fetchone()
            if done and done[0]:
                return
            time.sleep(0.2)
    raise RuntimeError("the server's archive_command lags")


def stand_in(files: list[Path], folder: Path) -> list[Path]:
    """A data directory as far as an archiver looks at one: these segments in pg_wal, marked `.ready`."""
    status = folder / "pg_wal" / "archive_status"
    status.mkdir(parents=True)
    (folder / "global").mkdir()
    system = struct.pack("=Q", int(wal_file.header(files[0]).system_id))
    (folder / "global" / "pg_control").write_bytes(system + bytes(8184))
    for file in files:
        shutil.copyfile(file, folder / "pg_wal" / file.name)
        (status / f"{file.name}.ready").touch()
    return [folder / "pg_wal" / file.name for file in files]


@contextmanager
def s3_server(folder: Path) -> Iterator[S3]:
    """One S3 server that speaks http and, by a certificate of its own, https."""
    at = f"127.{random.randint(64, 190)}.{random.randint(1, 250)}.{random.randint(2, 250)}"
    with ExitStack() as stack:
        runtime = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="standfast-")))
        one = weed.prepare(folder, address=at)
        tls_port = weed.free_base_port(at, f"{folder}-tls")
        subject = ["-subj", "/CN=localhost", "-addext", f"subjectAltName=DNS:localhost,IP:{at}"]
        key, cert = folder / "key.pem", folder / "cert.pem"
        new = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
        subprocess.run([*new, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
        tls = [f"-s3.port.https={tls_port}", f"-s3.cert.file={cert}", f"-s3.key.file={key}"]
        with (folder / "log" / "server.log").open("ab") as sink:
            process = subprocess.Popen(
                [*weed.argv(one, runtime), *tls],
                env={**os.environ, **weed.ENVIRONMENT},
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
            )
        stack.callback(process.wait)
        stack.callback(process.kill)
        stack.callback(_unlink, one.sockets)
        wait_until_ready(one.endpoint, alive=lambda: process.poll() is None)
        pair = json.loads(one.credentials_file.read_text())
        made = S3(
            endpoint=one.endpoint, host=at, tls_port=tls_port, pid=process.pid,
            access_key=pair["access_key_id"], secret_key=pair["secret_access_key"],
        )  # fmt: skip
        made.store()._client.create_bucket(Bucket=BUCKET)
        yield made


def _unlink(paths: list[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
