"""A source with everything in it, a backup, a mark, WAL behind it, and copies restored from them: for tests only."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from deployments.lab.postgres import server
from deployments.lab.scratch_cluster import Cluster, cluster
from recovery.mark import Mark
from recovery.point import Backup, lsn_number, lsn_text
from tasks.postgres.checks.commits import boundary
from tasks.postgres.checks.context import CheckContext, Target
from tasks.postgres.mark import take

GARDEN = Path(__file__).with_name("garden.sql")


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What exists when the source is done: a base backup, the archive, a mark, a moment with commits around it."""

    source: Cluster
    base: Path
    archive: Path
    backup: Backup
    mark: Mark
    moment: datetime
    end: int

    @property
    def bin_dir(self) -> Path:
        return self.source.bin_dir


def run(dsn: str, text: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(text.encode())


def one(dsn: str, text: str) -> object:
    with psycopg.connect(dsn, autocommit=True) as connection:
        row = connection.execute(text.encode()).fetchone()
    return None if row is None else row[0]


def wait_for(what: str, true: object, patience_seconds: float = 20) -> None:
    end = time.monotonic() + patience_seconds
    while not true():  # type: ignore[operator]
        assert time.monotonic() < end, f"{what} did not happen"
        time.sleep(0.02)


@contextmanager
def scene(folder: Path) -> Iterator[Scene]:
    with cluster(folder / "source", archive=True, standby=True) as source:
        assert source.archive_dir is not None
        assert source.standby is not None
        standby = source.standby
        run(source.dsn, GARDEN.read_text())
        base = folder / "base"
        backup = backed_up(source, base)
        run(source.dsn, "insert into garden.bed (name, size) select 'late ' || i, i from generate_series(1, 20) i")
        run(
            source.dsn,
            "update garden.plant set note = 'changed' where id % 10 = 3; delete from garden.plant where id = 77",
        )
        beat(source.dsn)
        run(source.dsn, "create table standfast_before (a int)")
        moment = datetime.now(UTC)
        run(source.dsn, "create table standfast_after (a int)")
        caught_up(source, standby)
        mark = take(standby.dsn, now=datetime.now(UTC), patience_seconds=30)
        run(
            source.dsn,
            "insert into garden.bed (name) values ('after the mark'); select pg_logical_emit_message(true, 'x', 'y')",
        )
        end = lsn_number(str(one(source.dsn, "select pg_current_wal_lsn()")))
        last = str(one(source.dsn, "select pg_walfile_name(pg_switch_wal())"))
        wait_for("archiving", (source.archive_dir / last).exists)
        yield Scene(
            source=source, base=base, archive=source.archive_dir, backup=backup, mark=mark, moment=moment, end=end
        )


def beat(dsn: str) -> None:
    run(dsn, "insert into standfast.beat (at, lsn) values (clock_timestamp(), pg_current_wal_insert_lsn())")


def caught_up(source: Cluster, standby: Cluster) -> None:
    there = str(one(source.dsn, "select pg_current_wal_lsn()"))
    wait_for("replay", lambda: one(standby.dsn, f"select pg_last_wal_replay_lsn() >= '{there}'"))


def backed_up(source: Cluster, base: Path) -> Backup:
    how = ["-c", "fast", "-X", "none", "--no-sync"]
    server.tool(source.bin_dir, "pg_basebackup", "-d", source.dsn, "-D", str(base), *how)
    manifest = json.loads((base / "backup_manifest").read_text())
    span = manifest["WAL-Ranges"][0]
    now = datetime.now(UTC)
    return Backup(
        id="20261124T030000Z-full",
        resource="garden",
        system_id=str(manifest["System-Identifier"]),
        timeline=span["Timeline"],
        kind="full",
        begin_lsn=lsn_number(span["Start-LSN"]),
        end_lsn=lsn_number(span["End-LSN"]),
        begun_at=now,
        ended_at=now,
        server_version=180006,
        size_bytes=1,
        stored_bytes=1,
    )


def files(scene: Scene, folder: Path, target: Target) -> CheckContext:
    """The files of an attempt before its server starts."""
    data_dir = folder / "data"
    shutil.copytree(scene.base, data_dir)
    data_dir.chmod(0o700)
    for path in scene.archive.iterdir():
        if len(path.name) == 24 and path.name >= f"{scene.backup.timeline:08X}":
            shutil.copy(path, data_dir / "pg_wal" / path.name)
    (data_dir / "recovery.signal").touch()
    wanted = {
        "lsn": f"recovery_target_lsn = '{lsn_text(target.lsn or 0)}'\nrecovery_target_inclusive = off",
        "time": f"recovery_target_time = '{(target.at or scene.moment).isoformat(sep=' ')}'",
        "latest": "",
    }[target.kind]
    (data_dir / "postgresql.auto.conf").write_text(
        f"{wanted}\nrecovery_target_timeline = '{scene.backup.timeline}'\nrecovery_target_action = 'pause'\n"
        "restore_command = '/bin/false'\narchive_mode = off\nmax_logical_replication_workers = 0\nport = 5432\n"
        "listen_addresses = ''\nprimary_conninfo = ''\nprimary_slot_name = ''\nautovacuum = off\nfsync = off\n"
        f"unix_socket_directories = '{folder}'\n"
    )
    around = boundary(
        wal_dir=data_dir / "pg_wal",
        bin_dir=scene.bin_dir,
        timeline=scene.backup.timeline,
        begin_lsn=scene.backup.begin_lsn,
        at=target.at or scene.moment,
    )
    return CheckContext(
        dsn=f"host={folder} port=5432 user=postgres dbname=postgres",
        backup=scene.backup,
        target=target,
        timeline=scene.backup.timeline,
        data_dir=data_dir,
        bin_dir=scene.bin_dir,
        log=folder / "log",
        mark=scene.mark,
        boundary=around if target.kind == "time" else None,
        network_isolated=True,
        wal_dir=data_dir / "pg_wal",
        wal_end=scene.end,
        unlisted=(),
        promoted=target.kind == "latest",
        patience_seconds=60,
    )


@contextmanager
def started(context: CheckContext) -> Iterator[CheckContext]:
    """The attempt's server, running until it is paused at its target or promoted."""
    process = server.start(context.bin_dir, context.data_dir, log=context.log, isolated=True)
    try:
        server.wait_for_status(context.data_dir, log=context.log, alive=lambda: process.poll() is None)
        done = "not pg_is_in_recovery()" if context.promoted else "pg_get_wal_replay_pause_state() = 'paused'"
        wait_for("recovery", lambda: one(context.dsn, f"select {done}"))
        yield context
    finally:
        server.stop(process)
