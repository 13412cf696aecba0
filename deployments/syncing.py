"""`dr run sync`: a run that was driven without Prefect is brought into it, once, over its REST API.

Separate from what is brought (deployments/imported.py). Imports nothing of Prefect: a server that hangs costs seconds
and says so, and nothing that matters depends on it. The flow run's final state is set last: it is what says that all of
it is there, so that a sync which was cut off is gone on with by the next one.
"""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import urllib3

from deployments import imported
from recovery.errors import BadInput, Failed
from recovery.evidence import Record
from recovery.plan import Plan

TERMINAL = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
TAKEN_IN_SECONDS = 60.0
BATCH = 100
_PATIENCE = urllib3.Timeout(connect=3.0, read=15.0)
_AGAIN = urllib3.Retry(
    total=6, connect=False, read=False, redirect=False, status_forcelist=(429, 502, 503), allowed_methods=None,
    backoff_factor=0.2, backoff_jitter=0.2, raise_on_status=False,
)  # fmt: skip
"""A busy server (its SQLite is locked) says 503 and has done nothing. What got no answer is not repeated."""
_LATER = "nothing depends on it: the evidence is in the ledger, and the same command brings it at any later time"


@dataclass(frozen=True, kw_only=True, slots=True)
class Synced:
    """What became of one run. `outcome`: changed, or already."""

    run: str
    outcome: str
    flow_run: str
    url: str
    task_runs: int
    log_lines: int
    events: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Api:
    """Prefect's REST API as the environment says to reach it."""

    url: str
    headers: Mapping[str, str]

    def post(self, path: str, body: Any) -> tuple[int, Any]:
        """Status and answer. Raises Failed for silence and for a refusal."""
        try:
            answer = urllib3.request(
                "POST", f"{self.url}/{path}", json=body, headers=self.headers, timeout=_PATIENCE, retries=_AGAIN
            )
            told = json.loads(answer.data) if answer.data else None
        except (urllib3.exceptions.HTTPError, ValueError) as trouble:
            why = " ".join(str(trouble).split())[:200]
            raise Failed(f"the Prefect server at {self.url} does not answer: {why}", hint=_LATER) from None
        if answer.status >= 300:
            said = json.dumps(told)[:300]
            raise Failed(f"the Prefect server refuses {path} ({answer.status}): {said}", hint="is it of version 3.8?")
        return answer.status, told


def api(url: str | None) -> Api:
    """The API: as named, else PREFECT_API_URL; signed in by PREFECT_API_KEY or PREFECT_API_AUTH_STRING."""
    where = url or os.environ.get("PREFECT_API_URL")
    if not where:
        raise BadInput("no Prefect server is named", hint="set PREFECT_API_URL, or --api-url http://HOST:4200/api")
    headers = {"Content-Type": "application/json"}
    if key := os.environ.get("PREFECT_API_KEY"):
        headers["Authorization"] = f"Bearer {key}"
    elif who := os.environ.get("PREFECT_API_AUTH_STRING"):
        headers["Authorization"] = f"Basic {base64.b64encode(who.encode()).decode()}"
    return Api(url=where.rstrip("/"), headers=headers)


def bring(server: Api, plan: Plan, records: Sequence[Record], *, place: str) -> Synced:
    """Bring an ended run, or say that it is there already. `place`: the ledger's, for people."""
    _, flow = server.post("flows/", {"name": plan.runbook})
    _, made = server.post("flow_runs/", imported.flow_run(plan, records, flow["id"]))
    mark = str(made["id"])
    tried = imported.attempts(records)
    told = list(imported.events(plan.run, records, mark))
    done = made.get("state_type") in TERMINAL
    if not done:
        _events(server, [*imported.task_events(plan, tried, mark), *told])
        _task_runs(server, mark, len(tried))
        tasks = {(each.step, each.number): str(imported.task_run_id(plan.run, each)) for each in tried}
        _logs(server, mark, list(imported.logs(records, mark, tasks)))
        _artifacts(server, mark, plan, records, place)
        server.post(f"flow_runs/{mark}/set_state", {"state": imported.final_state(records), "force": True})
    return Synced(
        run=plan.run,
        outcome="already" if done else "changed",
        flow_run=str(made["name"]),
        url=f"{server.url.removesuffix('/api')}/runs/flow-run/{mark}",
        task_runs=len(tried),
        log_lines=len(records),
        events=len(told),
    )


def _events(server: Api, every: Sequence[Any]) -> None:
    for some in _batches(every):
        server.post("events", some)


def _task_runs(server: Api, mark: str, wanted: int) -> None:
    """Wait until the server has made task runs of the events: it does so beside answering."""
    deadline = time.monotonic() + TAKEN_IN_SECONDS
    words = {"flow_runs": {"id": {"any_": [mark]}}}
    while (there := server.post("task_runs/count", words)[1]) < wanted:
        if time.monotonic() > deadline:
            raise Failed(
                f"the Prefect server has taken in {there} of {wanted} task runs after {TAKEN_IN_SECONDS:g} s",
                hint="it is busy: the same command goes on where this one stopped",
            )
        time.sleep(0.2)


def _logs(server: Api, mark: str, lines: Sequence[Any]) -> None:
    """Lines are written in their order, so that as many as are there already are the first ones."""
    there = 0
    while found := server.post(
        "logs/filter", {"logs": {"flow_run_id": {"any_": [mark]}}, "limit": 200, "offset": there}
    )[1]:
        there += len(found)
    for some in _batches(lines[there:]):
        server.post("logs/", some)


def _artifacts(server: Api, mark: str, plan: Plan, records: Sequence[Record], place: str) -> None:
    _, there = server.post("artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [mark]}}})
    keys = {each["key"] for each in there}
    about = f"{plan.runbook} of {plan.service}, run {plan.run[:12]}"
    rows = json.dumps(imported.timeline(records))
    for key, kind, data in (
        (f"timeline-{plan.run[:12]}", "table", rows),
        (f"result-{plan.run[:12]}", "markdown", imported.result(plan, records, place)),
    ):
        if key not in keys:
            body = {"key": key, "type": kind, "description": about, "data": data, "flow_run_id": mark}
            server.post("artifacts/", body)


def _batches(every: Sequence[Any]) -> Iterable[Sequence[Any]]:
    return (every[start : start + BATCH] for start in range(0, len(every), BATCH))
