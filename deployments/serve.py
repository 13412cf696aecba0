"""`make serve`: a Prefect server and a process worker with our deployments, beside the lab of a home.

Separate from the flows because processes, ports and telemetry are matters of place. Everything that these processes
write lies in HOME/prefect; nothing is called outside this machine. Imports nothing of Prefect by itself.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import psutil  # type: ignore[import-untyped,unused-ignore]
import urllib3

from deployments.flown import flown, prefect_home, run_prove_flow, settings, task_runs
from deployments.lab.process import HOME_MARK, Processes, wait_until
from deployments.schedules import POOL
from recovery.errors import BadInput, DrError, Failed

__all__ = ["flown", "run_prove_flow", "serve", "server", "task_runs"]

ADDRESS = "127.0.0.1"
PORT = 4200
START_SECONDS = 150.0
"""The first start makes the database: 12 to 25 s on two quiet cores, far more on busy ones."""
DEPLOY_SECONDS = 600.0
"""Some 10 s on two quiet cores; beside other work it was seen to take two minutes and more."""


@contextmanager
def server(home: Path, *, port: int = 0) -> Iterator[Callable[[], str]]:
    """A Prefect server that starts now and ends with the block. Gives a call that waits until it answers, and then
    gives the API's address. `port` 0 takes any free one. Raises Failed from that call when it does not come up."""
    processes = Processes(lab=prefect_home(home))
    reap(processes)
    processes.end("server")
    port = free_port(port)
    api_url = f"http://{ADDRESS}:{port}/api"
    argv = [sys.executable, "-m", "prefect", "server", "start", "--host", ADDRESS, "--port", str(port)]
    ui = {"PREFECT_SERVER_UI_STATIC_DIRECTORY": str(prefect_home(home) / "ui")}
    quiet = {"PREFECT_SERVER_LOGGING_LEVEL": "WARNING"}
    processes.spawn("server", argv, env={**settings(home, api_url), **ui, **quiet})

    def ready() -> str:
        wait_until(
            lambda: _answers(api_url) or not processes.alive("server"),
            what="an answer of the Prefect server",
            patience_seconds=START_SECONDS,
            hint=f"its log: {processes.log('server')}",
        )
        if not processes.alive("server"):
            raise Failed("the Prefect server ended while it started", hint=f"its log: {processes.log('server')}")
        return api_url

    try:
        yield ready
    finally:
        processes.end("server", patience_seconds=8)
        reap(processes)


@contextmanager
def worker(home: Path, api_url: str) -> Iterator[Callable[[], bool]]:
    """A process worker with the home's deployments; gives a call that says whether it lives."""
    processes = Processes(lab=prefect_home(home))
    env = {**settings(home, api_url), "PREFECT_WORKER_QUERY_SECONDS": "2", "PWD": str(Path.cwd())}
    argv = [sys.executable, "-m", "prefect", "worker", "start", "--pool", POOL, "--type", "process", "--name", "lab"]
    processes.end("worker")
    processes.spawn("worker", argv, env=env)
    try:
        wait_until(
            lambda: _answers(f"{api_url}/work_pools/{POOL}", "") or not processes.alive("worker"),
            what=f"the work pool {POOL}",
            patience_seconds=60,
            hint=f"the worker's log: {processes.log('worker')}",
        )
        _deploy(home, processes, env)
        yield lambda: processes.alive("worker")
    finally:
        processes.end("worker", number=signal.SIGINT, patience_seconds=20)
        reap(processes)


def _deploy(home: Path, processes: Processes, env: dict[str, str]) -> None:
    """Register what the home's catalog says, by Prefect's own command."""
    from deployments.schedules import choices, derive, render
    from tasks.catalog_file import load

    catalog = load(home / "catalog.yaml")
    document = derive(catalog)
    file, log = prefect_home(home) / "prefect.yaml", processes.log("deploy")
    before = log.stat().st_size if log.exists() else 0
    file.write_text(render(catalog))
    argv = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(file)]
    processes.spawn("deploy", argv, env=env)
    wait_until(
        lambda: not processes.alive("deploy"),
        what="the end of prefect deploy",
        patience_seconds=DEPLOY_SECONDS,
        hint=f"its log: {processes.log('deploy')}",
    )
    processes.end("deploy")
    done = log.read_bytes()[before:].count(b"successfully")
    if done < len(document["deployments"]):
        raise Failed(f"{done} of {len(document['deployments'])} deployments could be registered", hint=f"see {log}")
    _offer(env["PREFECT_API_URL"], choices(catalog))


