"""A program that acts on a plan and is killed: `python killer.py HOME DIGEST POINT`, where POINT is what it dies at.

`STEP:begun` right after the beginning is on record, `STEP:done` when the effect is there and its record is not,
`STEP:ended` right after the end is on record, `run:begun` behind the run's first record, `run:outcome` behind its last
but one, `all:FILE` at the first of all such points that FILE (lines) doesn't name yet, adding it. `inside:FILE` dies in
the midst of a step: some moments after its beginning, each of which FILE names once it was tried. `agents:FILE` kills
the agents instead, at each of the points that FILE doesn't name, and goes on; `agents-inside:FILE` kills them in the
midst of each step, and FILE names where. Without a kill it prints the outcome's JSON. The kill is `kill -9`: no
handler, no clean-up.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import urllib.request
from pathlib import Path
from typing import Any

from tasks import changing
from tasks.engine import Act
from tasks.home import Home, open_home
from tasks.journal import Journal

BEFORE, AFTER = {"step.ended": "done"}, {"step.begun": "begun", "step.ended": "ended"}
INSIDE_SECONDS = (0.01, 0.04, 0.15, 0.6, 2.4)
"""How long after its beginning a step is killed; one that ends before is not."""
AGENTS_SECONDS = 0.1


def main(home: Path, digest: str, point: str) -> None:
    """Arm the journal, then act."""
    append, here = Journal.append, open_home(home)
    way, _, book = point.partition(":")
    timers: dict[str, threading.Timer] = {}

    def armed(self: Journal, kind: str, subject: str, **more: Any) -> Any:
        name = (more.get("facts") or {}).get("step", "run")
        points = (f"{name}:{BEFORE.get(kind, '')}", f"{name}:{AFTER.get(kind) or kind.removeprefix('run.')}")
        if way in ("inside", "agents-inside"):
            if kind in ("step.ended", "step.failed") and (timer := timers.pop(name, None)) is not None:
                timer.cancel()
            record = append(self, kind, subject, **more)
            if kind == "step.begun" and way == "agents-inside":
                timers[name] = threading.Timer(AGENTS_SECONDS, strike, (here, name, Path(book)))
                timers[name].start()
            elif kind == "step.begun" and (seconds := untried(name, Path(book))) is not None:
                timers[name] = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL))
                timers[name].daemon = True
                timers[name].start()
            return record
        die(points[0], point, here)
        record = append(self, kind, subject, **more)
        die(points[1], point, here)
        return record

    Journal.append = armed  # type: ignore[method-assign]
    told = changing.act(Act(home=here), changing.find(here, digest))
    print(json.dumps(told.model_dump(mode="json")))


def die(here: str, point: str, home: Home) -> None:
    """If this is the point."""
    way, _, book = point.partition(":")
    if way in ("all", "agents"):
        if here.endswith((":begun", ":done", ":ended")) and new(here, Path(book)):
            kill_agents(home) if way == "agents" else os.kill(os.getpid(), signal.SIGKILL)
    elif here == point:
        os.kill(os.getpid(), signal.SIGKILL)


def untried(step: str, book: Path) -> float | None:
    """The next moment in that step that was not tried yet."""
    return next((each for each in INSIDE_SECONDS if new(f"{step}:{each:g}", book)), None)


def strike(home: Home, step: str, book: Path) -> None:
    """Kill the agents in the midst of that step."""
    if new(step, book):
        kill_agents(home)


def new(point: str, book: Path) -> bool:
    """Whether the book does not name it yet; it does from now on, whatever happens."""
    known = book.read_text().splitlines() if book.exists() else []
    if point in known:
        return False
    with book.open("a") as lines:
        lines.write(point + "\n")
        lines.flush()
        os.fsync(lines.fileno())
    return True


def kill_agents(home: Home) -> None:
    """Every agent of the catalog that answers; what started it starts it again."""
    for resource in home.catalog.resources.values():
        for url in {each.agent for each in resource.members.values() if each.agent}:
            try:
                with urllib.request.urlopen(f"{url}/health", timeout=1) as answer:
                    os.kill(int(json.load(answer)["pid"]), signal.SIGKILL)
            except (OSError, ValueError):
                continue


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
