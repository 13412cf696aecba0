"""The lab, raised for real: every part is used, broken and healed; nothing acknowledged is lost; nothing is left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import psycopg
import pytest

from deployments.lab import breaking, faults, layout, observer
from deployments.lab import load as workload
from deployments.lab.app import part as app
from deployments.lab.aws import part as aws
from deployments.lab.environment import for_python
from deployments.lab.part import Unwell
from deployments.lab.postgres import part as postgres
from deployments.lab.process import HOME_MARK, wait_until
from deployments.lab.proxy import part as proxy
from deployments.lab.s3 import part as s3
from deployments.lab.status import complete, status
from deployments.lab.world import World, down, up
from recovery.errors import BadInput

pytestmark = pytest.mark.lab


def dr(home: Path, *words: str) -> tuple[int, dict]:
    ran = subprocess.run(
        [sys.executable, "-m", "deployments.cli.main", "lab", *words, "--json", "--home", str(home)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **for_python()},
        check=False,
    )
    return ran.returncode, json.loads(ran.stdout)


def of_this_home(home: Path) -> list[str]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(HOME_MARK) == str(home / "lab") and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline()))
        except (psutil.Error, OSError):
            continue
    return found


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    # Spaces, and longer than a unix socket's path may be: the lab has to cope with both.
    home = tmp_path_factory.mktemp("lab") / "a home with spaces" / ("long" * 15)
    raised = up(home, without=frozenset({"agent"}))
    yield raised
    down(home, wipe=True)
    assert of_this_home(home) == []
    assert not raised.runtime.exists()


def row(world: World, seq: int) -> int:
    body = json.dumps({"seq": seq, "payload": "x"}).encode()
    return app.ask(world.url("app", "east"), "POST", "/rows", body)[0]


def test_every_part_passes_its_self_test_and_status_says_where_it_is(world: World):
    proxy.test(world)
    for place in layout.BUCKETS:
        s3.test(world, place)
    for site in layout.SITES:
        postgres.test(world, site)
        app.test(world, site)
        aws.test(world, site)
    told = status(world)
    assert told["state"] == "up"
    for site in layout.SITES:
        part = told["sites"][site]
        assert {"postgres", "s3", "aws", "app"} <= set(part)
        with psycopg.connect(part["postgres"]["dsn"]) as sql:
            assert sql.execute("select current_setting('data_checksums'), count(*) from accounts").fetchone() == (
                "on", 500,
            )  # fmt: skip
        assert "password" not in json.dumps(told)
        assert Path(part["s3"]["credentials_file"]).stat().st_mode & 0o777 == 0o600
        assert all(psutil.pid_exists(each["pid"]) for each in part.values())
    assert world.passfile.stat().st_mode & 0o777 == 0o600
    secret = world.passfile.read_text().split(":")[-1].strip()
    assert not [line for line in of_this_home(world.home) if secret in line]


def test_rows_flow_to_the_standby_and_a_killed_primary_comes_back_with_what_it_acknowledged(world: World):
    assert row(world, 1_000_001) == 201
    fault = faults.parse("postgres:east", "kill")
    breaking.begin(world, fault)
    assert not complete(world)
    assert row(world, 1_000_002) in {0, 503}
    assert breaking.end(world, "postgres:east") == ["postgres:east"]
    wait_until(lambda: row(world, 1_000_002) == 201, what="a row after healing", patience_seconds=15, hint="see logs")
    with psycopg.connect(world.dsn("west")) as standby:

        def both_there() -> bool:
            return standby.execute("select count(*) from rows where seq >= 1000001").fetchone() == (2,)

        standby.autocommit = True
        wait_until(both_there, what="both rows on the standby", patience_seconds=30, hint="is it streaming?")


def test_a_stopped_server_hangs_and_a_closed_path_refuses_until_healed(world: World):
    breaking.begin(world, faults.parse("s3:west", "stop"))
    breaking.begin(world, faults.parse("network:engine-east", "cut"))
    told = status(world)
    assert told["sites"]["west"]["s3"]["state"] == "stopped"
    assert {each["name"] for each in told["faults"]} == {"s3:west", "network:engine-east"}
    assert app.ask(world.url("app", "east"), "GET", "/health") == (0, "URLError")
    assert app.ask(f"http://{world.address('west')}:8333", "GET", "/", patience_seconds=0.5)[0] == 0
    assert breaking.end(world, "s3:west") == ["s3:west"]
    s3.test(world, "west")
    assert app.ask(world.url("app", "east"), "GET", "/health")[0] == 0, "the other fault stands"
    breaking.end(world)
    app.test(world, "east")


def test_a_self_test_can_fail(world: World):
    breaking.begin(world, faults.parse("app:west", "kill"))
    with pytest.raises(Unwell):
        app.test(world, "west")
    breaking.end(world)


def test_the_workload_writes_down_exactly_what_was_acknowledged(world: World):
    told = workload.run(world, rate=100, seconds=1, seed=7, stop=lambda: False)
    assert told["acknowledged"] > 5
    lines = [json.loads(line) for line in workload.acknowledgements(world).read_text().splitlines()]
    with psycopg.connect(world.dsn("east")) as sql:
        mine = "seq not in (1000001, 1000002) and seq < 1000000000"
        stored = dict(sql.execute(f"select seq, payload from rows where {mine}").fetchall())
    assert {line["seq"] for line in lines} == set(stored)
    assert all(text == workload.payload(7, seq) for seq, text in stored.items())


def test_up_again_and_the_whole_command_line(world: World):
    code, told = dr(world.home, "up", "--without", "agent")
    assert (code, told["outcome"]) == (0, "already up")
    code, told = dr(world.home, "status")
    assert (code, told["state"], told["home"]) == (0, "up", str(world.home))
    code, told = dr(world.home, "break", "disk:east")
    assert code == 2
    assert "site:east" in told["error"]["hint"]
    assert dr(world.home, "break", "aws:west")[0] == 0
    assert dr(world.home, "status")[1]["sites"]["west"]["aws"]["state"] == "door closed"
    assert dr(world.home, "heal")[1]["healed"] == ["aws:west"]
    assert dr(world.home / "elsewhere", "status")[0] == 2


def test_an_observer_outside_sees_an_outage_that_is_healed_and_misses_nothing(world: World):
    observer.begin(world)

    def acknowledged() -> int:
        return sum(each.outcome == "acknowledged" for each in observer.sessions(world)[-1])

    def more(than: int) -> None:
        wait_until(lambda: acknowledged() > than, what="writes", patience_seconds=20, hint="dr lab observer")

    try:
        more(3)
        with pytest.raises(BadInput):
            observer.begin(world)
        breaking.begin(world, faults.parse("app:east", "kill"))
        broken = datetime.now(UTC)
        wait_until(
            lambda: any(each.outcome == "failed" for each in observer.sessions(world)[-1]),
            what="a failed try",
            patience_seconds=10,
            hint="the platform was killed",
        )
        breaking.end(world)
        healed = datetime.now(UTC)
        more(acknowledged())
    finally:
        assert observer.end(world)
    told = observer.look(world)
    assert (told["running"], told["missing_count"], told["two_writers_count"]) == ("no", 0, 0)
    assert told["primary"]["site"] == "east"
    lost = max(told["outages"], key=lambda each: each["seconds"])
    assert datetime.fromisoformat(lost["begin"]) <= broken
    assert broken < datetime.fromisoformat(lost["end"]) <= healed + timedelta(seconds=10)
    effects = json.loads(app.ask(world.url("app", "east"), "GET", "/side-effects")[1])
    assert effects["parked"] is False
    west = json.loads(app.ask(world.url("app", "west"), "GET", "/side-effects")[1])
    assert (west["parked"], west["sent"]) == (True, 0)
