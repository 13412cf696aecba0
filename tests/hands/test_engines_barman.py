"""An estate on barman-cloud is backed up, proven and doubted like our own: by the real tool, on a real S3 server."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments.lab.parts import postgres_bin_dir
from deployments.lab.scratch_cluster import s3_server
from recovery.catalog import S3Endpoint
from recovery.check import Outcome, Verdict
from recovery.errors import BadInput, Failed
from recovery.plan import NothingToDo
from tasks import backing, keeping, proving
from tasks.proving import Wanted
from tests.hands.engine_scene import Estate, aside, by_name, estate, tool

LATEST = Wanted(resource="db", sort="latest")
HINT = "pip install 'barman[cloud]==3.19.1' in an environment of its own, and name its bin folder in BARMAN_CLOUD_BIN"


@pytest.fixture(scope="module")
def bin_dir() -> Path:
    named = [Path(os.environ["BARMAN_CLOUD_BIN"])] if os.environ.get("BARMAN_CLOUD_BIN") else []
    return tool("barman-cloud-backup", HINT, *named)


@pytest.fixture(scope="module")
def endpoint(bin_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Endpoint]:
    with s3_server(tmp_path_factory.mktemp("s3")) as found:
        yield found


@pytest.fixture(scope="module")
def running(bin_dir: Path, endpoint: S3Endpoint, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    folder = tmp_path_factory.mktemp("estate")

    def archiving(data_dir: Path, sockets: Path) -> dict[str, str]:
        secret = json.loads(Path(endpoint.credentials.removeprefix("file:")).read_text())
        script = folder / "archive"
        script.touch(mode=0o700)
        script.write_text(
            "#!/bin/sh\n"
            f"export AWS_ACCESS_KEY_ID={secret['access_key_id']} AWS_SECRET_ACCESS_KEY={secret['secret_access_key']}\n"
            f"exec {shlex.quote(str(bin_dir / 'barman-cloud-wal-archive'))} --gzip"
            f" --endpoint-url {endpoint.endpoint_url}"
            ' --addressing-style path s3://backups/estate orders "$1"\n'
        )
        return {"archive_command": f"{shlex.quote(str(script))} %p", "summarize_wal": "off"}

    options = {"server": "orders", "bin_dir": str(bin_dir)}
    with estate(
        folder,
        bin_dir=postgres_bin_dir(),
        endpoint=endpoint,
        resource={"engine": "barman-cloud", "engine_options": options, "prefix": "estate"},
        archiving=archiving,
    ) as found:
        found.run("create extension amcheck; create table t (i int primary key, what text)")
        found.run("insert into t select i, 'full' from generate_series(1, 20000) i")
        aside(found, folder / "aside")
        found.take("full")
        found.run("insert into t select i, 'wal' from generate_series(20001, 21000) i")
        found.archived()
        yield found


def test_a_backup_and_its_wal_are_proven_by_the_same_plan_and_the_same_checks(running: Estate) -> None:
    made = proving.prove(running.act, LATEST)
    checks = by_name(made)
    assert made.verdict is Verdict.MET, made.model_dump_json(indent=1)
    assert by_name(made)["assertion aside"].outcome is Outcome.PASSED
    assert len(list((running.home.folder / "log").glob("db-prove-*"))) == 1, "one attempt is enough"
    assert made.leftovers == ()
    assert checks["manifest"].outcome is Outcome.UNPROVEN
    assert "barman-cloud leaves no backup_manifest" in checks["manifest"].fact
    for name in ("configuration", "wal", "target", "amcheck", "page checksums", "rpo", "rto"):
        assert checks[name].outcome is Outcome.PASSED, checks[name]


def test_a_segment_that_vanishes_is_missed_by_name_and_a_gap_is_told_before_anything_is_restored(
    running: Estate,
) -> None:
    running.run("insert into t select i, 'gap' from generate_series(40001, 41000) i")
    lost = running.archived()
    running.run("insert into t select i, 'behind' from generate_series(50001, 51000) i")
    running.archived()
    plan = proving.plan_proof(running.home, LATEST)
    store = running.home.backups("db", "east")
    key = f"orders/wals/{lost[:16]}/{lost}.gz"
    kept = store.get(key)
    assert kept is not None
    store.delete(key)
    try:
        made = proving.act_on(running.act, plan)
        assert made.verdict is Verdict.MISSED
        assert any(f"{lost} is not in the archive" in finding.fact for finding in made.findings), made.findings
        gap = proving.prove(running.act, LATEST)
        assert gap.verdict is Verdict.UNPROVEN
        assert lost in gap.findings[0].fact
    finally:
        store.put(key, kept[0])


def test_a_server_that_does_not_answer_is_never_the_end_of_wal(running: Estate, tmp_path: Path) -> None:
    away = running.home.catalog.sites["east"].s3.but(endpoint_url="http://127.0.0.1:9")
    site = running.home.catalog.sites["east"].but(s3=away)
    home = type(running.home)(folder=running.home.folder, catalog=running.home.catalog.but(sites={"east": site}))
    here, there = (
        keeping.engine_at(each, "db", "east", running.home.backups("db", "east")) for each in (running.home, home)
    )
    first = next(iter(here.archive(here.backups()[0].system_id).stretches))
    name = f"{first.timeline:08X}{0:08X}{first.last:08X}"
    with pytest.raises(Failed, match="ended with") as trouble:
        there.fetch_wal("", [name], tmp_path)
    assert "is not in the archive" not in trouble.value.fact


def test_incrementals_are_refused_and_what_is_due_is_a_full(running: Estate) -> None:
    with pytest.raises(BadInput, match="takes full backups only"):
        backing.plan_backup(running.home, "db", "incremental")
    due = backing.plan_backup(running.home, "db", "due")
    assert isinstance(due, NothingToDo) or due.steps[0].arguments["kind"] == "full"


def test_its_own_retention_is_the_only_one(running: Estate) -> None:
    swept = backing.sweep(running.home, "db", proven=frozenset(), really=False)
    assert swept[0].removed == ()
    assert "retention by barman-cloud: RECOVERY WINDOW OF 30 DAYS" in swept[0].kept
