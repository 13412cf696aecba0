"""Runs under a real Prefect server, the one that `make serve` starts, with made-up verbs behind a real engine."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from deployments.flown import Flown, flown, prefect_home
from deployments.lab.process import HOME_MARK
from deployments.serve import server
from tests.time.asking import ask
from tests.time.small_run import NO_HOME, WRONG

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 60.0


def run(home: Path, api_url: str) -> tuple[Flown, Flown, Flown]:
    """A run that holds, one whose check fails, and a run of these and a refused one; as the server tells them."""
    script = Path(__file__).with_name("small_flows.py")
    argv = [sys.executable, str(script), str(home), api_url]
    ran = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert ran.returncode == 0, ran.stderr
    parent = ran.stdout.strip().splitlines()[-1]
    wanted = {"flow_runs": {"parent_flow_run_id": {"any_": [parent]}}, "sort": "START_TIME_ASC"}
    missed, met = (flown(api_url, each["id"]) for each in ask(f"{api_url}/flow_runs/filter", wanted)[:2])
    return met, missed, flown(api_url, parent)


def left_behind(home: Path) -> list[int]:
    mark = str(prefect_home(home))
    found = []
    for each in psutil.process_iter():
        try:
            if each.environ().get(HOME_MARK) == mark:
                found.append(each.pid)
        except (psutil.Error, OSError):
            continue
    return found


def runs_made(api_url: str) -> list[datetime]:
    """When the runs begin that the server makes by itself for a schedule, one at 03:00 UTC each day."""
    flow = ask(f"{api_url}/flows/", {"name": "scheduled"})["id"]
    slot = {"schedule": {"cron": "0 3 * * *", "timezone": "UTC"}, "active": True}
    made = ask(f"{api_url}/deployments/", {"name": "nightly", "flow_id": flow, "schedules": [slot]})["id"]
    wanted = {"deployments": {"id": {"any_": [made]}}, "sort": "EXPECTED_START_TIME_ASC"}
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := ask(f"{api_url}/flow_runs/filter", wanted)) and time.monotonic() < deadline:
        time.sleep(0.3)
    return [datetime.fromisoformat(each["expected_start_time"]) for each in found]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """The home and the address of a server, which leaves no process behind."""
    home = tmp_path_factory.mktemp("served")
    with server(home) as ready:
        yield home, ready()
    assert left_behind(home) == []


def test_a_server_makes_the_runs_of_its_schedules_by_itself(served: tuple[Path, str]) -> None:
    made = runs_made(served[1])
    assert made, "schedules are dead: their log is HOME/prefect/log/server.log"
    assert {each.astimezone(UTC).strftime("%H:%M") for each in made} == {"03:00"}


def test_each_move_is_a_task_run_named_after_its_step_and_a_failure_says_fact_and_hint(
    served: tuple[Path, str],
) -> None:
    home, api_url = served
    met, missed, both = run(home, api_url)
    checks = [each for each in ask(f"{api_url}/task_runs/filter", {"limit": 50}) if each["name"] == "check"]
    artifacts = {each["key"]: each for each in ask(f"{api_url}/artifacts/filter", {})}
    lines = ask(f"{api_url}/logs/filter", {"limit": 200})
    assert (met.name, met.state, met.message) == ("small-met", "Completed", "orders-db · small · met")
    assert met.task_runs == (("fetch", "Completed"), ("check", "Completed"), ("discard", "Completed"))
    assert (missed.name, missed.state) == ("small-missed", "Failed")
    assert missed.task_runs == (("fetch", "Completed"), ("check", "Failed"), ("discard", "Completed"))
    assert WRONG.fact in missed.message
    assert both.state == "Failed"
    assert WRONG.fact in both.message
    assert str(NO_HOME) in both.message, "with the hint of what never began"
    assert str(WRONG) in {each["state"]["message"] for each in checks}
    assert {"proof-small", "proof-small-checks", "both"} <= set(artifacts)
    assert artifacts["proof-small"]["type"] == "markdown"
    assert any("check: failed" in each["message"] for each in lines)
