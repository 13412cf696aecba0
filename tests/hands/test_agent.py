"""The agent on a real Postgres and a real S3 server: what Postgres calls archived is in the bucket, come what may."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
import zstandard

import tasks
from deployments.lab.scratch_cluster import Cluster, cluster, s3_server
from recovery.catalog import S3Endpoint
from recovery.errors import Failed
from recovery.wal import name_of
from tasks.postgres import wal, wal_file
from tasks.s3_store import S3Store, open_store

CLIENT = Path(tasks.__file__).parent / "postgres" / "archive_client.py"
ROOT = Path(tasks.__file__).parents[1]


def eventually(holds: Callable[[], Any], what: str, seconds: float = 90.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < deadline, f"{what} did not come true within {seconds} s"
        time.sleep(0.03)
    return found


class Gate:
    """A TCP door to a server that can be shut: then nothing is listened for and what was open is cut."""

    def __init__(self, url: str) -> None:
        host, _, port = url.removeprefix("http://").partition(":")
        self.behind = (host, int(port))
        self.lines: list[socket.socket] = []
        self.server: socket.socket | None = None
        self.address = (host, 0)
        self.open()

    @property
    def url(self) -> str:
        return f"http://{self.address[0]}:{self.address[1]}"

    def open(self) -> None:
        self.server = socket.create_server(self.address)
        self.address = self.server.getsockname()
        threading.Thread(target=self._accept, args=(self.server,), daemon=True).start()

    def shut(self) -> None:
        assert self.server is not None
        for line in (self.server, *self.lines):
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
            line.close()
        self.lines.clear()

    def _accept(self, server: socket.socket) -> None:
        with suppress(OSError):
            while True:
                near = server.accept()[0]
                far = socket.create_connection(self.behind)
                self.lines += [near, far]
                for one, two in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=(one, two), daemon=True).start()

    def _pump(self, one: socket.socket, two: socket.socket) -> None:
        with suppress(OSError):
            while piece := one.recv(65536):
                two.sendall(piece)
            two.shutdown(socket.SHUT_WR)


class World:
    """Postgres, a bucket for each site, and the agent's configuration."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.endpoint: S3Endpoint = stack.enter_context(s3_server(folder / "s3"))
        self.stores: dict[str, S3Store] = {}
        for site in ("east", "west"):
            self.stores[site] = open_store(self.endpoint, f"backups-{site}", region="us-east-1", patience_seconds=5)
            self.stores[site]._client.create_bucket(Bucket=f"backups-{site}")
        self.gate = Gate(str(self.endpoint.endpoint_url))
        stack.callback(self.gate.shut)
        private = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="agent-")))
        private.chmod(0o755)
        self.socket = private / "a.sock"
        words = ["python3", "-I", "-S", str(CLIENT), str(self.socket)]
        settings = {"archive_mode": "on", "archive_command": f"{shlex.join(words)} %p", "archive_timeout": "0"}
        self.pg: Cluster = stack.enter_context(cluster(folder / "pg", settings=settings))
        digest = hashlib.sha256(str(folder).encode()).digest()
        self.address = f"127.{64 + digest[0] % 128}.{digest[1]}.{2 + digest[2] % 250}"
        self.file = folder / "agent.json"
        self.state = folder / "agent"
        self.log = folder / "agent.log"
        self.file.write_text(json.dumps(self.config()))
        self.process: subprocess.Popen[bytes] | None = None
        stack.callback(self.end)

    def place(self, site: str) -> dict[str, Any]:
        return {"site": site, "bucket": f"backups-{site}", **self.endpoint.model_dump()}

    def config(self) -> dict[str, Any]:
        return {
            "site": "east",
            "resource": "orders-db",
            "dsn": self.pg.dsn,
            "data_dir": str(self.pg.data_dir),
            "bin_dir": str(self.pg.bin_dir),
            "socket": str(self.socket),
            "address": self.address,
            "port": 8471,
            "local": {**self.place("east"), "endpoint_url": self.gate.url},
            "store_patience_seconds": 4.0,
            "remote": self.place("west"),
            "heartbeat_seconds": 0.1,
            "base_seconds": 0.3,
        }

    def begin(self) -> None:
        with self.log.open("ab") as sink:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "deployments.cli.main", "agent", "run", "--config", str(self.file)],
                cwd=ROOT,
                stdout=sink,
                stderr=sink,
            )
        self.pid()

    def end(self) -> int:
        if self.process is None:
            return 0
        self.process.terminate()
        code = self.process.wait(20)
        self.process = None
        return code

    def get(self, path: str = "/status") -> dict[str, Any]:
        with urllib.request.urlopen(f"http://{self.address}:8471{path}", timeout=5) as answer:
            return dict(json.load(answer))

    def maybe(self, path: str = "/status") -> dict[str, Any]:
        try:
            return self.get(path)
        except OSError:
            return {}

    def pid(self) -> int:
        return int(eventually(lambda: self.maybe("/health").get("pid"), f"the agent's door\n{self.log.read_text()}"))

    def sql(self, *statements: str) -> None:
        with psycopg.connect(self.pg.dsn, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    def write(self, segments: int) -> list[str]:
        """Fill and leave that many segments; gives their names."""
        names = []
        with psycopg.connect(self.pg.dsn, autocommit=True) as connection:
            connection.execute("create table if not exists filler (id bigint generated always as identity, t text)")
            for _ in range(segments):
                connection.execute("insert into filler (t) select md5(i::text) from generate_series(1, 300) i")
                row = connection.execute("select pg_walfile_name(pg_switch_wal())").fetchone()
                assert row is not None
                names.append(str(row[0]))
        return names

    def drain(self) -> None:
        """Wait until all is archived. Having failed three times Postgres sleeps a minute; a new segment wakes it."""
        for _ in range(20):
            deadline = time.monotonic() + 4.0
            while time.monotonic() < deadline:
                if self.waiting() == 0:
                    return
                time.sleep(0.03)
            self.write(1)
        raise AssertionError(f"the backlog does not drain\n{self.log.read_text()}\n{self.pg.log.read_text()[-3000:]}")

    def waiting(self) -> int:
        return len(list((self.pg.data_dir / "pg_wal" / "archive_status").glob("*.ready")))

    def held(self, site: str) -> set[str]:
        return {each.key.rpartition("/")[2].removesuffix(".zst") for each in self.stores[site].list("wal/")}

    def system(self) -> str:
        return wal_file.system_id(self.pg.data_dir)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(tmp_path_factory.mktemp("agent"), stack)


@pytest.fixture
def running(world: World) -> World:
    if world.process is None:
        world.begin()
    return world


def level(running: World) -> str:
    """The newest segment, once what is archived is shipped, too."""
    said = running.get()
    newest = said["archived"]["segment"]
    return str(newest) if newest == said["shipped"]["west"]["segment"] else ""


def test_every_segment_is_archived_byte_identical_and_shipped_on(running: World) -> None:
    names = running.write(4)
    running.drain()
    assert set(names) <= running.held("east")
    for name in names:
        found = running.stores["east"].get(f"wal/{running.system()}/{name[:8]}/{name}.zst")
        assert found is not None
        local = running.pg.data_dir / "pg_wal" / name
        if local.exists():
            assert zstandard.ZstdDecompressor().decompress(found[0]) == local.read_bytes()
    eventually(lambda: set(names) <= running.held("west"), "the other site's copy")
    eventually(lambda: names[-1] <= level(running), "status")  # a slow drain writes more than was asked for

    def settled() -> bool:  # the server was looked at a moment before the last segment came
        said = running.get()
        assert said["role"] == "primary"
        return bool(said["archived"]["lsn"] <= said["flushed_lsn"] and said["ready_count"] == 0)

    eventually(settled, "a status that is newer than the last segment")


def test_the_heartbeat_beats_and_status_tells(running: World) -> None:
    first = eventually(lambda: (running.get()["postgres"] or {}).get("beat_at"), "a beat")
    eventually(lambda: running.get()["postgres"]["beat_at"] > first, "the next beat")
    with psycopg.connect(running.pg.dsn) as connection:
        row = connection.execute("select count(*), max(lsn) <= pg_current_wal_lsn() from standfast.beat").fetchone()
    assert row is not None
    assert row[0] >= 2
    assert row[1]


def test_a_killed_worker_comes_back_and_nothing_is_lost(running: World) -> None:
    before = running.pid()
    names = running.write(2)
    os.kill(before, signal.SIGKILL)
    names += running.write(4)
    eventually(lambda: running.maybe("/health").get("pid", before) != before, "a new worker")
    running.drain()
    eventually(lambda: set(names) <= running.held("west"), "the other site's copy")
    assert set(names) <= running.held("east")
    archive = wal.list_archive(running.stores["east"], running.system())
    assert archive.gaps() == ()
    eventually(lambda: wal.list_archive(running.stores["west"], running.system()) == archive, "equal archives")


def test_a_backlog_is_stored_ahead(world: World) -> None:
    world.end()
    names = world.write(7)
    assert world.waiting() >= 7
    world.begin()
    world.drain()
    assert set(names) <= world.held("east")
    assert world.get()["stored_ahead"] > 0


def test_a_segment_that_postgres_forgets_to_have_archived_is_no_gap(running: World) -> None:
    """As after a crash between the switch that ended it and its `.ready` file: a later checkpoint would find it."""
    running.write(1)
    running.drain()
    running.sql("alter system set archive_command = ''", "select pg_reload_conf()")
    (forgotten,) = running.write(1)
    (running.pg.data_dir / "pg_wal" / "archive_status" / f"{forgotten}.ready").unlink()
    running.sql("alter system reset archive_command", "select pg_reload_conf()")
    names = [forgotten, *running.write(1)]
    running.drain()
    eventually(lambda: set(names) <= running.held("west"), "the other site's copy")
    assert wal.list_archive(running.stores["east"], running.system()).gaps() == ()
    assert "was not archived" not in str(running.get()["alerts"])


def test_a_stopped_agent_keeps_wal_and_says_what_to_do(world: World) -> None:
    world.end()
    ran = subprocess.run(
        ["python3", "-I", "-S", str(CLIENT), str(world.socket), "x"], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1
    assert "hint: start it" in ran.stderr
    assert ran.stderr.count("\n") == 1


def test_while_s3_is_down_postgres_keeps_its_wal_and_afterwards_all_of_it_is_archived(running: World) -> None:
    running.drain()
    before = running.held("east")
    running.gate.shut()
    try:
        names = running.write(3)
        eventually(lambda: "did not serve the request" in running.pg.log.read_text(), "Postgres's complaint")
        assert running.waiting() >= 3
        assert running.held("east") == before
        assert all((running.pg.data_dir / "pg_wal" / name).exists() for name in names)
    finally:
        running.gate.open()
    running.drain()
    assert set(names) <= running.held("east")
    eventually(lambda: set(names) <= running.held("west"), "the other site's copy", 60)


def test_other_content_under_the_same_name_is_refused_and_postgres_keeps_the_segment(running: World) -> None:
    with psycopg.connect(running.pg.dsn, autocommit=True) as connection:
        row = connection.execute("select pg_walfile_name(pg_current_wal_lsn())").fetchone()
    assert row is not None
    name = str(row[0])
    key = f"wal/{running.system()}/{name[:8]}/{name}.zst"
    running.stores["east"].put(key, b"planted", {"sha256": "0" * 64, "size": "7"})
    running.write(1)
    eventually(lambda: "other content" in str(running.get()["alerts"]), "the alert")
    assert (running.pg.data_dir / "pg_wal" / name).exists()
    eventually(lambda: "other content" in running.pg.log.read_text(), "Postgres's complaint")
    assert b"other content" in (running.state / "alerts.jsonl").read_bytes()
    found = running.stores["east"].get(key)
    assert found is not None
    assert found[0] == b"planted"
    for store in running.stores.values():
        store.delete(key)
    running.drain()


def test_what_was_archived_comes_back_verified(running: World, tmp_path: Path) -> None:
    names = running.write(2)
    running.drain()
    store, system = running.stores["east"], running.system()
    assert wal.fetch(store, system, names, tmp_path) == 2 * 16 * 1024 * 1024
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted(names)
    number = int(names[-1][16:], 16)
    assert number * 2**24 < wal.last_lsn(running.pg.bin_dir, tmp_path / names[-1]) <= (number + 1) * 2**24
    at = wal.last_commit(running.pg.bin_dir, [tmp_path / each for each in names])
    assert at is not None
    assert 0 <= time.time() - at.timestamp() < 120
    missing = name_of(1, number + 1000)
    with pytest.raises(Failed, match=f"{missing} is not in the archive"):
        wal.fetch(store, system, [*names, missing], tmp_path)


def test_sigterm_ends_both_cleanly(running: World) -> None:
    worker = running.pid()
    assert running.end() == 0
    assert not Path(f"/proc/{worker}").exists()
    assert not running.socket.exists()


def test_the_worker_dies_with_its_supervisor(running: World) -> None:
    worker = running.pid()
    assert running.process is not None
    running.process.kill()
    running.process.wait()
    running.process = None
    eventually(lambda: not Path(f"/proc/{worker}").exists(), "the worker's end", 5)
