"""Backups older than the window, on a real server: retention has taken the WAL behind them, their own end stays."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import zstandard

from deployments.cli.main import run as dr
from deployments.lab.postgres import server
from deployments.lab.scratch_cluster import Cluster, cluster
from recovery.catalog import Member
from recovery.choose import own_end
from recovery.point import Backup, lsn_number, lsn_text
from recovery.value import canonical
from recovery.wal import Archive, contiguous, name_of
from tasks import keys
from tasks.dir_store import DirStore
from tasks.host import LocalHost
from tasks.postgres import basebackup, scratch, scratch_conf
from tasks.postgres.checks import reached
from tasks.postgres.checks.context import Target
from tasks.postgres.place import Place
from tasks.postgres.run_as import give
from tests.hands.restored_scene import caught_up, one, run, wait_for
from tests.hands.test_mover import run_script
from tests.thought.ledger_scene import CATALOG

NOW = datetime.now(UTC)
SEGMENT = 16 * 1024 * 1024
AGES_DAYS = {"full": 25, "incremental": 20, "standby": 15, "base": 8, "new": 0.1}


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Each backup was taken when `t` held the rows that are told; `made` holds their markers with their later ages."""

    source: Cluster
    store: Path
    made: dict[str, Backup]
    rows: dict[str, list[int]]


def member(of: Cluster) -> Member:
    return Member(dsn=of.dsn, data_dir=str(of.data_dir), bin_dir=str(of.bin_dir))


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("own-end")
    with cluster(folder / "source", archive=True, standby=True) as source:
        assert source.standby is not None
        store, made, rows = DirStore(folder / "store"), {}, {}
        run(source.dsn, "create extension amcheck; create table t (i int)")
        for name in AGES_DAYS:
            for _ in range(3):  # WAL between the backups, which is what goes
                run(source.dsn, f"insert into t select coalesce(max(i), 0) + 1 from t; select '{name}'")
                run(source.dsn, "select pg_switch_wal()")
            rows[name] = list(range(1, int(str(one(source.dsn, "select max(i) from t"))) + 1))
            made[name] = take(source, store, name, made)
        run(source.dsn, "insert into t values (99)")
        run(source.dsn, "insert into t values (100)")
        last = str(one(source.dsn, "select pg_walfile_name(pg_switch_wal())"))
        assert source.archive_dir is not None
        wait_for("archiving", (source.archive_dir / last).exists)
        keep(source, store, made)
        yield Scene(source=source, store=folder / "store", made=made, rows=rows)


def take(source: Cluster, store: DirStore, name: str, made: dict[str, Backup]) -> Backup:
    assert source.standby is not None
    if name == "standby":
        caught_up(source, source.standby)
        run(source.standby.dsn, "checkpoint")
    return basebackup.take(
        member(source.standby if name == "standby" else source),
        store,
        host=LocalHost(),
        resource="orders",
        kind="incremental" if name == "incremental" else "full",
        parent=made["full"] if name == "incremental" else None,
        clock=lambda: datetime.now(UTC),
        stall_seconds=20,
    )


def keep(source: Cluster, store: DirStore, made: dict[str, Backup]) -> None:
    """The archive as the agent would have it, and markers that say how long ago the backups were taken."""
    for name, each in made.items():
        at = NOW - timedelta(days=AGES_DAYS[name])
        made[name] = each.but(begun_at=at - timedelta(seconds=9), ended_at=at)
        store.delete(f"{basebackup.folder(each)}/backup.json")
        store.put(f"{basebackup.folder(each)}/backup.json", canonical(made[name]))
    assert source.archive_dir is not None
    for file in source.archive_dir.iterdir():
        raw = file.read_bytes()
        told = {"sha256": hashlib.sha256(raw).hexdigest(), "size": str(len(raw))}
        system = next(iter(made.values())).system_id
        store.put(f"wal/{system}/{file.name[:8]}/{file.name}.zst", zstandard.compress(raw), told)


