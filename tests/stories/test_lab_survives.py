"""What a lab survives: its starter killed at any moment, its data kept over down and up, another lab beside it."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import psycopg
import pytest

from deployments.lab import layout
from deployments.lab.app import part as app
from deployments.lab.environment import for_python, module
from deployments.lab.s3.client import client
from deployments.lab.status import complete
from deployments.lab.world import World, down, up
from recovery.errors import BadInput
from tasks.s3_store import open_store

pytestmark = pytest.mark.lab
LIGHT = frozenset({"agent", "aws"})


def killed_after(home: Path, seconds: float) -> None:
    """Start `dr lab up` and kill -9 it after a moment."""
    words = module("deployments.cli.main", "lab", "up", "--home", home, "--without", "agent", "--without", "aws")
    with subprocess.Popen(words, env={**os.environ, **for_python()}, stdout=subprocess.DEVNULL) as starter:
        try:
            starter.wait(seconds)
        except subprocess.TimeoutExpired:
            starter.send_signal(signal.SIGKILL)


def test_a_starter_killed_at_any_point_is_repaired_by_the_next_up(tmp_path: Path):
    home = tmp_path / "h"
    for seconds in (0.9, 1.6, 2.4):
        killed_after(home, seconds)
    world = up(home, without=LIGHT)
    try:
        assert complete(world)
        app.test(world, "east")
        with psycopg.connect(world.dsn("west")) as sql:
            assert sql.execute("select count(*) from accounts").fetchone() == (500,)
        assert list(world.processes.orphans()) == []
    finally:
        down(home, wipe=True)
    with pytest.raises(BadInput, match="there is no lab"):
        World.load(home)


def streams_on_a_port_of_its_own(world: World) -> bool:
    with psycopg.connect(world.dsn("west-2")) as sql:
        said = sql.execute("select pg_is_in_recovery(), status from pg_stat_wal_receiver").fetchone()
        return said == (True, "streaming") and sql.info.port == layout.PORTS["postgres-2"]


@pytest.mark.slow
def test_two_labs_stand_side_by_side_and_data_outlives_down_and_up(tmp_path: Path):
    one = up(tmp_path / "one", without=LIGHT)
    try:
        other = up(tmp_path / "other", standbys=2, without=LIGHT)
        try:
            assert one.block != other.block
            assert streams_on_a_port_of_its_own(other)
            assert not set(one.s3_base_ports.values()) & set(other.s3_base_ports.values())
            app.ask(one.url("app", "east"), "POST", "/rows", b'{"seq": 5, "payload": "kept"}')
            client(one.s3("witness")).put_object(Bucket=layout.EVIDENCE, Key="kept", Body=b"kept")
            stopped = down(one.home)
            assert "east.postgres" in stopped
            assert down(one.home) == [], "again is harmless"
            assert complete(other), "another home is not touched"
            one = up(one.home, without=LIGHT)
            with psycopg.connect(one.dsn("west")) as sql:
                assert sql.execute("select payload from rows where seq = 5").fetchone() == ("kept",)
            # Behind a restart its volumes register one by one; the product's store waits for that in the same way.
            store = open_store(one.s3("witness"), layout.EVIDENCE, region="us-east-1")
            kept = store.get("kept")
            assert kept is not None
            assert kept[0] == b"kept"
        finally:
            down(other.home, wipe=True)
    finally:
        down(one.home, wipe=True)


def test_what_cannot_miss_is_refused(tmp_path: Path):
    with pytest.raises(BadInput, match="cannot be without postgres"):
        up(tmp_path / "h", without=frozenset({"postgres"}))
