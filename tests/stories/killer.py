"""A program that acts on a plan and is killed: `python killer.py HOME DIGEST POINT`, where POINT is what it dies at.

`STEP:begun` right after the beginning is on record, `STEP:done` when the effect is there and its record is not,
`STEP:ended` right after the end is on record, `run:begun` behind the run's first record, `run:outcome` behind its last
but one, `all:FILE` at the first of all such points that FILE (lines) doesn't name yet, adding it. Without a kill it
prints the outcome's JSON. The kill is `kill -9` of itself: no handler, no clean-up.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from tasks import changing
from tasks.engine import Act
from tasks.home import open_home
from tasks.journal import Journal

BEFORE, AFTER = {"step.ended": "done"}, {"step.begun": "begun", "step.ended": "ended"}


def main(home: Path, digest: str, point: str) -> None:
    """Arm the journal, then act."""
    append = Journal.append

    def armed(self: Journal, kind: str, subject: str, **more: Any) -> Any:
        name = (more.get("facts") or {}).get("step", "run")
        die(f"{name}:{BEFORE.get(kind, '')}", point)
        record = append(self, kind, subject, **more)
        die(f"{name}:{AFTER.get(kind) or kind.removeprefix('run.')}", point)
        return record

    Journal.append = armed  # type: ignore[method-assign]
    here = open_home(home)
    told = changing.act(Act(home=here), changing.find(here, digest))
    print(json.dumps(told.model_dump(mode="json")))


def die(here: str, point: str) -> None:
    """If this is the point."""
    if point.startswith("all:"):
        book = Path(point.removeprefix("all:"))
        known = book.read_text().splitlines() if book.exists() else []
        if here.endswith((":begun", ":done", ":ended")) and here not in known:
            with book.open("a") as lines:
                lines.write(here + "\n")
                lines.flush()
                os.fsync(lines.fileno())
            os.kill(os.getpid(), signal.SIGKILL)
    elif here == point:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
