"""No false alarm: marks taken while rows, sequences and definitions change are met exactly by restored copies."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import psycopg
from restored_scene import GARDEN, Scene, backed_up, files, one, run, started, wait_for

from deployments.lab.scratch_cluster import cluster
from recovery.check import Verdict, findings_of, verdict
from recovery.point import lsn_number
from tasks.postgres.checks import table
from tasks.postgres.checks.context import Target
from tasks.postgres.mark import take

WRITES = (
    "insert into garden.bed (name, size) select 'w' || nextval('garden.free'), 5",
    "update garden.plant set note = note || '!', photo = sha256(coalesce(photo, 'x')) where id % 50 = {n} % 50",
    "delete from garden.plant where id = {n}",
    "insert into garden.plant (bed_id, note) values (1 + {n} % 50, 'n{n}')",
    "insert into garden.log values (date '2026-01-01' + {n} % 300, 'w{n}')",
    "select lo_put(70001, {n}, 'x')",
    "begin; insert into garden.parent values ({n}); rollback",
)
DDL = (
    "create table garden.made_{n} (id serial primary key, a text); insert into garden.made_{n} (a) values ('{n}')",
    "alter table garden.plant add column extra_{n} int default {n}",
    "create index concurrently plant_{n} on garden.plant (note)",
    "create temp table passing_{n} (a int)",
    "create or replace function garden.grow(n int) returns int language sql immutable as 'select n + {n}'",
    "vacuum garden.plant",
    "refresh materialized view garden.count_by_bed",
    "truncate garden.log_2025",
    "cluster garden.plant using plant_by_day",
)
CONFLICTS = (
    psycopg.errors.DeadlockDetected,
    psycopg.errors.DuplicateTable,
    psycopg.errors.DuplicateColumn,
    psycopg.errors.InternalError_,  # two writers of one large object: "tuple concurrently updated"
)


@contextmanager
def storm(dsn: str) -> Iterator[list[str]]:
    """Two writers and one who changes definitions, until the end of the context; gives what went wrong."""
    stop, wrong = threading.Event(), list[str]()

    def go(statements: tuple[str, ...], seed: int) -> None:
        random = Random(seed)
        with psycopg.connect(dsn, autocommit=True) as connection:
            while not stop.is_set():
                statement = random.choice(statements).format(n=random.randrange(1, 2000))
                try:
                    connection.execute(statement.encode())
                except CONFLICTS:
                    continue
                except psycopg.Error as error:
                    wrong.append(f"{statement}: {error}")
                    return

    threads = [threading.Thread(target=go, args=(what, seed)) for seed, what in enumerate((WRITES, WRITES, DDL))]
    for thread in threads:
        thread.start()
    try:
        yield wrong
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_a_copy_at_a_mark_taken_under_load_equals_it() -> None:
    folder = Path(tempfile.mkdtemp(prefix="sf-"))
    try:
        with cluster(folder / "source", archive=True, standby=True) as source:
            assert source.standby is not None
            assert source.archive_dir is not None
            run(source.dsn, GARDEN.read_text())
            with storm(source.dsn) as wrong:
                backup = backed_up(source, folder / "base")
                marks = []
                for _ in range(2):
                    behind = str(one(source.dsn, "select pg_current_wal_lsn()"))
                    wait_for("replay", lambda: one(source.standby.dsn, f"select pg_last_wal_replay_lsn() > '{behind}'"))  # noqa: B023
                    marks.append(take(source.standby.dsn, now=datetime.now(UTC), patience_seconds=60))
            assert wrong == []
            end = lsn_number(str(one(source.dsn, "select pg_current_wal_lsn()")))
            last = str(one(source.dsn, "select pg_walfile_name(pg_switch_wal())"))
            wait_for("archiving", (source.archive_dir / last).exists)
        for number, mark in enumerate(marks):
            scene = Scene(
                source=source, base=folder / "base", archive=source.archive_dir, backup=backup, mark=mark,
                moment=mark.at, end=end,
            )  # fmt: skip
            attempt = folder / f"a{number}"
            attempt.mkdir()
            with started(files(scene, attempt, Target(kind="lsn", lsn=mark.lsn))) as context:
                checks = (*table.before_start(context)[2:], *table.running(context))
            assert findings_of(checks) == ()
            assert verdict(checks) is Verdict.MET, [check for check in checks if check.outcome != "passed"]
    finally:
        shutil.rmtree(folder)
