"""An estate that already has a backup tool: a real cluster that archives by it, a home whose catalog says so."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from deployments.lab.postgres import server
from recovery.catalog import Catalog, S3Endpoint
from recovery.check import Check
from recovery.plan import Plan
from recovery.proof import Proof
from tasks import aws, backing, keys
from tasks.engine import Act
from tasks.home import Home
from tasks.postgres.run_as import give

BASE = {
    "listen_addresses": "",
    "wal_level": "replica",
    "archive_mode": "on",
    "track_commit_timestamp": "on",
    "shared_buffers": "16MB",
    "fsync": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


@dataclass(frozen=True, kw_only=True)
class Estate:
    """A home and the cluster behind its one resource `db`."""

    act: Act
    dsn: str

    @property
    def home(self) -> Home:
        return self.act.home

    def run(self, text: str) -> Any:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            found = connection.execute(text.encode())
            return found.fetchone()[0] if found.description and (found.rowcount or 0) else None  # type: ignore[index]

    def archived(self) -> str:
        """Close the segment and wait until it is in the archive; gives its name."""
        name = str(self.run("select pg_walfile_name(pg_current_wal_lsn())"))
        self.run("select pg_logical_emit_message(true, 'standfast', 'a record, so that there is something to switch')")
        self.run("select pg_switch_wal()")
        wait_for(
            f"archiving of {name}",
            lambda: str(self.run("select coalesce(last_archived_wal, '') from pg_stat_archiver")) >= name,
        )
        return name

    def take(self, which: str) -> backing.Taken:
        plan = backing.plan_backup(self.home, "db", which)  # type: ignore[arg-type]
        assert isinstance(plan, Plan)
        return backing.take(self.act, plan)


def aside(running: Estate, folder: Path) -> None:
    """A table in a tablespace: a restore must never bring it to where the source has it."""
    folder.mkdir()
    give(folder)
    running.run(f"create tablespace aside location '{folder}'")
    running.run("create table elsewhere tablespace aside as select i from generate_series(1, 1000) i")


def wait_for(what: str, true: Callable[[], object], patience_seconds: float = 40) -> None:
    end = time.monotonic() + patience_seconds
    while not true():
        assert time.monotonic() < end, f"{what} did not happen"
        time.sleep(0.05)


def by_name(proof: Proof) -> dict[str, Check]:
    return {check.name: check for check in proof.checks}


def tool(program: str, hint: str, *places: Path) -> Path:
    """The folder of a tool, or a visible skip with what is missing."""
    for place in places:
        if (place / program).exists():
            return place
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed here ({hint}): its adapter is not tested on this machine")
    return Path(found).parent


@contextmanager
def estate(
    folder: Path,
    *,
    bin_dir: Path,
    endpoint: S3Endpoint,
    resource: Mapping[str, Any],
    archiving: Callable[[Path, Path], Mapping[str, str]],
    ready: Callable[[], None] = lambda: None,
) -> Iterator[Estate]:
    """A cluster of `bin_dir` whose settings `archiving(data_dir, socket_dir)` gives, and its home."""
    home = folder / "home"
    home.mkdir()
    with ExitStack() as stack:
        sockets = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="standfast-")))
        give(sockets)
        data_dir = folder / "data"
        made = ["--no-sync", "--data-checksums", "--encoding=UTF8", "--locale=C", "--auth=trust"]
        data_dir.mkdir(mode=0o700)
        give(data_dir)
        server.tool(bin_dir, "initdb", "-D", str(data_dir), "-U", "postgres", *made)
        where = {"unix_socket_directories": str(sockets), "port": "5432"}
        server.configure(data_dir, {**BASE, **where, **archiving(data_dir, sockets)})
        process = server.start(bin_dir, data_dir, log=folder / "log")
        stack.callback(_end, process)
        server.wait_for_status(data_dir, log=folder / "log", alive=lambda: process.poll() is None)
        ready()
        dsn = f"host={sockets} port=5432 user=postgres dbname=postgres"
        aws.client("s3", endpoint, region="us-east-1").create_bucket(Bucket="backups")
        member = {"dsn": dsn, "data_dir": str(data_dir), "bin_dir": str(bin_dir)}
        opened = Home(folder=home, catalog=catalog(endpoint, {**resource, "members": {"east": member}}))
        keys.make(home / "keys", "engine", "engine")
        yield Estate(act=Act(home=opened), dsn=dsn)


def catalog(endpoint: S3Endpoint, resource: Mapping[str, Any]) -> Catalog:
    return Catalog.model_validate(
        {
            "schema": 1,
            "name": "estate",
            "sites": {"east": {"role": "primary", "region": "us-east-1", "s3": endpoint.model_dump()}},
            "ledger": {"home": "directory:ledger"},
            "objectives": {"critical": {"category": "c", "rpo": "15 min", "rto": "30 min", "proof_age": "1 day"}},
            "backups": {
                "daily": {
                    "full": {"schedule": {"cron": "0 3 * * *"}, "keep": "30 days"},
                    "marks": {"cron": "15 * * * *"},
                    "copies": ["east"],
                }
            },
            "proofs": {"daily": {"schedule": {"cron": "0 5 * * *"}, "site": "east"}},
            "services": {"core": {"owner": "team", "resources": ["db"]}},
            "resources": {
                "db": {
                    "kind": "postgres",
                    "objective": "critical",
                    "backup": "daily",
                    "proof": "daily",
                    "owner": "team",
                    "bucket": "backups",
                    "heartbeat": False,
                    "assertions": [{"name": "aside", "sql": "select count(*) from elsewhere", "expect": "1000"}],
                    **resource,
                }
            },
        }
    )


def now() -> datetime:
    return datetime.now(UTC)


def _end(process: subprocess.Popen[bytes]) -> None:
    server.stop(process)
