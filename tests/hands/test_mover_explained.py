"""The printed instructions for a bucket, run by a shell: data from S3, WAL from the archive, recovery to a moment."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
import zstandard

from deployments.lab.postgres import server
from deployments.lab.scratch_cluster import Cluster, cluster
from recovery.catalog import Catalog, Member, S3Endpoint
from recovery.errors import BadInput
from recovery.manual_restore import PORT, restored
from recovery.point import Backup
from tasks.host import LocalHost
from tasks.postgres import basebackup, explain, seal
from tasks.s3_store import S3Store, open_store
from tests.hands.store_backends import REGION, endpoint, make_bucket
from tests.thought import failover_scene as scene

KEY = seal.Key(bytes(range(32)))
AWS = """'''Stands in for the aws command: s3 cp [--endpoint-url URL] [--recursive] s3://BUCKET/KEY TO.'''
import json, os, pathlib, sys, boto3
words = sys.argv[1:]
assert words[:2] == ["s3", "cp"], words
words = words[2:]
url = words[words.index("--endpoint-url") + 1]
deep = "--recursive" in words
source, to = words[-2:]
bucket, _, key = source.removeprefix("s3://").partition("/")
told = json.loads(pathlib.Path(os.environ["STAND_IN_CREDENTIALS"]).read_text())
s3 = boto3.client("s3", endpoint_url=url, region_name="eu-central-1", aws_access_key_id=told["access_key_id"],
    aws_secret_access_key=told["secret_access_key"])
found = [key]
if deep:
    found = [one["Key"] for one in s3.list_objects_v2(Bucket=bucket, Prefix=key).get("Contents", ())]
for one in found:
    path = pathlib.Path(to) / one.removeprefix(key) if deep else pathlib.Path(to)
    path = path / pathlib.Path(one).name if path.is_dir() else path
    path.parent.mkdir(parents=True, exist_ok=True)
    s3.download_file(bucket, one, str(path))
"""


def archived(source: Cluster, store: S3Store, backup: Backup, key: seal.Key | None) -> None:
    """What the agent would have stored: each archived file compressed, sealed when there is a key."""
    assert source.archive_dir is not None
    for file in sorted(source.archive_dir.iterdir()):
        body = zstandard.ZstdCompressor(level=1).compress(file.read_bytes())
        name = f"wal/{backup.system_id}/{file.name[:8]}/{file.name}.zst"
        store.put(name, seal.seal(key, body) if key else body)


def commands(folder: Path, at: S3Endpoint) -> dict[str, str]:
    """An environment whose PATH has an `aws` and a `python3` with the cryptography package."""
    made = folder / "bin"
    made.mkdir()
    (folder / "aws.py").write_text(AWS)
    python = shlex.quote(sys.executable)  # in a folder with spaces, perhaps, which a first line cannot name
    (made / "aws").write_text(f'#!/bin/sh\nexec {python} {shlex.quote(str(folder / "aws.py"))} "$@"\n')
    (made / "python3").write_text(f'#!/bin/sh\nexec {python} "$@"\n')
    for one in made.iterdir():
        one.chmod(0o755)
    (folder / "key").write_text(KEY.secret.hex())
    told = at.credentials.removeprefix("file:")
    path = f"{made}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "STAND_IN_CREDENTIALS": told, "KEYFILE": str(folder / "key")}


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A database whose backup and WAL are in a bucket, and a moment between its second row and its third."""

    source: Cluster
    member: Member
    at: S3Endpoint
    store: S3Store
    backup: Backup
    moment: datetime


@contextmanager
def kept(folder: Path, key: seal.Key | None) -> Iterator[Kept]:
    """Backed up, archived, and stopped."""
    with cluster(folder / "source", archive=True) as source, endpoint("moto", folder) as at:
        member = Member(dsn=source.dsn, data_dir=str(source.data_dir), bin_dir=str(source.bin_dir))
        store = open_store(at, make_bucket(at), "orders", region=REGION)
        with psycopg.connect(source.dsn, autocommit=True) as connection:
            connection.execute("create table t as select 1 as i")
            backup = basebackup.take(
                member,
                store,
                host=LocalHost(),
                resource="orders",
                kind="full",
                clock=lambda: datetime.now(UTC),
                key=key,
            )
            connection.execute("insert into t values (2)")
            row = connection.execute("select clock_timestamp()").fetchone()
            connection.execute("insert into t values (3)")
            connection.execute("select pg_switch_wal()")
        source.stop()
        archived(source, store, backup, key)
        assert row is not None
        yield Kept(source=source, member=member, at=at, store=store, backup=backup, moment=row[0])


