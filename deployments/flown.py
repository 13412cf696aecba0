"""A flow run in this process against a server, and what the server says of it afterwards: for the demo and for tests.

Separate from serving because it is a client. Prefect is imported only when a flow is run, after its settings stand.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import urllib3

from recovery.errors import Failed

if TYPE_CHECKING:
    from recovery.proof import Proof

READ_SECONDS = 20.0
"""Task runs reach the server's database some seconds after they ended: it takes them in as events."""


QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_SERVER_UI_V2_ENABLED": "false",  # it asks a host of its maker's for settings, analytics or not
    "PREFECT_SERVER_UI_API_URL": "/api",  # the page calls whoever served it, on whatever port
    "PREFECT_LOGGING_COLORS": "false",
}


def prefect_home(home: Path) -> Path:
    """HOME/prefect: database, logs, the page's files, pids."""
    return home.absolute() / "prefect"


def settings(home: Path, api_url: str) -> dict[str, str]:
    """The environment of every process that speaks with the server."""
    return {
        **QUIET,
        "PREFECT_HOME": str(prefect_home(home)),
        "PREFECT_API_URL": api_url,
        "PREFECT_CLIENT_MAX_RETRIES": "20",  # a server that is away for a minute is not the end of a run
        "DR_HOME": str(home.absolute()),
    }


HAND_OVER_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Flown:
    """A flow run as the server tells it: its name and state, and those of its task runs in order."""

    name: str
    state: str
    message: str
    task_runs: tuple[tuple[str, str], ...]


def run_prove_flow(
    home: Path,
    api_url: str,
    *,
    resources: Sequence[str] = (),
    sort: str = "daily",
    as_of: str = "",
    mutate: str = "none",
    level: str = "daily",
    say: Callable[[str], None] = lambda text: None,  # noqa: ARG005 -- nobody listens
) -> list[Proof]:
    """Run `prove-daily` as a flow run; gives the proofs' documents. `say` hears what the server says of it afterwards.

    By itself it plants no fault. Raises Failed with the run's message when a proof could not even be planned.
    """
    with connected(home, api_url):
        from flows.prove import prove_daily
        from recovery.proof import Proof
        from tasks.asking import Asked, Level
        from tasks.pages import Told

        state: Any = asyncio.run(
            prove_daily(
                resources=tuple(resources),
                sort=Asked(sort),
                as_of=as_of,
                mutate=mutate,
                level=Level(level),
                home=str(home.absolute()),
                return_state=True,
            )
        )
        told = asyncio.run(state.aresult(raise_on_failure=False))
    if not isinstance(told, Told) or not told.documents:
        fact, _, hint = (state.message or "the flow run crashed").partition("\nhint: ")
        raise Failed(fact, hint=hint or f"its log and its state: {api_url.removesuffix('/api')}")
    for each in (flown(api_url, str(run)) for run in _parts(api_url, str(state.state_details.flow_run_id))):
        steps = ", ".join(f"{name} {word.lower()}" for name, word in each.task_runs)
        say(f"flow run {each.name}: {each.state.lower()} ({steps})")
    return [Proof.model_validate(each) for each in told.documents]


def flown(api_url: str, run: str) -> Flown:
    """What the server says of a flow run, once it says that all has ended. Raises Failed past the patience."""
    deadline = time.monotonic() + READ_SECONDS
    while True:
        found = _ask(api_url, "flow_runs/filter", {"flow_runs": {"id": {"any_": [run]}}})
        tasks = task_runs(api_url, run)
        if found and found[0]["state_type"] in _ENDED and tasks and all(word in _WORDS for _, word in tasks):
            state = found[0]["state"]
            return Flown(
                name=found[0]["name"], state=state["name"], message=state.get("message") or "", task_runs=tasks
            )
        if time.monotonic() > deadline:
            raise Failed(
                f"the server still tells of an unfinished flow run {run[:8]} after {READ_SECONDS:g} s",
                hint="look at it in the UI; the evidence in the ledger does not depend on it",
            )
        time.sleep(0.2)


def task_runs(api_url: str, run: str) -> tuple[tuple[str, str], ...]:
    """Name and state of a flow run's task runs, in the order in which they began."""
    wanted = {"flow_runs": {"id": {"any_": [run]}}, "sort": "EXPECTED_START_TIME_ASC"}
    found = _ask(api_url, "task_runs/filter", wanted)
    return tuple((str(each["name"]), str(each["state_name"])) for each in found)


_ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
_WORDS = ("Completed", "Failed", "Crashed", "Cancelled")


def _parts(api_url: str, run: str) -> list[str]:
    """The runs that a run consists of, oldest first."""
    wanted = {"flow_runs": {"parent_flow_run_id": {"any_": [run]}}, "sort": "START_TIME_ASC"}
    return [str(each["id"]) for each in _ask(api_url, "flow_runs/filter", wanted)]


def _ask(api_url: str, path: str, wanted: dict[str, Any]) -> list[dict[str, Any]]:
    try:
        answer = urllib3.request("POST", f"{api_url}/{path}", json=wanted, timeout=10, retries=2)
        told: list[dict[str, Any]] = json.loads(answer.data)
    except (urllib3.exceptions.HTTPError, ValueError) as trouble:
        raise Failed(f"the Prefect server does not answer: {trouble}", hint=f"does it run at {api_url}?") from None
    if answer.status != 200:
        raise Failed(f"the Prefect server refuses {path}: {told}", hint="is it of the pinned version?")
    return told


@contextmanager
def connected(home: Path, api_url: str) -> Iterator[None]:
    """Prefect's settings for this process while the block runs; its own folder is in the home, never the user's.

    Prefect must not have been imported before: its threads know only the settings of that moment.
    """
    wanted = {**settings(home, api_url), "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "ERROR"}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

        with temporary_settings({PREFECT_API_URL: api_url, PREFECT_HOME: prefect_home(home)}):
            try:
                yield
            finally:
                _hand_over()
    finally:
        os.environ.update({name: value for name, value in before.items() if value is not None})
        for name in (name for name, value in before.items() if value is None):
            os.environ.pop(name, None)


def _hand_over() -> None:
    """Deliver what Prefect still holds for the server. With the server gone, each event would cost the exit 7 s."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    for each in (APILogWorker, EventsWorker):
        each.drain_all(timeout=HAND_OVER_SECONDS)
