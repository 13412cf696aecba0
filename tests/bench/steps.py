"""`python -m tests.bench.steps`: what the engine itself costs a step, in break glass and under Prefect.

Plans of 10, 100 and 1000 steps whose moves do nothing, as a chain and side by side. Each sample is a fresh process,
the rounds are interleaved and medians are told. Fixed cost and slope are the line through the medians of the smallest
and the largest plan. Prefect's server takes a run in long after it has ended, on the same cores: each sample waits
until it is idle again, and its largest plan is measured in the first round only.
The limit beside it is the ledger's own: the same number of bare writes (two records a step), made durable.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from recovery.drive import Finish, Move, Seen, Truth
from recovery.plan import Plan
from recovery.step import Step
from tasks.kind import Facts, Scene

SIZES = (10, 100, 1000)
SHAPES = ("chain", "wide")
HOW = ("directory", "s3", "prefect")
REGION, BUCKET = "us-east-1", "bench-ledger"
AIMS_MS = {"directory": 5.0, "s3": 15.0, "prefect": 20.0}
PATIENCE_SECONDS = 600.0
IDLE_SECONDS, IDLE_SHARE = 60.0, 0.1
HEADS = (
    "how",
    "shape",
    "slope ms/step",
    "aim",
    "fixed ms",
    "ms/step by size",
    "CPU ms/step",
    "ledger alone ms/step",
    "first effect ms",
    "peak MB",
)


@dataclass(kw_only=True)
class Nothing:
    """A verb that does nothing: what is measured is all around it."""

    done: set[str] = field(default_factory=set)
    first_seconds: float | None = None

    def observe(self, step: Step, scene: Scene) -> Seen:
        """Whether it was performed."""
        return Seen(truth=Truth.HOLDS if step.id in self.done else Truth.ABSENT)

    def perform(self, move: Move, scene: Scene) -> Facts:
        """Note when the first effect would have been."""
        if self.first_seconds is None:
            self.first_seconds = time.perf_counter()
        self.done.add(move.step.id)
        return {}


def plan(count: int, shape: str) -> Plan:
    """A plan of so many steps; as a chain each needs the one before it."""
    steps = tuple(
        Step(id=f"s{each}", verb="run", resource="db", needs=(f"s{each - 1}",) if each and shape == "chain" else ())
        for each in range(count)
    )
    return Plan(
        purpose="bench", runbook="bench", runbook_version="1", service="core", asked_at=datetime.now(UTC), steps=steps
    )


def sample(how: str, shape: str, count: int, place: dict[str, Any]) -> dict[str, float]:
    """One run in this process: wall and CPU seconds, the first effect, memory."""
    from tasks.journal import Journal
    from tasks.loop import Loop, plainly

    made, verb = plan(count, shape), Nothing()
    folder = Path(tempfile.mkdtemp(prefix="ledger-", dir=place["folder"]))
    ledger, door = _ledger(how, folder, place), plainly
    around: Any = nullcontext()
    if how == "prefect":
        from deployments.flown import connected

        around = connected(Path(place["prefect_home"]), place["api_url"])

    def drive(door: Any) -> None:
        journal = Journal(ledger, made.run, who="bench", generation=1, clock=_now, digest=made.digest)
        ended = Loop(plan=made, verbs={"run": verb}, journal=journal, now=_now, door=door).run()
        assert isinstance(ended, Finish), ended

    with around:
        go = _under_prefect(drive) if how == "prefect" else lambda: drive(door)
        begun, cpu = time.perf_counter(), time.process_time()
        go()
        wall, spent = time.perf_counter() - begun, time.process_time() - cpu
    first = (verb.first_seconds or begun) - begun
    return {"wall": wall, "cpu": spent, "first": first, "peak_mb": _peak_mb(), "limit": _limit(how, ledger, count)}


def _under_prefect(drive: Callable[[Any], None]) -> Callable[[], None]:
    import asyncio
    import logging
    from contextvars import copy_context

    from prefect import flow

    from tasks.verbs import TaskRuns

    @flow(name="bench", persist_result=False)
    async def bench() -> None:
        await asyncio.to_thread(drive, TaskRuns(context=copy_context(), log=logging.getLogger("bench")))

    return lambda: asyncio.run(bench())  # type: ignore[arg-type,unused-ignore]


def _ledger(how: str, folder: Path, place: dict[str, Any]) -> Any:
    from tasks.ledger_dir import DirectoryLedger

    if how != "s3":
        return DirectoryLedger(folder)
    from recovery.catalog import S3Endpoint
    from tasks.ledger_s3 import S3Ledger
    from tasks.s3_store import open_store

    endpoint = S3Endpoint.model_validate(place["endpoint"])
    return S3Ledger(open_store(endpoint, BUCKET, folder.name, region=REGION), "the bench's bucket")


def _limit(how: str, ledger: Any, count: int) -> float:
    """Seconds for two bare records a step, one after the other, of a record's usual size."""
    few = min(count, 100)
    body = b'{"facts":' + b"x" * 400 + b"}"
    begun = time.perf_counter()
    for each in range(few * 2):
        ledger.put(f"runs/limit/{each:08d}.json", body)
    return (time.perf_counter() - begun) * count / few


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _now() -> datetime:
    return datetime.now(UTC)