def _offer(api_url: str, offered: dict[str, list[str]]) -> None:
    """Let the forms offer the catalog's names: the flows' own schemas, the same for every catalog, cannot know them."""
    for each in _ask(api_url, "POST", "deployments/filter", {"deployments": {"tags": {"all_": ["standfast"]}}}):
        schema = each["parameter_openapi_schema"]
        known = {name: field for name, field in schema["properties"].items() if name in offered}
        for name, field in known.items():
            field.get("items", field)["enum"] = offered[name]
        if known:
            _ask(api_url, "PATCH", f"deployments/{each['id']}", {"parameter_openapi_schema": schema})


def _ask(api_url: str, method: str, path: str, wanted: dict[str, Any]) -> Any:
    """An answer of the server; while its database is busy it says 503, and is asked again."""
    again = urllib3.Retry(8, status_forcelist=(503,), allowed_methods=None, backoff_factor=0.5, raise_on_status=False)
    try:
        answer = urllib3.request(method, f"{api_url}/{path}", json=wanted, timeout=30, retries=again)
    except urllib3.exceptions.HTTPError as trouble:
        raise Failed(f"the Prefect server does not answer: {trouble}", hint="see its log") from None
    if answer.status >= 300:
        raise Failed(f"the Prefect server refuses {path}: {answer.data!r:.300}", hint="is it of the pinned version?")
    return answer.json() if answer.data else None


def reap(processes: Processes) -> list[int]:
    """Kill what an earlier server, worker or flow run of this home left behind, whatever its parent; gives pids."""
    known = {processes.pid(name) for name in processes.names()}
    found: list[psutil.Process] = []
    for each in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied, FileNotFoundError, ProcessLookupError):
            ours = each.environ().get(HOME_MARK) == str(processes.lab) and each.pid != os.getpid()
            if ours and each.pid not in known and not any(parent.pid in known for parent in each.parents()):
                found.append(each)
    for each in found:
        with suppress(psutil.NoSuchProcess):
            each.kill()
    psutil.wait_procs(found, timeout=10)
    return [each.pid for each in found]


def free_port(wanted: int) -> int:
    """The wanted port, or the next of 20 that nobody listens on; 0 gives any."""
    for port in range(wanted, wanted + 20) if wanted else (0,):
        with closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as door:
            door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                door.bind((ADDRESS, port))
            except OSError:
                continue
            return int(door.getsockname()[1])
    raise BadInput(f"no port from {wanted} to {wanted + 19} is free", hint="name another: make serve ARGS='--port N'")


def _answers(url: str, path: str = "/health") -> bool:
    try:
        answer = urllib3.request("GET", url + path, timeout=2, retries=False)
    except urllib3.exceptions.HTTPError:
        return False
    return answer.status == 200


@contextmanager
def _lab(home: Path, say: Callable[[str], None]) -> Iterator[None]:
    """The lab of the home, raised if it is not up; what was raised here is stopped at the end."""
    from deployments.lab import world
    from deployments.lab.status import complete

    described = (home / "lab" / "world.json").exists()
    if not described and (home / "catalog.yaml").exists():
        yield
        return
    if described and complete(world.World.load(home)):
        yield
        return
    say("raising the lab …")
    world.up(home)
    try:
        yield
    finally:
        world.down(home)
        say("the lab is down; its data stays")


def serve(home: Path, *, port: int, say: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM. Raises Failed when a part dies."""
    say("starting the Prefect server …")
    with server(home, port=port) as ready, _lab(home, say):
        api_url = ready()
        say("registering the deployments and starting the worker …")
        with worker(home, api_url) as works:
            say(f"\n  Prefect   {api_url.removesuffix('/api')}")
            say(f"  home      {home}\n  logs      {prefect_home(home)}/log")
            say("\n  Open Deployments, choose one, Run → Custom run. Ctrl-C stops everything.\n")
            serves = Processes(lab=prefect_home(home))
            while serves.alive("server") and works():  # slow is not gone: runs that go on would be killed for it
                time.sleep(1)
            name = "the worker" if serves.alive("server") else "the server"
            raise Failed(f"{name} ended by itself", hint=f"see {prefect_home(home)}/log")


def _stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 -- the signal's shape
    raise KeyboardInterrupt


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> int:
    """The command line of `make serve`."""
    words = argparse.ArgumentParser(prog="make serve", description=main.__doc__)
    words.add_argument(
        "--home", type=Path, default=Path(os.environ.get("DR_HOME") or ".home"), help="the home to serve"
    )
    words.add_argument("--port", type=int, default=PORT, help="the first port to try")
    given = words.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):  # also where a shell started this with SIGINT ignored
        signal.signal(number, _stop)
    try:
        serve(given.home.expanduser().absolute(), port=given.port, say=_say)
    except KeyboardInterrupt:
        _say("stopped")
        return 0
    except DrError as trouble:
        sys.stderr.write(f"error: {trouble.fact}\nhint: {trouble.hint}\n")
        return trouble.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
