"""The supervisor: a process that does nothing but keep the agent's worker running.

Separate and small because it has to live when the worker dies: it opens no bucket and no database. A worker that keeps
dying is started again ever more slowly, and for ever: an agent that gives up stops WAL from becoming durable.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import tasks
from recovery.errors import BadInput, Refused

_PR_SET_PDEATHSIG = 1
_FINAL = {BadInput.exit_code, Refused.exit_code}
"""Exit codes of the worker that starting it again can't change."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """How fast a dying worker is started again; having lived `well_seconds` it is forgiven."""

    first_seconds: float = 0.2
    factor: float = 2.0
    cap_seconds: float = 30.0
    quick_tries: int = 5
    well_seconds: float = 30.0

    def pause_seconds(self, deaths: int) -> float:
        """The pause before the next start after that many early deaths in a row."""
        if deaths > self.quick_tries:
            return self.cap_seconds
        return min(self.cap_seconds, self.first_seconds * self.factor ** max(0, deaths - 1))


def supervise(config: Path, *, pace: Pace | None = None, grace_seconds: float = 6.0) -> int:
    """Run workers until SIGTERM or SIGINT (0), or one says that its configuration is wrong (2) or it may not (4)."""
    pace = pace or Pace()
    asked: list[int] = []
    worker: list[subprocess.Popen[bytes]] = []

    def end(number: int, _frame: FrameType | None) -> None:
        asked.append(number)
        if worker and worker[-1].poll() is None:
            worker[-1].terminate()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    deaths = 0
    while not asked:
        begun = time.monotonic()
        worker[:] = [_start(config)]
        if asked:
            worker[-1].terminate()
        code = _wait(worker[-1], asked, grace_seconds)
        if asked or code in _FINAL:
            return 0 if asked else code
        deaths = 0 if time.monotonic() - begun > pace.well_seconds else deaths + 1
        pause = pace.pause_seconds(max(1, deaths))
        sys.stderr.write(f"the agent's worker ended with {code}; it is started again in {pause:g} s\n")
        sys.stderr.flush()
        until = time.monotonic() + pause
        while not asked and time.monotonic() < until:
            time.sleep(0.05)
    return 0


def _wait(worker: subprocess.Popen[bytes], asked: list[int], grace_seconds: float) -> int:
    """Its exit code; once the end was asked for, at most the grace until it is killed."""
    ending: float | None = None
    while True:
        try:
            return worker.wait(0.2)
        except subprocess.TimeoutExpired:
            if asked and ending is None:
                ending = time.monotonic()
            if ending is not None and time.monotonic() - ending > grace_seconds:
                worker.kill()


def _start(config: Path) -> subprocess.Popen[bytes]:
    # Threads that come and go must not each keep a heap of their own; and the worker is of this very installation.
    paths = [str(Path(tasks.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {"MALLOC_ARENA_MAX": "2", **os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "tasks.postgres.agent", str(config), str(os.getpid())],
        stdin=subprocess.DEVNULL,
        env=environment,
        preexec_fn=_die_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509 -- one thread only
    )


def _die_with_parent() -> None:
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
