"""`python -m tests.bench.first`: from the start of `dr act --glass`, as a process of its own, to its first effect.

In the lab, the east lost, the plan approved. The first move is the look that declares; the first effect is the first
move that changes the world (the fence, or parking what goes out). Each round loses the east anew and brings it home.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

from rich.console import Console

from deployments.lab import breaking, faults, observer
from deployments.lab.demo_failover import moved, served_by
from deployments.lab.world import World, down, up
from recovery import accepting
from recovery.plan import NothingToDo
from tasks import approving, changing
from tasks.home import Home, open_home
from tasks.journal import read_records
from tests.bench.outage import whole

AIM_SECONDS = 1.0
LOOKS = frozenset({"declare", "approve", "probe"})


def one(world: World, home: Home) -> tuple[float, float, float]:
    """Seconds from the start of the process to its run's beginning, its first move and its first effect."""
    whole(home)
    served_by(world, "east", 10)
    breaking.begin(world, faults.parse("site:east", None))
    time.sleep(2.0)
    made = changing.plan(home, "failover", to="west")
    assert not isinstance(made, NothingToDo), made.why
    accepted = accepting.acceptances(["all"], made.hazards, accepting.limits_of(made.plan)) if made.hazards else ()
    approving.approve(home, made.plan, who="ann", accepted=accepted, lasts=timedelta(hours=1))
    argv = [
        sys.executable,
        "-m",
        "deployments.cli.main",
        "act",
        made.plan.digest,
        "--glass",
        "--home",
        str(home.folder),
    ]
    env = {name: text for name, text in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    begun = datetime.now(UTC)
    ran = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise RuntimeError(ran.stderr[-2000:])
    records = read_records(home.ledger(), made.plan.run)
    moves = [each for each in records if each.kind == "step.begun"]
    effects = [each for each in moves if each.facts.get("verb") not in LOOKS]
    breaking.end(world)
    moved(home, "failback", "east", "ann", lambda text: None)
    first, move, effect = (each.begin for each in (records[0], moves[0], effects[0]))
    return ((first - begun).total_seconds(), (move - begun).total_seconds(), (effect - begun).total_seconds())


def main() -> int:
    """Measure and tell."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was raised is ended
    parser = argparse.ArgumentParser(prog="python -m tests.bench.first", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    console, made = Console(width=150, highlight=False), list[tuple[float, float, float]]()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="standfast-bench-") as folder:
        place = Path(folder) / "home"
        try:
            world = up(place)
            home = open_home(world.home)
            observer.begin(world)
            for number in range(asked.rounds):
                made.append(one(world, home))
                console.print(f"round {number + 1} of {asked.rounds}: first effect after {made[-1][2]:.2f} s")
        finally:
            down(place, wipe=True)
    begun, move, effect = (median(each[number] for each in made) for number in range(3))
    console.print(
        f"dr act --glass, medians of {len(made)}, {os.cpu_count()} cores, load {load:.1f} before and"
        f" {os.getloadavg()[0]:.1f} after: run begun {begun:.2f} s, first move {move:.2f} s,"
        f" first effect {effect:.2f} s (aim {AIM_SECONDS:g} s)"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
