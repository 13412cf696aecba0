"""A run that was driven without Prefect is told to a real server afterwards, once, with its own times."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import urllib3

from deployments import imported, syncing
from deployments.serve import server
from recovery.errors import BadInput, Failed
from recovery.evidence import Record
from recovery.journal import RUN_BEGUN
from recovery.plan import Plan
from tasks.engine import keep_plan
from tasks.home import Home
from tasks.journal import Journal, read_records
from tests.time.asking import ask
from tests.time.small_run import small_home, small_plan

BEGAN = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)


def glass_run(home: Home, *, end: bool = True) -> tuple[Plan, tuple[Record, ...]]:
    """A run as break glass leaves it: fetch fails once and then ends, the others are as planned."""
    plan = small_plan(BEGAN)
    keep_plan(home.ledger(), plan)
    ticks = iter(range(10_000))
    clock = lambda: BEGAN + timedelta(seconds=next(ticks))  # noqa: E731 -- a clock for one run
    journal = Journal(home.ledger(), plan.run, who="ann@laptop", generation=1, clock=clock, digest=plan.digest)
    journal.append(RUN_BEGUN, "platform", facts={"purpose": plan.purpose, "door": "glass"})
    for step, attempt, fact in (
        ("fetch", 1, "the bucket is slow"),
        ("fetch", 2, ""),
        ("check", 1, ""),
        ("discard", 1, ""),
    ):
        begun = journal.append("step.begun", "orders-db", facts={"step": step, "attempt": attempt})
        facts = {"step": step, "attempt": attempt}
        if fact:
            said = {**facts, "fact": fact, "hint": "look"}
            journal.append("step.failed", "orders-db", facts=said, begin=begun.begin, end=clock())
        else:
            done = {**facts, "result": {"size_bytes": 7}}
            journal.append(
                "step.ended", "orders-db", facts=done, measures={"seconds": 2.0}, begin=begun.begin, end=clock()
            )
    journal.append("run.outcome", "platform", facts={"rto_seconds": 9.5, "rpo_seconds": 0.5}, end=clock())
    if end:
        journal.end("met", home.signer())
    return plan, read_records(home.ledger(), plan.run)


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.fixture
def hanging() -> Iterator[str]:
    """A server that accepts and never answers."""
    with closing(socket.socket()) as door:
        door.bind(("127.0.0.1", 0))
        door.listen(8)
        yield f"http://127.0.0.1:{door.getsockname()[1]}/api"


def test_a_run_is_brought_once_with_the_times_at_which_it_happened(tmp_path: Path) -> None:
    with server(tmp_path) as ready:
        home = small_home(tmp_path)
        plan, records = glass_run(home)
        api_url = ready()
        made = syncing.bring(syncing.api(api_url), plan, records, place="ledger")
        again = syncing.bring(syncing.api(api_url), plan, records, place="ledger")
        flow_runs = ask(f"{api_url}/flow_runs/filter", {})
        wanted = {"flow_runs": {"id": {"any_": [flow_runs[0]["id"]]}}}
        tasks = ask(f"{api_url}/task_runs/filter", wanted)
        lines = ask(f"{api_url}/logs/filter", {"limit": 200, "sort": "TIMESTAMP_ASC"})
        artifacts = {each["key"]: each for each in ask(f"{api_url}/artifacts/filter", {})}
        events = ask(f"{api_url}/events/filter", {"filter": {"event": {"prefix": ["standfast."]},
                     "occurred": {"since": "2026-11-24T00:00:00Z"}}, "limit": 50})  # fmt: skip
    assert (made.outcome, again.outcome) == ("changed", "already")
    assert again.url == made.url
    assert len(flow_runs) == 1
    assert (flow_runs[0]["name"], flow_runs[0]["state_type"]) == (f"prove-{plan.run[:12]}", "COMPLETED")
    assert {"standfast", "imported", "glass"} <= set(flow_runs[0]["tags"])
    assert {each["name"]: each["state_type"] for each in tasks} == {
        "fetch": "FAILED", "fetch (attempt 2)": "COMPLETED", "check": "COMPLETED", "discard": "COMPLETED",
    }  # fmt: skip
    first = next(each for each in tasks if each["name"] == "fetch")
    begun = next(each for each in records if each.kind == "step.begun")
    assert instant(first["start_time"]) == begun.begin
    assert instant(first["end_time"]) > instant(first["start_time"])
    assert len(lines) == len(records)
    assert instant(lines[0]["timestamp"]) == records[0].begin
    assert "fetch: failed: the bucket is slow (hint: look)" in [each["message"] for each in lines]
    short = plan.run[:12]
    assert set(artifacts) == {f"timeline-{short}", f"result-{short}"}
    assert len(json.loads(artifacts[f"timeline-{short}"]["data"])) == len(records)
    assert "| RTO | 9.50 s" in artifacts[f"result-{short}"]["data"]
    assert {each["event"] for each in events["events"]} >= {"standfast.run.begun", "standfast.step.failed"}


def test_a_server_that_hangs_costs_seconds_and_says_that_nothing_depends_on_it(
    tmp_path: Path, hanging: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(syncing, "_PATIENCE", urllib3.Timeout(connect=0.5, read=0.5))
    plan, records = glass_run(small_home(tmp_path))
    begin = time.monotonic()
    with pytest.raises(Failed, match="does not answer") as raised:
        syncing.bring(syncing.api(hanging), plan, records, place="ledger")
    assert time.monotonic() - begin < 5
    assert "ledger" in raised.value.hint


def test_without_a_server_named_it_says_how_to_name_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with pytest.raises(BadInput, match="no Prefect server is named"):
        syncing.api(None)


def test_what_was_cut_off_is_told_as_crashed_and_the_doors_in_their_order(tmp_path: Path) -> None:
    home = small_home(tmp_path)
    _, records = glass_run(home, end=False)
    cut = records[:2]
    assert [each.word for each in imported.attempts(cut)] == ["Crashed"]
    assert imported.doors(records) == ("glass",)


def test_a_busy_server_is_asked_again_and_one_that_stays_busy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Busy(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.path)
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(201 if self.path == "/api/flows/" and len(asked) == 3 else 503)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setattr(syncing, "_AGAIN", syncing._AGAIN.new(backoff_factor=0.01, backoff_jitter=0))
    with ThreadingHTTPServer(("127.0.0.1", 0), Busy) as door:
        threading.Thread(target=door.serve_forever, daemon=True).start()
        there = syncing.api(f"http://127.0.0.1:{door.server_port}/api")
        assert there.post("flows/", {}) == (201, {})
        with pytest.raises(Failed, match=r"refuses flow_runs/ \(503\)"):
            there.post("flow_runs/", {})
        door.shutdown()
    assert asked.count("/api/flow_runs/") == 7
