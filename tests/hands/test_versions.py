"""Older Postgres, as far as this machine has any: archived by the agent, backed up, proven and marked."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest

from deployments.lab.postgres.server import major
from deployments.lab.process import wait_until
from deployments.lab.scratch_cluster import cluster, s3_server
from recovery.check import Outcome, Verdict
from recovery.errors import BadInput
from recovery.mark import compare
from tasks import backing, proving
from tasks.postgres.mark import take
from tasks.proving import Wanted
from tests.hands.engine_scene import Estate, by_name, estate, now
from tests.hands.restored_scene import caught_up, run
from tests.hands.test_agent import CLIENT, ROOT

FOUND = [
    *(Path(each) for each in os.environ.get("POSTGRES_BINS", "").split(os.pathsep) if each),
    *sorted(Path("/usr/lib/postgresql").glob("*/bin")),
]
BIN_DIRS = [each for each in FOUND if (each / "postgres").exists() and (each / "pg_basebackup").exists()]
NONE = pytest.param(None, marks=pytest.mark.skip("no other Postgres here: name bin folders in POSTGRES_BINS"))
GARDEN = """
create schema garden; create table garden.bed (id bigint generated always as identity primary key, name text not null);
create table garden.plant (id int primary key, bed bigint references garden.bed, height numeric, grown tstzrange,
  twice numeric generated always as (height * 2) stored);
create index on garden.plant using brin (height); create unlogged table garden.cache (a int);
create view garden.tall as select * from garden.plant where height > 5;
create function garden.one() returns int language sql as 'select 1';
create type garden.colour as enum ('red', 'green'); create role gardener; grant select on garden.bed to gardener;
insert into garden.bed (name) select 'bed ' || i from generate_series(1, 50) i;
insert into garden.plant select i, 1 + i % 50, i / 10.0, tstzrange('2026-01-01', '2026-02-01')
  from generate_series(1, 3000) i
"""


@pytest.fixture(scope="module", params=[pytest.param(each, id=str(each)) for each in BIN_DIRS] or [NONE])
def bin_dir(request: pytest.FixtureRequest) -> Path:
    found: Path = request.param
    return found


@pytest.fixture(scope="module")
def running(bin_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    folder = tmp_path_factory.mktemp("old")
    with ExitStack() as stack:
        endpoint = stack.enter_context(s3_server(folder / "s3"))
        door: dict[str, Path] = {}

        def archiving(data_dir: Path, sockets: Path) -> dict[str, str]:
            door.update(data_dir=data_dir, sockets=sockets)
            words = ["python3", "-I", "-S", str(CLIENT), f"{sockets}/agent"]
            return {"archive_command": f"{shlex.join(words)} %p"}

        def ready() -> None:
            stack.callback(_ended, _agent(folder, bin_dir, endpoint.model_dump(), **door))

        with estate(folder, bin_dir=bin_dir, endpoint=endpoint, resource={}, archiving=archiving, ready=ready) as found:
            found.run("alter system set summarize_wal = on" if major(bin_dir) >= 17 else "select 1")
            found.run("select pg_reload_conf()")
            found.run("create extension amcheck")
            found.run("create table elsewhere as select i from generate_series(1, 1000) i")
            found.run(GARDEN)
            found.take("full")
            found.run("insert into garden.bed (name) values ('wal')")
            found.archived()
            yield found


def _agent(
    folder: Path, bin_dir: Path, endpoint: dict[str, object], *, data_dir: Path, sockets: Path
) -> subprocess.Popen[bytes]:
    digest = hashlib.sha256(str(folder).encode()).digest()
    told = {
        "site": "east", "resource": "db", "dsn": f"host={sockets} port=5432 user=postgres dbname=postgres",
        "data_dir": str(data_dir), "bin_dir": str(bin_dir), "socket": str(sockets / "agent"),
        "address": f"127.{64 + digest[0] % 128}.{digest[1]}.{2 + digest[2] % 250}",
        "local": {"site": "east", "bucket": "backups", **endpoint},
    }  # fmt: skip
    file = folder / "agent.json"
    file.write_text(json.dumps(told))
    argv = [sys.executable, "-m", "deployments.cli.main", "agent", "run", "--config", str(file)]
    with (folder / "agent.log").open("ab") as sink:
        begun = subprocess.Popen(argv, cwd=ROOT, stdout=sink, stderr=sink)
    listens = (sockets / "agent").exists
    wait_until(listens, what="the agent", patience_seconds=40, hint=(folder / "agent.log").read_text()[-600:])
    return begun


def _ended(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(20)


def test_the_newest_moment_of_an_older_postgres_is_proven(running: Estate) -> None:
    made = proving.prove(running.act, Wanted(resource="db", sort="latest"))
    assert made.verdict is Verdict.MET, made.model_dump_json(indent=1)
    checks = by_name(made)
    for name in ("configuration", "manifest", "wal", "target", "amcheck", "rpo", "rto"):
        assert checks[name].outcome is Outcome.PASSED, checks[name]
    assert made.leftovers == ()


def test_a_moment_between_two_commits_of_an_older_postgres_is_proven(running: Estate) -> None:
    running.run("select pg_sleep(2.5)")  # a moment is trusted only as far from the backup as clocks may disagree
    running.run("insert into garden.bed (name) values ('before')")
    moment = now()
    running.run("insert into garden.bed (name) values ('after')")
    running.archived()
    made = proving.prove(running.act, Wanted(resource="db", sort="time", at=moment))
    assert made.verdict is Verdict.MET, made.model_dump_json(indent=1)
    assert by_name(made)["boundary"].outcome is Outcome.PASSED


def test_an_incremental_is_taken_and_proven_or_refused_with_the_version(running: Estate, bin_dir: Path) -> None:
    if major(bin_dir) < 17:
        records = list(running.home.ledger().list(""))
        with pytest.raises(BadInput, match="knows no incremental backup"):
            running.take("incremental")
        assert list(running.home.ledger().list("")) == records
        return
    taken = running.take("incremental")
    running.archived()
    made = proving.prove(running.act, Wanted(resource="db", sort="latest"))
    assert made.verdict is Verdict.MET, made.model_dump_json(indent=1)
    assert taken.id in made.point


def test_what_is_due_never_needs_what_the_version_lacks(running: Estate, bin_dir: Path) -> None:
    due = backing.plan_backup(running.home, "db", "due")
    arguments = [step.arguments for step in getattr(due, "steps", ())]
    assert not arguments or arguments[0]["kind"] == "full" or major(bin_dir) >= 17


def test_marks_of_an_older_standby_are_equal_for_equal_data_and_name_a_change(bin_dir: Path, tmp_path: Path) -> None:
    with cluster(tmp_path / "c", standby=True, bin_dir=bin_dir, settings={"wal_compression": "on"}) as source:
        assert source.standby is not None
        run(source.dsn, GARDEN)
        marks = []
        for statement in ("select 1", "vacuum full garden.plant", "update garden.plant set height = 1 where id = 7"):
            run(source.dsn, statement)
            caught_up(source, source.standby)
            marks.append(take(source.standby.dsn, now=datetime.now(UTC), patience_seconds=30))
    assert compare(marks[0], marks[1]) == ()
    assert any("garden.plant" in each.fact and "content" in each.fact for each in compare(marks[1], marks[2]))
