"""As a user does it: `make serve` from nothing, a site lost, the form, a dead worker, and home again."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import urllib3

from recovery.journal import ENDED
from tasks.changing import find
from tasks.home import open_home
from tasks.journal import read_records

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 300.0
OVER = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


def until(what: str, look: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := look()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.3)
    return found


@contextmanager
def serving(home: Path) -> Iterator[str]:
    """`make serve` on any free port; gives the API's address once it says that it is ready."""
    log = home.with_name("serve.log")
    argv = [sys.executable, "-m", "deployments.serve", "--home", str(home), "--port", "0"]
    with log.open("w") as out:
        served = subprocess.Popen(argv, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT)
    try:
        until("make serve", lambda: "Open Deployments" in log.read_text() or served.poll() is not None)
        assert served.poll() is None, log.read_text()
        yield re.search(r"http://\S+", log.read_text())[0] + "/api"  # type: ignore[index]
    finally:
        served.terminate()
        served.wait(120)


def lab(home: Path, word: str) -> None:
    argv = [sys.executable, "-m", "deployments.cli.main", "lab", word, "site:east", "--home", str(home)]
    subprocess.run(argv, cwd=ROOT, check=True, capture_output=True, timeout=200)


class Ui:
    """What the page calls."""

    def __init__(self, api_url: str) -> None:
        self.api_url = api_url

    def ask(self, method: str, path: str, wanted: Any = None) -> Any:
        again = urllib3.Retry(8, status_forcelist=(503,), allowed_methods=None, backoff_factor=0.5)
        answer = urllib3.request(method, f"{self.api_url}/{path}", json=wanted, timeout=30, retries=again)
        assert answer.status < 300, answer.data
        return json.loads(answer.data)

    def start(self, name: str) -> str:
        found = self.ask("POST", "deployments/filter", {"deployments": {"name": {"any_": [f"lab-{name}"]}}})[0]
        run = self.ask("POST", f"deployments/{found['id']}/create_flow_run", {"parameters": found["parameters"]})
        return str(run["id"])

    def state(self, run: str) -> Any:
        return self.ask("GET", f"flow_runs/{run}")["state"]

    def consent(self, run: str) -> str:
        """Fill in the form; gives the text above it."""

        def shown() -> Any:
            keys = self.state(run)["state_details"].get("run_input_keyset") or {}
            with suppress(AssertionError):
                return self.ask("GET", f"flow_runs/{run}/input/{keys.get('description')}")

        text = until("the form", shown)
        given = {"run_input": {"decision": "approve", "accept": "all"}}
        assert self.ask("POST", f"flow_runs/{run}/resume", given)["status"] == "ACCEPT"
        return str(text)

    def ended(self, run: str) -> Any:
        return until("the end of the flow run", lambda: (state := self.state(run))["type"] in OVER and state)

    def said(self, run: str, text: str) -> bool:
        wanted = {"logs": {"flow_run_id": {"any_": [run]}}, "limit": 200}
        return any(text in each["message"] for each in self.ask("POST", "logs/filter", wanted))


def kill(run: str) -> None:
    """kill -9 the process of that flow run."""
    for each in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if each.pid != os.getpid() and each.environ().get("PREFECT__FLOW_RUN_ID") == run:
                each.kill()


@pytest.mark.slow
@pytest.mark.lab
@pytest.mark.timeout(1500)
def test_a_failover_whose_worker_dies_is_run_again_and_ends_met_and_the_service_goes_home(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with serving(home) as api_url:
        ui = Ui(api_url)
        lab(home, "break")
        first = ui.start("failover")
        text = ui.consent(first)
        assert "data-loss" in text
        until("the fence", lambda: ui.said(first, "fence: begun"))
        kill(first)
        assert ui.ended(first)["type"] == "CRASHED"

        again = ui.start("failover")
        told = ui.ended(again)
        assert told["type"] == "COMPLETED", told["message"]
        assert "failover of platform, east → west: met" in told["message"]
        assert ui.said(again, "its run is unfinished and is gone on with")

        opened = open_home(home)
        plan = find(opened, re.search(r"Plan `(\w+)`", text)[1])  # type: ignore[index]
        records = read_records(opened.ledger(), plan.run)
        ends = Counter(str(each.facts["step"]) for each in records if each.kind == ENDED)
        assert ends == Counter(step.id for step in plan.steps), "every effect once"

        lab(home, "heal")
        back = ui.start("failback")
        ui.consent(back)
        told = ui.ended(back)
        assert told["type"] == "COMPLETED", told["message"]
        assert "failback of platform, west → east: met" in told["message"]