def main(words: Sequence[str] | None = None) -> int:
    """Measure and tell."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was raised is ended
    parser = argparse.ArgumentParser(prog="python -m tests.bench.steps", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default=",".join(HOW), help="directory, s3, prefect")
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="steps of the plans; the line needs two")
    parser.add_argument("--one", default="", help=argparse.SUPPRESS)
    asked = parser.parse_args(words)
    if asked.one:
        print(json.dumps(sample(**json.loads(asked.one))))
        return 0
    say = Console(stderr=True)
    only = [each.strip() for each in asked.only.split(",")]
    sizes = sorted(int(each) for each in asked.sizes.split(","))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="standfast-bench-")))
        place = _place(stack, folder, only)
        found: dict[tuple[str, str, int], list[dict[str, float]]] = {}
        load = os.getloadavg()[0]
        for number in range(asked.rounds):
            for how in only:
                mine = sizes[:-1] if how == "prefect" and number and len(sizes) > 2 else sizes
                for shape in SHAPES:
                    for count in mine:
                        _until_idle(place.get("server_pids", ()))
                        one = json.dumps({"how": how, "shape": shape, "count": count, "place": place})
                        found.setdefault((how, shape, count), []).append(_fresh(one))
            say.print(f"round {number + 1} of {asked.rounds}, load {os.getloadavg()[0]:.1f}")
        _tell(found, only, sizes, asked.rounds, load)
    return 0


def _place(stack: ExitStack, folder: Path, only: list[str]) -> dict[str, Any]:
    place: dict[str, Any] = {"folder": str(folder)}
    if "s3" in only:
        from deployments.lab.s3.client import client
        from deployments.lab.scratch_cluster import s3_server

        (folder / "s3").mkdir()
        endpoint = stack.enter_context(s3_server(folder / "s3"))
        client(endpoint).create_bucket(Bucket=BUCKET)
        place["endpoint"] = endpoint.model_dump()
    if "prefect" in only:
        from deployments.serve import server

        (folder / "home").mkdir()
        started = stack.enter_context(server(folder / "home"))
        place |= {"prefect_home": str(folder / "home"), "api_url": started()}
        below = psutil.Process().children(recursive=True)
        place["server_pids"] = [each.pid for each in below if "prefect" in " ".join(each.cmdline())]
    return place


def _until_idle(pids: Sequence[int]) -> None:
    """Wait, at most a minute, until these processes have hardly run for a second."""

    def spent() -> float:
        return sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in pids if psutil.pid_exists(pid))

    deadline = time.monotonic() + IDLE_SECONDS
    before = spent()
    while pids and time.monotonic() < deadline:
        time.sleep(1.0)
        now = spent()
        if now - before < IDLE_SHARE:
            return
        before = now


def _fresh(one: str) -> dict[str, float]:
    ran = subprocess.run(
        [sys.executable, "-m", "tests.bench.steps", "--one", one],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    if ran.returncode:
        raise RuntimeError(ran.stderr[-2000:])
    found: dict[str, float] = json.loads(ran.stdout.splitlines()[-1])
    return found


def _tell(
    found: dict[tuple[str, str, int], list[dict[str, float]]],
    only: list[str],
    sizes: list[int],
    rounds: int,
    load: float,
) -> None:
    title = f"Engine overhead of plans of {sizes[0]} to {sizes[-1]} steps: medians of {rounds} rounds"
    table = Table(title=f"{title}, {os.cpu_count()} cores, load {load:.1f} before and {os.getloadavg()[0]:.1f} after")
    for head in HEADS:
        table.add_column(head, justify="right")
    for how in only:
        for shape in SHAPES:
            few, many = found[how, shape, sizes[0]], found[how, shape, sizes[-1]]
            span = max(1, sizes[-1] - sizes[0])
            slope = (_mid(many, "wall") - _mid(few, "wall")) / span
            middle = " ".join(f"{_mid(found[how, shape, each], 'wall') / each * 1000:.1f}" for each in sizes)
            table.add_row(
                how, shape, f"{slope * 1000:.2f}", f"{AIMS_MS[how]:g}",
                f"{(_mid(few, 'wall') - slope * sizes[0]) * 1000:.0f}", middle,
                f"{(_mid(many, 'cpu') - _mid(few, 'cpu')) / span * 1000:.2f}",
                f"{_mid(many, 'limit') / sizes[-1] * 1000:.2f}", f"{_mid(few, 'first') * 1000:.0f}",
                f"{_mid(many, 'peak_mb'):.0f}",
            )  # fmt: skip
    Console(width=150).print(table)


def _mid(samples: list[dict[str, float]], name: str) -> float:
    return median(each[name] for each in samples)


if __name__ == "__main__":
    sys.exit(main())
