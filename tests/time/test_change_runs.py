"""Changes of roles under a real Prefect server: the form, the ledger beside it, a dead worker, a server that hangs."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import urllib3

from deployments.flown import flown, prefect_home, task_runs
from deployments.lab.process import Processes, wait_until
from deployments.serve import server
from recovery.errors import Refused
from recovery.hazard import Acceptance
from recovery.outcome import Changed
from recovery.plan import Plan
from tasks import approving, changing, form
from tasks.engine import Act
from tasks.home import Home
from tasks.journal import read_records
from tests.time.asking import ask
from tests.time.change_scene import changing_home, made_up, performed

ROOT = Path(__file__).resolve().parents[2]
LOSS = (Acceptance(klass="data-loss", limit=10, unit="s"),)
PATIENCE_SECONDS = 100.0


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def api_url(place: Path) -> Iterator[str]:
    with server(place) as ready:
        yield ready()


@contextmanager
def running(folder: Path, api_url: str, digest: str = "") -> Iterator[subprocess.Popen[str]]:
    """The flow in a process of its own."""
    script = Path(__file__).with_name("small_change.py")
    argv = [sys.executable, str(script), str(folder), api_url, digest]
    ran = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield ran
    finally:
        ran.kill()
        ran.communicate(timeout=20)


def until(what: str, holds: Callable[[], Any]) -> Any:
    found: list[Any] = []

    def looks() -> bool:
        found[:] = [holds()]
        return bool(found[0])

    wait_until(looks, what=what, patience_seconds=PATIENCE_SECONDS, hint="the server's log")
    return found[0]


def paused(api_url: str, at_least: int) -> Callable[[], str]:
    """The id of the newest flow run, once it is paused for the so-manieth time."""

    def look() -> str:
        runs = ask(f"{api_url}/flow_runs/filter", {"sort": "START_TIME_DESC", "limit": 1})
        if not runs or runs[0]["state_type"] != "PAUSED":
            return ""
        states = json.loads(
            urllib3.request("GET", f"{api_url}/flow_run_states/?flow_run_id={runs[0]['id']}", timeout=20).data
        )
        times = sum(each["type"] == "PAUSED" for each in states)
        given = urllib3.request(
            "GET",
            f"{api_url}/flow_runs/{runs[0]['id']}/input/{runs[0]['state']['state_details']['run_input_keyset']['schema']}",
            timeout=20,
        )
        return str(runs[0]["id"]) if times >= at_least and given.status == 200 else ""

    return look


def answered(api_url: str, run: str, **words: str) -> str:
    told = ask(f"{api_url}/flow_runs/{run}/resume", {"run_input": words})
    assert "status" in told, told
    return str(told["status"])


def planned(home: Home) -> Plan:
    with made_up(home.folder):
        made = form.opened(home, form.Wanted(runbook="failover", service="core", to="west"))
    assert isinstance(made, form.Case)
    return made.plan


def plans(home: Home) -> list[Plan]:
    keys = home.ledger().list("plans/")
    return [changing.find(home, key.removeprefix("plans/").removesuffix(".json")) for key in keys]


def approved(home: Home, plan: Plan) -> None:
    approving.approve(home, plan, who="ann", accepted=LOSS, lasts=timedelta(hours=1))


def acted(home: Home, plan: Plan) -> Changed:
    """`dr act`, again until the dead engine's lease has lapsed."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    with made_up(home.folder):
        while True:
            try:
                return changing.act(Act(home=home), plan)
            except Refused:
                assert time.monotonic() < deadline
                time.sleep(0.2)


def steps(plan: Plan) -> list[str]:
    return sorted(each.id for each in plan.steps)


def test_the_form_is_asked_again_until_consent_is_complete_and_each_step_is_a_task_run(
    tmp_path: Path, api_url: str
) -> None:
    home = changing_home(tmp_path)
    with running(tmp_path, api_url):
        run = until("a form", paused(api_url, 1))
        (plan,) = plans(home)
        assert answered(api_url, run, decision="maybe") == "REJECT"
        assert answered(api_url, run, decision="approve") == "ACCEPT"
        until("the form again", paused(api_url, 2))
        assert performed(tmp_path) == []
        assert answered(api_url, run, decision="approve", accept="data-loss <= 10 s") == "ACCEPT"
        until("the last step", lambda: sorted(performed(tmp_path)) == steps(plan))
        # The server records task runs from events, the last of them a moment behind the flow run's own end.
        until("every task run", lambda: len(task_runs(api_url, run)) >= len(plan.steps))
        told = flown(api_url, run)
        artifacts = {each["key"] for each in ask(f"{api_url}/artifacts/filter", {})}
        lines = [each["message"] for each in ask(f"{api_url}/logs/filter", {"limit": 200})]
    assert (told.name, told.state) == ("failover-core-west", "Completed"), told.message
    assert "failover of core, east → west: met" in told.message
    assert sorted(name for name, _ in told.task_runs) == steps(plan)
    assert {word for _, word in told.task_runs} == {"Completed"}
    assert {"plan-failover-core", "result-failover-core", "timeline-failover-core"} <= artifacts
    assert any("not accepted: data-loss 4.2 s" in each for each in lines)
    assert acted(home, plan).consent == ("prefect-ui",)