@pytest.mark.parametrize("key", [None, KEY])
def test_a_shell_brings_the_database_back_to_the_moment(tmp_path: Path, key: seal.Key | None) -> None:
    with kept(tmp_path, key) as made:
        told = explain.text(made.backup, made.store, target=made.moment, bin_dir=str(made.source.bin_dir))
        work = tmp_path / "work"
        work.mkdir()
        env = commands(tmp_path, made.at)
        ran = subprocess.run(["/bin/sh"], input=told, cwd=work, env=env, text=True, capture_output=True, check=False)
        assert ran.returncode == 0, ran.stderr
        assert rows(made.source, work / "data", tmp_path) == [1, 2]


@pytest.mark.parametrize("key", [None, KEY])
def test_the_printed_page_of_the_restore_does_the_same(tmp_path: Path, key: seal.Key | None) -> None:
    with kept(tmp_path, key) as made:
        work = tmp_path / "work"
        work.mkdir()
        env = commands(tmp_path, made.at)
        (work / "unseal.py").write_text(explain._UNSEAL.partition("END'\n")[2].removesuffix("END\n"))
        catalog = example(made.member, made.at.endpoint_url or "", made.store.place, sealed=key is not None)
        page = [line for line in restored(catalog, "validation-db", "west") if line.startswith("# ")]
        words = {"SYSTEM": made.backup.system_id, "BACKUP": made.backup.id, "TIMELINE": "1", "MOMENT": str(made.moment)}
        for name, value in {**words, "KEYFILE": env["KEYFILE"]}.items():
            page = [line.replace(name, value) for line in page]
        *before, start = [line[2:] for line in page]
        script = "\n".join(["set -eu", *before, ""])
        ran = subprocess.run(["/bin/sh"], input=script, cwd=work, env=env, text=True, capture_output=True, check=False)
        assert ran.returncode == 0, ran.stderr
        assert asked(made.source, work, start, "select i from t order by i; show archive_mode") == [
            (1,),
            (2,),
            ("off",),
        ]


def asked(source: Cluster, work: Path, start: str, queries: str) -> list[tuple[object, ...]]:
    """Start the copy with the options of that line, by our own hand (pg_ctl refuses to be root's), and ask it once it
    has been promoted."""
    assert start.startswith(f"{shlex.quote(f'{source.bin_dir}/pg_ctl')} -D data -l recovery.log -w ")
    options = {name: value.strip("'") for name, value in re.findall(r"-c (\w+)=([^\s\"]*)", start)}
    assert options.pop("unix_socket_directories") == "$PWD"
    data, log, place = work / "data", work / "recovery.log", source.socket_dir
    server.configure(data, {**options, "unix_socket_directories": str(place)})
    process = server.start(source.bin_dir, data, log=log)
    try:
        server.wait_for_status(data, log=log, alive=lambda: process.poll() is None)
        end = datetime.now(UTC).timestamp() + 30
        while "ready to accept connections" not in log.read_text():
            assert datetime.now(UTC).timestamp() < end, log.read_text()
        assert "recovery stopping before" in log.read_text()
        with psycopg.connect(f"host={place} port={PORT} user=postgres dbname=postgres") as connection:
            return [row for query in queries.split(";") for row in connection.execute(query.encode()).fetchall()]
    finally:
        server.stop(process)


def example(member: Member, url: str, place: str, *, sealed: bool) -> Catalog:
    """The example catalog, with that server at the west and what it stores at that place."""
    catalog = scene.catalog()
    bucket, _, prefix = place.removeprefix("s3://").partition("/")
    database = catalog.resources["validation-db"]
    policy = catalog.backups[database.backup]
    return catalog.but(
        sites={**catalog.sites, "west": catalog.sites["west"].but(s3=S3Endpoint(endpoint_url=url))},
        backups={database.backup: policy.but(encryption="file:keys/backup.key" if sealed else None)},
        resources={"validation-db": database.but(members={"west": member}, bucket=bucket, prefix=prefix)},
    )


def rows(source: Cluster, data: Path, folder: Path) -> list[int]:
    """Start what was restored, paused at its target, and read the table."""
    place, log = source.socket_dir, folder / "restored.log"
    server.configure(data, {"unix_socket_directories": str(place), "listen_addresses": "", "port": "5433"})
    process = server.start(source.bin_dir, data, log=log)
    try:
        server.wait_for_status(data, log=log, alive=lambda: process.poll() is None)
        with psycopg.connect(f"host={place} port=5433 user=postgres dbname=postgres") as connection:
            end = datetime.now(UTC).timestamp() + 20
            while "recovery stopping before" not in log.read_text():
                assert datetime.now(UTC).timestamp() < end, log.read_text()
            return [one[0] for one in connection.execute("select i from t order by i").fetchall()]
    finally:
        server.stop(process)


def test_an_incremental_is_explained_with_its_full_only(tmp_path: Path) -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    alone = Backup(
        id="x", resource="r", system_id="1", timeline=1, kind="incremental", parent="y", begin_lsn=1, end_lsn=2,
        begun_at=at, ended_at=at, server_version=180000, size_bytes=1, stored_bytes=1,
    )  # fmt: skip
    with pytest.raises(BadInput, match="incremental"):
        explain.text(alone, S3Store(None, bucket="b"))
