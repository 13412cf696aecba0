"""An estate on pgBackRest is backed up, proven and doubted like our own: by the real tool, on Postgres 15."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import zstandard
from moto.server import ThreadedMotoServer

from recovery.catalog import S3Endpoint
from recovery.check import Outcome, Verdict
from recovery.errors import BadInput, Failed
from recovery.evidence import Record
from recovery.wal import name_of
from tasks import backing, keeping, proving, restores
from tasks.journal import read_records
from tasks.proving import Wanted
from tests.hands.engine_scene import Estate, aside, by_name, estate, now, tool

LATEST = Wanted(resource="db", sort="latest")
POSTGRES_15 = Path("/usr/lib/postgresql/15/bin")


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Endpoint]:
    """Where marks would be; pgBackRest's repository is a folder."""
    told = tmp_path_factory.mktemp("s3") / "credentials.json"
    told.write_text(json.dumps({"access_key_id": "anybody", "secret_access_key": "anything"}))
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield S3Endpoint(endpoint_url=f"http://{host}:{port}", credentials=f"file:{told}")
    server.stop()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("estate")


@pytest.fixture(scope="module")
def running(folder: Path, endpoint: S3Endpoint) -> Iterator[Estate]:
    bin_dir = tool("postgres", "apt-get install postgresql-15", POSTGRES_15)
    program = tool("pgbackrest", "apt-get install pgbackrest") / "pgbackrest"
    config = folder / "pgbackrest.conf"

    def archiving(data_dir: Path, sockets: Path) -> dict[str, str]:
        for name in ("repo", "pgbackrest-log", "pgbackrest-lock", "pgbackrest-spool"):
            (folder / name).mkdir()
        config.write_text(
            f"[global]\nrepo1-path={folder}/repo\nlog-path={folder}/pgbackrest-log\nlock-path={folder}/pgbackrest-lock\n"
            f"spool-path={folder}/pgbackrest-spool\nstart-fast=y\ncompress-type=zst\njob-retry=0\nrepo1-retention-full=2\n"
            f"[main]\npg1-path={data_dir}\npg1-socket-path={sockets}\npg1-user=postgres\n"
        )
        return {"archive_command": f"{program} --config={config} --stanza=main archive-push %p"}

    def ready() -> None:
        subprocess.run(
            [str(program), f"--config={config}", "--stanza=main", "stanza-create"],
            check=True,
            capture_output=True,
            timeout=60,
        )

    options = {"stanza": "main", "config": str(config)}
    with estate(
        folder,
        bin_dir=bin_dir,
        endpoint=endpoint,
        resource={"engine": "pgbackrest", "engine_options": options},
        archiving=archiving,
        ready=ready,
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
    assert "pgbackrest leaves no backup_manifest" in checks["manifest"].fact
    assert checks["backup objects"].outcome is Outcome.UNPROVEN
    for name in ("configuration", "wal", "target", "amcheck", "page checksums", "rpo", "rto"):
        assert checks[name].outcome is Outcome.PASSED, checks[name]
    fetched = next(
        record.facts["result"]
        for record in _records(running, made.run)
        if record.kind == "step.ended" and record.facts["step"] == "fetch"
    )
    assert isinstance(fetched, dict)
    assert str(fetched["engine"]).startswith("pgBackRest 2.")


def test_a_differential_is_restored_with_its_full_to_a_moment_between_two_commits(running: Estate) -> None:
    taken = running.take("incremental")
    assert "_" in taken.id
    running.run("insert into t values (30001, 'before')")
    # A moment may only be trusted when it is further from the backup's end than clocks may disagree.
    running.run("select pg_sleep(4)")
    running.run("insert into t values (30002, 'before')")
    moment = now()
    running.run("insert into t values (30003, 'after')")
    running.archived()
    made = proving.prove(running.act, Wanted(resource="db", sort="time", at=moment))
    assert made.verdict is Verdict.MET, made.model_dump_json(indent=1)
    assert made.point == f"{taken.id.partition('_')[0]} + {taken.id}"
    assert by_name(made)["boundary"].outcome is Outcome.PASSED


def test_a_restore_that_is_kept_carries_nothing_of_the_source_and_of_the_tool(running: Estate, tmp_path: Path) -> None:
    into = tmp_path / "kept"
    restores.restore(running.act, restores.plan_restore(running.home, "db", None, into))
    settings = (into / "data" / "postgresql.auto.conf").read_text()
    assert "archive_mode = 'off'" in settings
    assert "restore_command" not in settings
    assert not (into / "data" / "recovery.signal").exists()
    (link,) = (into / "data" / "pg_tblspc").iterdir()
    assert link.resolve().is_relative_to(into)


def test_a_segment_that_vanishes_is_missed_by_name_and_a_gap_is_told_before_anything_is_restored(
    running: Estate, folder: Path
) -> None:
    running.run("insert into t select i, 'gap' from generate_series(40001, 41000) i")
    lost = running.archived()
    running.run("insert into t select i, 'behind' from generate_series(50001, 51000) i")
    running.archived()
    plan = proving.plan_proof(running.home, LATEST)
    there = next((folder / "repo" / "archive").rglob(f"{lost}-*"))
    hidden = there.rename(folder / there.name)
    try:
        made = proving.act_on(running.act, plan)
        assert made.verdict is Verdict.MISSED
        assert any(f"{lost} is not in the archive" in finding.fact for finding in made.findings), made.findings
        gap = proving.prove(running.act, LATEST)
        assert gap.verdict is Verdict.UNPROVEN
        assert lost in gap.findings[0].fact
    finally:
        hidden.rename(there)


def test_a_segment_whose_content_changed_in_the_repository_is_missed_by_name(running: Estate, folder: Path) -> None:
    running.run("insert into t select i, 'swap' from generate_series(60001, 61000) i")
    damaged = running.archived()
    other = name_of(1, int(damaged[-8:], 16) - 1)
    there, before = (next((folder / "repo" / "archive").rglob(f"{each}-*")) for each in (damaged, other))
    kept = there.read_bytes()
    there.write_bytes(before.read_bytes())
    try:
        engine = keeping.engine_at(running.home, "db", "east")
        system_id = engine.backups()[0].system_id
        with pytest.raises(Failed, match=f"{damaged} is damaged in the archive"):
            engine.fetch_wal(system_id, [damaged], folder)
    finally:
        there.write_bytes(kept)


def test_a_file_of_the_repository_that_is_damaged_is_named_and_nothing_of_it_is_used(
    running: Estate, folder: Path, tmp_path: Path
) -> None:
    engine = keeping.engine_at(running.home, "db", "east")
    full = engine.backups()[0]
    file = next((folder / "repo" / "backup" / "main" / full.id / "pg_data" / "base").rglob("1259.zst"))
    kept = file.read_bytes()
    raw = bytearray(zstandard.ZstdDecompressor().decompressobj().decompress(kept))
    raw[4000] ^= 1
    file.write_bytes(zstandard.ZstdCompressor().compress(bytes(raw)))
    try:
        with pytest.raises(Failed, match=r"1259.*checksum"):
            engine.fetch_data([full], tmp_path / "data", lambda done, expected: None)
    finally:
        file.write_bytes(kept)


def test_its_own_retention_is_the_only_one_and_the_last_proven_point_is_safe(running: Estate) -> None:
    swept = backing.sweep(running.home, "db", proven=frozenset(), really=False)
    assert [each.site for each in swept] == ["east"]
    assert not [each for each in swept[0].removed if each.endswith("F")]
    assert any("kept by pgbackrest's own retention" in each for each in swept[0].kept)


def test_a_fault_in_a_copy_of_the_backups_objects_is_refused_because_they_are_not_ours(running: Estate) -> None:
    fault = min(set(keeping.plantable("native")) - set(keeping.plantable("pgbackrest")))
    with pytest.raises(BadInput, match="pgbackrest's own"):
        proving.plan_proof(running.home, Wanted(resource="db", sort="latest", mutate=fault))


def test_wal_can_be_listed_and_fetched_where_no_data_directory_of_the_cluster_is(
    running: Estate, tmp_path: Path
) -> None:
    resource = running.home.resource("db")
    member = resource.members["east"].but(data_dir=str(tmp_path / "nowhere"))
    away = running.home.catalog.but(resources={"db": resource.but(members={"east": member})})
    engine = keeping.engine_at(type(running.home)(folder=running.home.folder, catalog=away), "db", "east")
    found = engine.backups()[0]
    first = name_of(found.timeline, found.begin_lsn // found.segment_bytes)
    assert engine.archive(found.system_id).stretches
    assert engine.fetch_wal(found.system_id, [first], tmp_path) == found.segment_bytes
    assert found.ended_at < now() + timedelta(seconds=2)


def _records(running: Estate, run: str) -> tuple[Record, ...]:
    return read_records(running.home.ledger(), run)
