"""Base backups of a real server, restored: whole, equal to what Postgres's own tools make, and only when complete."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from deployments.lab.scratch_cluster import Cluster, cluster
from recovery.catalog import Member
from recovery.errors import BadInput, DrError, Failed, Refused
from recovery.point import Backup
from tasks.dir_store import DirStore
from tasks.host import LocalHost
from tasks.postgres import basebackup, explain, seal, unpack, unpack_chain
from tests.hands.store_backends import stores

KEY = seal.Key(bytes(range(32)))
KEYS = {KEY.fingerprint: KEY}
BEFORE = """
create table same as select i, md5(i::text) t from generate_series(1, 20000) i;
create table changed as select * from same; create index on changed (i);
create table cut as select * from same; create table dropped as select * from same;
create table replaced as select * from same; create unlogged table unlogged as select * from same;
"""
AFTER = """
update changed set t = 'changed' where i % 100 = 0; drop table dropped; create table made as select * from same;
delete from cut where i > 100; truncate replaced; insert into replaced select i, 'new' from generate_series(1, 9000) i;
"""


@dataclass(frozen=True, kw_only=True)
class Scene:
    source: Cluster
    member: Member
    store: DirStore
    full: Backup
    incremental: Backup
    sealed: Backup

    def take(self, **changed: object) -> Backup:
        return take(self.member, self.store, **changed)


def take(member: Member, store: object, **changed: object) -> Backup:
    said: dict[str, object] = {"kind": "full", "clock": lambda: datetime.now(UTC), "stall_seconds": 20, **changed}
    return basebackup.take(member, store, host=LocalHost(), resource="orders", **said)  # type: ignore[arg-type]


def run(dsn: str, sql: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in filter(str.strip, sql.split(";")):
            connection.execute(statement.encode())


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("mover")
    with cluster(folder / "source") as source:
        member = Member(dsn=source.dsn, data_dir=str(source.data_dir), bin_dir=str(source.bin_dir))
        store = DirStore(folder / "store")
        run(source.dsn, BEFORE)
        full = take(member, store)
        run(source.dsn, AFTER + "; vacuum")
        incremental = take(member, store, kind="incremental", parent=full)
        sealed = take(member, store, key=KEY)
        yield Scene(
            source=source, member=member, store=store, full=full, incremental=incremental, sealed=sealed
        )  # fmt: skip


def verified(scene: Scene, folder: Path) -> None:
    tool = [str(scene.source.bin_dir / "pg_verifybackup"), "--exit-on-error", "--no-parse-wal", str(folder)]
    ran = subprocess.run(tool, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


def differences(one: Path, other: Path) -> list[str]:
    ran = subprocess.run(["diff", "-rq", one, other], capture_output=True, text=True, check=False)
    return ran.stdout.splitlines()


def test_a_full_backup_is_restored_whole(scene: Scene, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    done = unpack.restore(scene.store, scene.full, tmp_path / "data", progress=lambda *one: told.append(one))
    verified(scene, tmp_path / "data")
    assert done.size_bytes == scene.full.size_bytes
    assert told[-1] == (done.size_bytes, done.size_bytes)
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700


def test_the_marker_tells_what_postgres_wrote(scene: Scene) -> None:
    full, incremental = scene.full, scene.incremental
    assert full.begin_lsn < full.end_lsn < incremental.begin_lsn
    assert full.begun_at < full.ended_at < incremental.begun_at
    assert (full.timeline, full.server_version // 10000, incremental.parent) == (1, 18, full.id)
    stored = scene.store.get(f"{basebackup.folder(full)}/backup.json")
    assert stored is not None
    assert Backup.model_validate_json(stored[0]) == full


def test_a_restored_chain_is_what_pg_combinebackup_makes(scene: Scene, tmp_path: Path) -> None:
    unpack_chain.restore_chain(scene.store, scene.full, scene.incremental, tmp_path / "ours")
    verified(scene, tmp_path / "ours")
    unpack.restore(scene.store, scene.full, tmp_path / "full")
    unpack.restore(scene.store, scene.incremental.model_copy(update={"kind": "full"}), tmp_path / "incremental")
    tool = str(scene.source.bin_dir / "pg_combinebackup")
    argv = [tool, tmp_path / "full", tmp_path / "incremental", "-o", tmp_path / "theirs", "--no-sync"]
    subprocess.run(argv, check=True, capture_output=True)
    assert differences(tmp_path / "ours", tmp_path / "theirs") == [
        f"Files {tmp_path}/ours/backup_manifest and {tmp_path}/theirs/backup_manifest differ"
    ]


def test_overlays_too_large_for_memory_go_by_disk_with_the_same_result(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpack_chain.restore_chain(scene.store, scene.full, scene.incremental, tmp_path / "one")
    monkeypatch.setattr(unpack_chain, "_IN_MEMORY_BYTES", 0)
    unpack_chain.restore_chain(scene.store, scene.full, scene.incremental, tmp_path / "other")
    assert differences(tmp_path / "one", tmp_path / "other") == []


def test_a_chain_of_strangers_is_refused(scene: Scene, tmp_path: Path) -> None:
    other = scene.full.model_copy(update={"id": "20200101T000000Z-full"})
    with pytest.raises(Refused, match="not based on"):
        unpack_chain.restore_chain(scene.store, other, scene.incremental, tmp_path / "data")
    with pytest.raises(BadInput, match="incremental"):
        unpack.restore(scene.store, scene.incremental, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_a_sealed_backup_needs_its_key_and_no_other(scene: Scene, tmp_path: Path) -> None:
    for keys in ({}, {"0" * 16: KEY}):
        with pytest.raises(BadInput, match=KEY.fingerprint):
            unpack.restore(scene.store, scene.sealed, tmp_path / "none", keys=keys)
    wrong = {KEY.fingerprint: seal.Key(bytes(32))}
    with pytest.raises(Failed, match="does not open"):
        unpack.restore(scene.store, scene.sealed, tmp_path / "wrong", keys=wrong)
    unpack.restore(scene.store, scene.sealed, tmp_path / "data", keys=KEYS)
    verified(scene, tmp_path / "data")
    object_ = (scene.store.get(f"{basebackup.folder(scene.sealed)}/base.tar.zst.enc") or (b"",))[0]
    assert object_[:6] == b"SFENC1"


@pytest.mark.parametrize("which", ["full", "incremental", "sealed"])
def test_the_explained_commands_restore_it_without_us(scene: Scene, tmp_path: Path, which: str) -> None:
    backup: Backup = getattr(scene, which)
    told = explain.text(backup, scene.store, full=scene.full, bin_dir=str(scene.source.bin_dir))
    key = tmp_path / "key"
    key.write_text(KEY.secret.hex())
    work = tmp_path / "work"
    work.mkdir()
    ran = run_script(told, work, key)
    assert ran.returncode == 0, ran.stderr
    ours = tmp_path / "ours"
    if which == "incremental":
        unpack_chain.restore_chain(scene.store, scene.full, backup, ours)
    else:
        unpack.restore(scene.store, backup, ours, keys=KEYS)
    assert {line for line in differences(work / "data", ours) if "backup_manifest" not in line} == {
        f"Only in {work}/data: recovery.signal",
        f"Files {work}/data/postgresql.auto.conf and {ours}/postgresql.auto.conf differ",
    }


def run_script(script: str, work: Path, key: Path, more_path: str = "") -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "KEYFILE": str(key), "PATH": f"{more_path}{stand_ins(work.parent)}:{os.environ['PATH']}"}
    return subprocess.run(["/bin/sh"], input=script, cwd=work, env=env, text=True, capture_output=True, check=False)


def stand_ins(folder: Path) -> Path:
    """`python3` that has the cryptography package, and, where the machine has no zstd, one by the zstandard package."""
    import sys

    made = folder / "bin"
    made.mkdir(exist_ok=True)
    _script(made / "python3", f'exec {sys.executable!r} "$@"')
    if shutil.which("zstd") is None:
        code = "import sys,zstandard as z;z.ZstdDecompressor().copy_stream(open(sys.argv[-1],'rb') if"
        code += " sys.argv[-1][0]!='-' else sys.stdin.buffer,sys.stdout.buffer,)"
        flat = 'case "$*" in *--output-dir-flat*) exit 0;; esac\n'
        _script(made / "zstd", f'{flat}exec {sys.executable!r} -c "{code}" "$@"')
    return made


def _script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_what_was_restored_starts_and_holds_the_rows(scene: Scene, tmp_path: Path) -> None:
    from deployments.lab.postgres import server

    data = tmp_path / "data"
    unpack_chain.restore_chain(scene.store, scene.full, scene.incremental, data)
    place = tmp_path / "s"
    place.mkdir()
    if len(str(place)) > 80:
        pytest.skip("the test's folder is too long for a socket")
    server.configure(data, {"unix_socket_directories": str(place), "listen_addresses": "", "archive_mode": "off"})
    process = server.start(scene.source.bin_dir, data, log=tmp_path / "log")
    try:
        server.wait_for_status(data, log=tmp_path / "log", alive=lambda: process.poll() is None)
        with psycopg.connect(f"host={place} port=5432 user=postgres dbname=postgres") as connection:
            counts = "select (select count(*) from same), (select count(*) from cut), (select count(*) from made)"
            assert connection.execute(counts).fetchone() == (20000, 100, 20000)
            changed = connection.execute("select count(*) from changed where t = 'changed'").fetchone()
            assert changed == (200,)
    finally:
        server.stop(process)


def test_it_goes_through_a_real_s3_server_as_through_a_folder(scene: Scene, tmp_path: Path) -> None:
    with stores("weed", tmp_path) as store:
        full = take(scene.member, store, level=3)
        unpack.restore(store, full, tmp_path / "data")
        verified(scene, tmp_path / "data")
        assert [one[0] for one in store.uploads("")] == []


def test_two_backups_of_one_second_get_two_ids(scene: Scene) -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    ids = [scene.take(clock=lambda: at).id for _ in range(2)]
    assert ids == ["20260101T000000Z-full", "20260101T000000Z-full-2"]


class Broken(DirStore):
    """A store that fails, or does something, at a chosen part."""

    def __init__(self, root: Path, act: object) -> None:
        super().__init__(root)
        self._act = act

    def upload(self, key: str) -> object:  # type: ignore[override]
        upload, part, act = super().upload(key), None, self._act
        part = upload.part

        def broken(number: int, body: bytes) -> None:
            act()  # type: ignore[operator]
            part(number, body)

        upload.part = broken  # type: ignore[method-assign, assignment]
        return upload


def raising(error: BaseException) -> object:
    def act() -> None:
        raise error

    return act


@pytest.mark.parametrize("error", [Failed("the store went away", hint="wait"), KeyboardInterrupt()])
def test_a_backup_that_dies_leaves_no_marker_no_upload_and_no_process(
    scene: Scene, tmp_path: Path, error: BaseException
) -> None:
    store = Broken(tmp_path / "store", raising(error))
    with pytest.raises(type(error)):
        take(scene.member, store)
    assert [one.key.rpartition("/")[2] for one in store.list("")] == ["begun.json"]
    assert list(store.uploads("")) == []
    ran = subprocess.run(["pgrep", "-f", f"pg_basebackup.*{scene.source.socket_dir}"], check=False, capture_output=True)
    assert ran.stdout == b""


def test_what_killed_backups_left_is_swept_and_nothing_else(scene: Scene, tmp_path: Path) -> None:
    store = DirStore(tmp_path / "store")
    complete = take(scene.member, store)
    with pytest.raises(Failed):
        take(scene.member, Broken(tmp_path / "store", raising(Failed("gone", hint="wait"))))
    upload = store.upload(f"{basebackup.folder(complete)}-x/base.tar.zst")
    upload.part(1, b"x")
    later, age = datetime.now(UTC) + timedelta(hours=2), timedelta(hours=1)
    assert basebackup.leftovers(store, now=datetime.now(UTC), older_than=age) == []
    swept = basebackup.sweep_leftovers(store, now=later, older_than=age)
    assert [one.what.partition(" ")[2].partition(" ")[0] for one in swept] == ["backup", "upload"]
    assert {one.key.rpartition("/")[0] for one in store.list("")} == {basebackup.folder(complete)}
    assert basebackup.sweep_leftovers(store, now=later, older_than=age) == []
    unpack.restore(store, complete, tmp_path / "data")


def test_a_backup_that_was_swept_while_it_ran_does_not_commit(scene: Scene, tmp_path: Path) -> None:
    root = tmp_path / "store"
    later = datetime.now(UTC) + timedelta(hours=2)
    sweep = lambda: basebackup.sweep_leftovers(DirStore(root), now=later, older_than=timedelta(hours=1))  # noqa: E731
    with pytest.raises(DrError, match=r"swept|can't be written"):
        take(scene.member, Broken(root, sweep))
    assert not [one for one in DirStore(root).list("") if one.key.endswith("backup.json")]


def test_a_stopped_server_is_given_up_within_the_stall_patience(scene: Scene, tmp_path: Path) -> None:
    def freeze() -> None:
        for pid in walsenders(scene):
            os.kill(pid, signal.SIGSTOP)

    store = Broken(tmp_path / "store", lambda: None)
    run(scene.source.dsn, "create table bulk as select i, md5(i::text) from generate_series(1, 300000) i")
    try:
        import threading

        timer = threading.Thread(target=lambda: (wait_for_walsender(scene), freeze()))
        timer.start()
        with pytest.raises(Failed, match=r"nothing for 1 s|ended with"):
            take(scene.member, store, stall_seconds=1)
        timer.join()
    finally:
        for pid in walsenders(scene):
            os.kill(pid, signal.SIGCONT)
        run(scene.source.dsn, "drop table bulk")


def walsenders(scene: Scene) -> list[int]:
    ran = subprocess.run(["pgrep", "-P", str(scene.source.pid), "-f", "walsender"], capture_output=True, check=False)
    return [int(pid) for pid in ran.stdout.split()]


def wait_for_walsender(scene: Scene) -> None:
    import time

    end = time.monotonic() + 20
    while not walsenders(scene) and time.monotonic() < end:
        time.sleep(0.005)


def test_what_cannot_be_backed_up_is_refused_before_anything_is_written(scene: Scene, tmp_path: Path) -> None:
    store = DirStore(tmp_path / "store")
    space = scene.source.data_dir.parent / "space"
    space.mkdir()
    wrong = scene.member.model_copy(update={"dsn": "host=/nowhere port=1 user=postgres password=hushhush"})
    with pytest.raises(Failed, match="could not be asked") as caught:
        take(wrong, store)
    assert "hushhush" not in str(caught.value)
    with pytest.raises(BadInput, match="parent"):
        take(scene.member, store, kind="incremental")
    stranger = scene.full.model_copy(update={"system_id": "1"})
    with pytest.raises(Refused, match="system"):
        take(scene.member, store, kind="incremental", parent=stranger)
    run(scene.source.dsn, f"create tablespace extra location '{space}'")
    try:
        with pytest.raises(BadInput, match="tablespaces"):
            take(scene.member, store)
    finally:
        run(scene.source.dsn, "drop tablespace extra")
    run(scene.source.dsn, "alter system set summarize_wal = off; select pg_reload_conf(); select pg_sleep(0.2)")
    try:
        with pytest.raises(BadInput, match="summarize_wal"):
            take(scene.member, scene.store, kind="incremental", parent=scene.full)
    finally:
        run(scene.source.dsn, "alter system reset summarize_wal; select pg_reload_conf()")
    assert list(store.list("")) == []


def test_a_wrong_bin_dir_is_bad_input(scene: Scene, tmp_path: Path) -> None:
    wrong = scene.member.model_copy(update={"bin_dir": "/nowhere"})
    with pytest.raises(BadInput, match="can't be run"):
        take(wrong, DirStore(tmp_path / "store"))