Dr = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def told(scene: Scene, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Dr:
    """`dr … --json` in a home of one site, whose bucket is a copy of the scene's."""
    shutil.copytree(scene.store, home / "bucket")
    monkeypatch.setattr("tasks.s3_store.open_store", lambda *_, **__: DirStore(home / "bucket"))
    daily = {**CATALOG["backups"]["daily"], "copies": ["east"]}
    daily["incremental"] = {**daily["incremental"], "keep": "30 days"}
    orders = {**CATALOG["resources"]["orders"], "heartbeat": False}
    orders["members"] = {"east": member(scene.source).model_dump(exclude_none=True)}
    document = {
        **CATALOG,
        "sites": {"east": {"role": "primary", "region": "a"}},
        "ledger": {"home": "directory:ledger"},
        "backups": {"daily": daily},
        "proofs": {"daily": {**CATALOG["proofs"]["daily"], "site": "east"}},
        "resources": {"orders": orders},
    }
    (home / "catalog.yaml").write_text(json.dumps(document))
    keys.make(home / "keys", "engine", "engine")

    def call(*arguments: str) -> tuple[int, dict[str, Any]]:
        capsys.readouterr()
        code = dr([*arguments, "--json"])
        out, err = capsys.readouterr()
        return code, json.loads(out) if out.strip() else {"fact": err}

    return call


def read(scene: Scene, data: Path, log: Path) -> list[int]:
    """Start what was restored, and read its table."""
    place = scene.source.socket_dir
    server.configure(data, {"unix_socket_directories": str(place), "listen_addresses": "", "port": "5434"})
    process = server.start(scene.source.bin_dir, data, log=log)
    try:
        server.wait_for_status(data, log=log, alive=lambda: process.poll() is None)
        with psycopg.connect(f"host={place} port=5434 user=postgres dbname=postgres") as connection:
            return [row[0] for row in connection.execute("select i from t order by i").fetchall()]
    finally:
        server.stop(process)


def test_retention_takes_the_wal_behind_old_backups_and_each_is_still_restored_to_its_own_end(
    scene: Scene, told: Dr, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wal = tmp_path / "home" / "bucket" / "objects" / "wal"
    before = {each.name.removesuffix(".zst") for each in wal.rglob("*.zst")}
    code, swept = told("sweep", "--really")
    assert code == 0, swept
    left = {each.name.removesuffix(".zst")[:24] for each in wal.rglob("*.zst")}
    own = {
        name: {name_of(1, n) for n in range(each.begin_lsn // SEGMENT, each.end_lsn // SEGMENT + 2)}
        for name, each in scene.made.items()
    }
    cut = name_of(1, scene.made["base"].begin_lsn // SEGMENT)
    old = own["full"] | own["incremental"] | own["standby"]
    assert {each for each in left if each < cut} == old
    assert scene.made["standby"].end_lsn % SEGMENT == 0, "as on a quiet database: behind a switch of segments"
    assert len(before) > len(left) + 3
    code, shown = told("points")
    (line,) = shown["points"][0]["timelines"]
    assert (code, line["gaps"], shown["points"][0]["retired"]) == (0, [], "wal.keep 7 days")
    assert [each["stops"] for each in line["windows"]] == ["retired"] * 3 + ["end of archive"] * 2
    assert dr(["points"]) == 0
    drawn = " ".join(capsys.readouterr().out.split())
    assert "3 backups, each to its own end only: WAL is retired (wal.keep 7 days)" in drawn
    assert "gap" not in drawn
    moment = (NOW - timedelta(days=12)).isoformat()
    code, refused = told("restore", "orders", "--as-of", moment, "--to", str(tmp_path / "none"))
    assert code == 2
    assert "WAL of that time has been retired (wal.keep 7 days)" in json.dumps(refused)
    for name in ("full", "incremental", "standby"):
        into = tmp_path / name
        code, done = told("restore", "orders", "--backup", scene.made[name].id, "--to", str(into))
        assert code == 0, done
        assert done["point"]["target"]["kind"] == "own-end"
        assert read(scene, into / "data", tmp_path / f"{name}.log") == scene.rows[name]
    code, done = told("restore", "orders", "--to", str(tmp_path / "latest"))
    assert code == 0, done
    assert read(scene, tmp_path / "latest" / "data", tmp_path / "latest.log")[-2:] == [99, 100]


@pytest.mark.parametrize("name", ["full", "incremental", "standby"])
def test_an_old_backup_is_proven_at_its_own_end(scene: Scene, told: Dr, name: str) -> None:
    told("sweep", "--really")
    _, document = told("prove", "orders", "--backup", scene.made[name].id)
    (proof,) = document["proofs"]
    checks = {each["name"]: each for each in proof["checks"]}
    assert checks["target"]["outcome"] == "passed", checks["target"]
    assert not [each for each in checks.values() if each["outcome"] == "failed"]
    assert not [each for each in checks.values() if each["outcome"] == "unproven" and each["applies"]]
    assert (proof["sort"], proof["verdict"], proof["rpo_seconds"]) == ("own-end", "met", None)
    assert proof["target"] == f"the backup's own end (LSN {lsn_text(scene.made[name].end_lsn)})"


def test_what_a_backup_s_own_end_cannot_be_asked_with_is_said(scene: Scene, told: Dr, tmp_path: Path) -> None:
    wanted = ("--backup", scene.made["full"].id)
    for more in (("--as-of", "1 h ago"), ("--timeline", "1")):
        assert told("restore", "orders", *wanted, *more, "--to", str(tmp_path / "none"))[0] == 2
    for words in (("prove", "orders", *wanted, "--latest"), ("prove", "orders", *wanted, "--mutate", "random")):
        assert told(*words)[0] == 2
    code, said = told("restore", "orders", "--backup", "20200101T000000Z-full", "--to", str(tmp_path / "none"))
    assert (code, scene.made["new"].id in json.dumps(said)) == (2, True)
    assert not (tmp_path / "none").exists()


def test_the_commands_for_a_person_stop_at_the_backup_s_own_end_too(scene: Scene, told: Dr, tmp_path: Path) -> None:
    assert "recovery_target = " not in told("backup", "orders", "--explain", scene.made["full"].id)[1]["text"]
    told("sweep", "--really")
    text = told("backup", "orders", "--explain", scene.made["full"].id)[1]["text"]
    assert "recovery_target = 'immediate'" in text
    work = tmp_path / "work"
    work.mkdir()
    ran = run_script(text, work, tmp_path / "key")
    assert ran.returncode == 0, ran.stderr
    assert len(list((work / "wal").iterdir())) == 2
    give(work)
    assert read(scene, work / "data", tmp_path / "by-hand.log") == scene.rows["full"]


def test_a_backup_that_ends_with_the_last_byte_of_a_segment_is_restored_with_what_own_end_names(tmp_path: Path) -> None:
    """The record of its end is made to end there: the one behind it, at which Postgres stops, is in the next."""
    with cluster(tmp_path / "source", archive=True) as source:
        assert source.archive_dir is not None
        run(source.dsn, "create table t as select generate_series(1, 3) as i")
        folder = tmp_path / "copy"
        folder.mkdir()
        begin, end = by_hand(source, folder / "data")
        assert end % SEGMENT == 0
        run(source.dsn, "insert into t values (4)")
        last = str(one(source.dsn, "select pg_walfile_name(pg_switch_wal())"))
        wait_for("archiving", (source.archive_dir / last).exists)
        (folder / "spool").mkdir()
        stretches = contiguous(each.name for each in source.archive_dir.iterdir())
        made = Backup(
            id="x", resource="db", system_id="7", timeline=1, kind="full", begin_lsn=begin, end_lsn=end, begun_at=NOW,
            ended_at=NOW, server_version=180006, size_bytes=1, stored_bytes=1,
        )  # fmt: skip
        point = own_end("x", backups=(made,), archive=Archive(system_id="7", stretches=stretches))
        assert point.segments[-1] == name_of(1, end // SEGMENT)
        for name in point.segments:
            shutil.copy(source.archive_dir / name, folder / "spool")
        copy = scratch.Scratch(folder=folder, bin_dir=source.bin_dir, user="postgres")
        scratch_conf.configure(copy, point.target, 1, durable=False)
        scratch.start(copy)
        try:
            stands = scratch.await_target(copy, patience_seconds=30, say=lambda *_: None)
            assert stands.lsn == end
            assert one(copy.dsn(), "select array_agg(i order by i) from t") == [1, 2, 3]
            scratch.promote(copy, patience_seconds=30)
        finally:
            scratch.stop(copy, patience_seconds=10)


def test_a_copy_that_stands_elsewhere_than_at_the_end_of_its_backup_is_found_out(tmp_path: Path) -> None:
    stands = Place(
        system_id="7", in_recovery=True, lsn=500, timeline=1, committed_at=None, server_version=180006,
        segment_bytes=SEGMENT,
    )  # fmt: skip
    log = "LOG:  recovery stopping after reaching consistency"

    def found(lsn: int | None, said: str = log, *, from_standby: bool = False) -> list[str]:
        return reached._at_own_end(Target(kind="own-end", lsn=lsn), stands, said, from_standby=from_standby)

    assert found(500) == []
    assert found(600) == ["the copy stands at 0/1F4 instead of the backup's end 0/258"]
    assert found(600, from_standby=True) == []
    assert len(found(400, from_standby=True)) == len(found(500, "LOG:  redo done")) == 1
    assert found(None) == ["? the backup's end is not known"]
    assert not reached._from_standby(tmp_path)
    (tmp_path / "backup_label.old").write_text("START WAL LOCATION: 0/28\nBACKUP FROM: standby\n")
    assert reached._from_standby(tmp_path)


def by_hand(source: Cluster, into: Path) -> tuple[int, int]:
    """A backup by the low-level functions whose end's record is the last of its segment: its begin and its end."""
    record = 40  # what pg_backup_stop writes: 24 bytes of head, 2 of length, the LSN, aligned
    for _ in range(5):
        with psycopg.connect(source.dsn, autocommit=True) as connection:
            (begin,) = connection.execute("select pg_backup_start('by hand', true)::text").fetchone() or ("",)
            shutil.rmtree(into, ignore_errors=True)
            shutil.copytree(source.data_dir, into, ignore=shutil.ignore_patterns("postmaster.*", "0000000*"))
            fill(connection, record)
            found = connection.execute("select lsn::text, labelfile from pg_backup_stop(false)").fetchone()
        assert found is not None
        (into / "backup_label").write_text(found[1])
        give(into)
        if lsn_number(found[0]) % SEGMENT == 0:
            return lsn_number(begin), lsn_number(found[0])
    raise AssertionError(f"no backup ended with its segment, the last at {found[0]}")


def fill(connection: psycopg.Connection[Any], left: int) -> None:
    """Write records until exactly `left` bytes of the segment are free."""
    emit = "select pg_logical_emit_message(false, 'x', repeat('x', %s)) - '0/0'"

    def written(size: int) -> int:
        connection.execute(emit, (size,))
        row = connection.execute("select (pg_current_wal_insert_lsn() - '0/0')::bigint").fetchone()
        assert row is not None
        return int(row[0])

    at = written(0)
    while (free := SEGMENT - at % SEGMENT) > 3 * 8192:
        at = written(min(free - 3 * 8192, 512 * 1024))
    while (free := SEGMENT - at % SEGMENT) > 4096:  # the last page has no more heads to reckon with
        at = written(max(0, min(free - 4096, 2048)))
    small = written(0)
    overhead = written(8) - small
    free = SEGMENT - (small + overhead) % SEGMENT - left
    written(free - overhead + 8)