def test_consent_in_the_ledger_goes_on_without_the_form_and_a_killed_worker_is_followed_by_dr_act(
    tmp_path: Path, api_url: str
) -> None:
    home = changing_home(tmp_path)
    (tmp_path / "deadly").touch()
    with running(tmp_path, api_url) as flow:
        until("a form", paused(api_url, 1))
        (plan,) = plans(home)
        approved(home, plan)
        assert flow.wait(PATIENCE_SECONDS) == -9
    assert "fence" in performed(tmp_path)
    assert "promote" not in performed(tmp_path)
    told = acted(home, plan)
    assert (told.outcome, told.consent) == ("met", ("ann",))
    assert sorted(performed(tmp_path)) == steps(plan)


def test_nobody_in_time_ends_the_flow_run_with_our_reason_and_a_correct_answer_then_goes_on(
    tmp_path: Path, api_url: str
) -> None:
    home = changing_home(tmp_path)
    (tmp_path / "hurried").touch()
    with running(tmp_path, api_url) as flow:
        run = until("a form", paused(api_url, 1))
        assert flow.wait(PATIENCE_SECONDS) == 0
    (plan,) = plans(home)
    ended = json.loads(urllib3.request("GET", f"{api_url}/flow_runs/{run}", timeout=20).data)["state"]
    assert ended["type"] == "FAILED"
    assert ended["message"].startswith(f"plan {plan.digest[:12]} is not approved within 0.0833333 min; nothing was")
    assert performed(tmp_path) == []
    approved(home, plan)
    assert acted(home, plan).outcome == "met"


@pytest.mark.slow
def test_with_the_server_hanging_in_mid_run_the_run_goes_on(tmp_path: Path, api_url: str, place: Path) -> None:
    home = changing_home(tmp_path)
    plan = planned(home)
    approved(home, plan)
    (tmp_path / "held").touch()
    processes = Processes(lab=prefect_home(place))
    with running(tmp_path, api_url, plan.digest) as flow:
        until("the middle of the run", (tmp_path / "waits").exists)
        processes.freeze("server")
        try:
            (tmp_path / "held").unlink()
            until("the last step", lambda: sorted(performed(tmp_path)) == steps(plan))
            told = until("the end", lambda: (done := acted(home, plan)).outcome == "met" and done)
        finally:
            processes.thaw("server")
        assert flow.wait(PATIENCE_SECONDS) == 0
    assert told.consent == ("ann",)


@pytest.mark.slow
def test_a_flow_run_that_is_cancelled_in_prefect_cancels_the_run_and_begins_nothing_more(
    tmp_path: Path, api_url: str
) -> None:
    home = changing_home(tmp_path)
    plan = planned(home)
    approved(home, plan)
    (tmp_path / "held").touch()
    with running(tmp_path, api_url, plan.digest) as flow:
        until("the middle of the run", (tmp_path / "waits").exists)
        run = ask(f"{api_url}/flow_runs/filter", {"sort": "START_TIME_DESC", "limit": 1})[0]["id"]
        cancelling = {"state": {"type": "CANCELLING", "name": "Cancelling"}}
        assert ask(f"{api_url}/flow_runs/{run}/set_state", cancelling)["status"] == "ACCEPT"
        flow.terminate()
        kinds = lambda: {each.kind for each in read_records(home.ledger(), plan.run)}  # noqa: E731 -- one line reads best
        until("the order on record", lambda: "order.cancelled" in kinds())
        (tmp_path / "held").unlink()
        flow.wait(PATIENCE_SECONDS)
    assert acted(home, plan).outcome == "cancelled"
    assert "promote" not in performed(tmp_path)


def test_a_cancellation_that_takes_longer_than_the_workers_grace_says_how_it_goes_on_and_acting_again_ends_it(
    tmp_path: Path, api_url: str
) -> None:
    home = changing_home(tmp_path)
    plan = planned(home)
    approved(home, plan)
    for name in ("held", "hurried"):
        (tmp_path / name).touch()
    with running(tmp_path, api_url, plan.digest) as flow:
        until("the middle of the run", (tmp_path / "waits").exists)
        run = ask(f"{api_url}/flow_runs/filter", {"sort": "START_TIME_DESC", "limit": 1})[0]["id"]
        ask(f"{api_url}/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}})
        flow.terminate()
        wanted = {"logs": {"flow_run_id": {"any_": [run]}}, "limit": 200}
        said = (
            f"longer than the 2 s that a cancelled flow run has; go on with giving back by 'dr resume {plan.run[:12]}'"
        )
        until("the words", lambda: any(said in each["message"] for each in ask(f"{api_url}/logs/filter", wanted)))
        flow.kill()  # as the worker does behind its grace
    (tmp_path / "held").unlink()
    assert acted(home, plan).outcome == "cancelled"
    assert "promote" not in performed(tmp_path)


@pytest.mark.slow
def test_a_dead_workers_flow_is_run_again_without_a_word_and_its_run_is_gone_on_with(
    tmp_path: Path, api_url: str
) -> None:
    home = changing_home(tmp_path)
    (tmp_path / "deadly").touch()
    with running(tmp_path, api_url) as flow:
        until("a form", paused(api_url, 1))
        (plan,) = plans(home)
        approved(home, plan)
        assert flow.wait(PATIENCE_SECONDS) == -9
    assert "promote" not in performed(tmp_path)
    with running(tmp_path, api_url) as flow:
        assert flow.wait(PATIENCE_SECONDS) == 0
    assert plans(home) == [plan]
    assert acted(home, plan).outcome == "met"
    assert sorted(performed(tmp_path)) == steps(plan)
