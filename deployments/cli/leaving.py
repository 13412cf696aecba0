"""Leaving at once after Ctrl-C: the programs that moves have started are ended, then the process with its threads.

Separate because it is the only place that ends the process hard: a move may sit in a read for minutes, and Python would
wait for its thread. What it leaves behind is what a crash leaves: the next run goes on with it or discards it.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress

GRACE_SECONDS = 2.0


def leave(code: int, *, programs: bool) -> None:
    """End this process now with `code`; with `programs` those that it started first."""
    if programs:
        end_programs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def end_programs() -> None:
    """End all programs below this process: asked first (Postgres then shuts down at once), killed after the grace."""
    import psutil

    below = psutil.Process().children(recursive=True)
    for process in below:
        with suppress(psutil.Error):
            process.send_signal(signal.SIGQUIT)
    _, alive = psutil.wait_procs(below, timeout=GRACE_SECONDS)
    for process in alive:
        with suppress(psutil.Error):
            process.kill()
