"""S3 in storms, slow, cut again and again, gone in the middle of a backup; a full disk; another home beside ours: told
or waited out, nothing lost, nothing left, and the next run goes on."""

from __future__ import annotations

import http.client
import os
import random
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

import pytest
from test_troubles import broken, proves, told_well
from troubled import DB, Running, Said, back_up, dr, evidence_troubles, left, runs_of, swept, words

from deployments.lab.environment import for_python
from deployments.lab.proxy import control
from deployments.lab.proxy.weather import FINE, PathWeather, both
from deployments.lab.world import World
from recovery.check import Severity
from tasks import proving
from tasks.engine import Act
from tasks.home import Home, open_home
from tasks.postgres import looking
from tasks.scoring import pasts
from tasks.sweeping import sweep_scratch

pytestmark = [pytest.mark.lab, pytest.mark.slow]
Lab = tuple[World, Home]


class Stormy(BaseHTTPRequestHandler):
    """Hands requests on to the real server; now and then it answers 503 instead, or cuts the answer in half."""

    to: ClassVar[str]
    share: ClassVar[float]
    dice: ClassVar[random.Random]
    struck: ClassVar[list[str]]
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        return

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.dice.random() < self.share:
            self.struck.append(self.command)
            self._answer(503, b"<Error><Code>SlowDown</Code><Message>slow down</Message></Error>", {})
            return
        real = http.client.HTTPConnection(self.to, timeout=20)
        try:
            given = {name: text for name, text in self.headers.items() if name.lower() not in ("expect", "connection")}
            real.request(self.command, self.path, body=body, headers=given)
            answer = real.getresponse()
            self._answer(answer.status, answer.read(), dict(answer.headers.items()))
        finally:
            real.close()

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass  # noqa: N815 -- the names that http.server calls

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response_only(status)
        for name, text in headers.items():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, text)
        length = headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(body))
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            if len(body) > 4096 and self.dice.random() < self.share / 3:
                self.struck.append("cut")
                self.wfile.write(body[: len(body) // 2])
                self.close_connection = True
                return
            self.wfile.write(body)


@contextmanager
def storm(endpoint: str, share: float) -> Iterator[tuple[str, list[str]]]:
    """An endpoint that strikes that share of all requests, and what it struck."""

    class Here(Stormy):
        to = urlsplit(endpoint).netloc
        dice = random.Random(7)
        struck: ClassVar[list[str]] = []

    Here.share = share
    with ThreadingHTTPServer(("127.0.0.1", 0), Here) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", Here.struck
        finally:
            server.shutdown()
            thread.join()


def another_home(home: Home, folder: Path, change: Callable[[str], str] = lambda text: text) -> Home:
    """A second installation with the same catalog, but for what is changed, and the same keys."""
    folder.mkdir()
    shutil.copytree(home.folder / "keys", folder / "keys")
    (folder / "catalog.yaml").write_text(change((home.folder / "catalog.yaml").read_text()))
    return open_home(folder)


@contextmanager
def weather(world: World, door: str, each: PathWeather) -> Iterator[None]:
    control.change(world.control, {door: each})
    try:
        yield
    finally:
        control.change(world.control, {door: FINE})


def test_a_proof_goes_through_a_storm_of_503_and_cut_answers(troubled: Lab, tmp_path: Path):
    world, home = troubled
    real = world.s3("west").endpoint_url
    assert real is not None
    with storm(real, 0.15) as (url, struck):
        other = another_home(home, tmp_path / "home", lambda text: text.replace(real, url))
        proof = proving.prove(Act(home=other), proving.Wanted(resource=DB, sort="latest"))
    assert proof.verdict.value == "met", proof
    assert len(struck) > 5
    assert [*other.scratch.glob("*"), *left(home)] == []
    assert evidence_troubles(home, [proof.run]) == []


@pytest.mark.slow
def test_a_backup_goes_through_a_storm_of_503(troubled: Lab, tmp_path: Path):
    world, home = troubled
    real = world.s3("east").endpoint_url
    assert real is not None
    with storm(real, 0.15) as (url, struck):
        other = another_home(home, tmp_path / "home", lambda text: text.replace(real, url))
        taken = back_up(other)
    assert len(struck) > 2
    assert taken.id in {each.id for each in looking.backups(home.backups(DB, "east"))}
    proves(home)


@pytest.mark.slow
def test_an_endless_storm_is_told_within_the_patience_with_a_hint(troubled: Lab, tmp_path: Path):
    world, home = troubled
    real = world.s3("west").endpoint_url
    assert real is not None
    with storm(real, 1.0) as (url, _):
        other = another_home(home, tmp_path / "home", lambda text: text.replace(real, url))
        said = dr(other.folder, "prove", DB, "--latest", "--json")
    told_well(said, 1, 3)
    assert "SlowDown" in said.err + said.out
    assert said.seconds < 40, said


@pytest.mark.parametrize("how", ["delayed", pytest.param("cut", marks=pytest.mark.slow)])
def test_connections_that_are_slow_or_cut_again_and_again_do_not_fail_a_proof(troubled: Lab, how: str):
    world, home = troubled
    door = "engine-west:s3"
    ended = threading.Event()

    def cut() -> None:
        while not ended.wait(0.7):
            control.change(world.control, {door: both("reset")})
            control.change(world.control, {door: FINE})

    with weather(world, door, both("pass", 40.0) if how == "delayed" else FINE):
        cutter = threading.Thread(target=cut)
        if how == "cut":
            cutter.start()
        try:
            proof = proving.prove(Act(home=open_home(home.folder)), proving.Wanted(resource=DB, sort="latest"))
        finally:
            ended.set()
            if how == "cut":
                cutter.join()
    assert proof.verdict.value == "met", proof
    assert left(home) == []


def test_s3_that_stops_during_a_backup_is_waited_for(troubled: Lab):
    world, home = troubled
    with weather(world, "engine-east:s3", both("pass", 60.0)):  # so that the backup lasts for the moment of the stop
        running = Running(home.folder, "backup", DB, "--full", "--json")
        running.await_line("take: begun")
        with broken(world, "s3:east", "stop"):
            time.sleep(2)  # how long the trouble lasts
    said = running.end(120)
    assert said.code == 0, said
    assert said.document["id"] in {each.id for each in looking.backups(home.backups(DB, "east"))}
    assert left(home) == []


@pytest.mark.slow
def test_s3_that_is_gone_during_a_backup_is_told_and_the_next_backup_goes_on(troubled: Lab):
    world, home = troubled
    before = {each.id for each in looking.backups(home.backups(DB, "east"))}
    with weather(world, "engine-east:s3", both("pass", 60.0)):
        running = Running(home.folder, "backup", DB, "--full", "--json")
        running.await_line("take: begun")
        with broken(world, "s3:east", "blackhole"):
            said = running.end(240)
    told_well(said, 1)
    assert "bucket backups at http" in said.err
    assert {each.id for each in looking.backups(home.backups(DB, "east"))} == before
    swept(home)
    assert dr(home.folder, "backup", DB, "--full", "--json").code == 0
    assert list(runs_of(home, "backup").values())[-2:] == ["missed", "met"]
    assert left(home) == []


def test_a_disk_that_is_full_during_a_backup_is_told_and_leaves_nothing(troubled: Lab, tmp_path: Path):
    _, home = troubled
    into = tmp_path / "small"
    into.mkdir()
    line = 'mount -t tmpfs -o size=8k none "$1" || exit 99; export TMPDIR="$1"; shift; exec "$@"'
    argv = ["unshare", "-Urm", "sh", "-c", line, "sh", str(into), *words(home.folder, "backup", DB, "--incremental")]
    ran = subprocess.run(
        argv, capture_output=True, text=True, timeout=120, check=False, env={**os.environ, **for_python()}
    )
    if ran.returncode == 99 or "unshare" in ran.stderr:
        pytest.skip("this machine has no user and mount namespaces")
    told_well(Said(code=ran.returncode, out=ran.stdout, err=ran.stderr, seconds=0), 1)
    assert "space" in ran.stderr
    swept(home)
    assert left(home) == []
    assert dr(home.folder, "backup", DB, "--incremental", "--json").code == 0


def test_a_damaged_marker_is_a_finding_and_the_other_backups_stay_in_use(troubled: Lab):
    _, home = troubled
    store = home.backups(DB, "west")
    key = f"base/{looking.backups(store)[0].system_id}/20990101T000000Z-full/backup.json"
    store.put(key, b'{"id": ')
    try:
        proof = proving.prove(Act(home=home), proving.Wanted(resource=DB, sort="latest"))
        found = [each for each in proof.findings if "20990101T000000Z-full/backup.json" in each.fact]
        said = dr(home.folder, "status", DB, "--json")
    finally:
        store.delete(key)
    assert proof.verdict.value == "met", proof
    assert [each.severity for each in found] == [Severity.WARNING]
    assert said.code == 1
    assert "20990101T000000Z-full/backup.json" in said.out


@pytest.mark.slow
def test_another_home_that_shares_the_ledger_takes_over_and_says_where_the_scratch_lies(troubled: Lab, tmp_path: Path):
    _, home = troubled
    other = another_home(home, tmp_path / "home")
    running = Running(other.folder, "prove", DB, "--latest", "--json")
    running.await_line("recover: begun")
    running.kill()
    told: list[str] = []
    proof = proving.prove(
        Act(home=home, tell=lambda event: told.append(event.text)), proving.Wanted(resource=DB, sort="latest")
    )
    assert proof.verdict.value == "met", proof
    assert any(str(other.folder) in text and "'dr sweep --really' there removes it" in text for text in told), told
    seen = [each.outcome for each in pasts(other.ledger()).runs if each.purpose == "prove"]
    assert seen[:2] == ["met", "cancelled"], "both homes see the same runs, newest first"
    later = open_home(other.folder, now=lambda: home.now() + timedelta(hours=5))
    assert len(sweep_scratch(later).discarded) == 1
    assert left(other) == []
