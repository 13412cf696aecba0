"""The server as the leash's child: started so that the kernel ends it with the leash, ended with all its children.

Separate because processes, signals and reaping are all it knows. The tie is the kernel's parent-death signal, set by a
few words of Python right before the server's own program, behind every change of user, which would forget it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tasks.postgres.run_as import server_argv
from tasks.postgres.stopping import servers_in

_PR_SET_CHILD_SUBREAPER = 36
_BESIDE_SECONDS = 1.0
_TIE = (
    "import ctypes,os,sys\n"
    "ctypes.CDLL(None).prctl(1,int(sys.argv[2]))\n"
    "os.getppid()==int(sys.argv[1]) or os._exit(70)\n"
    "os.execvp(sys.argv[3],sys.argv[3:])"
)
"""PR_SET_PDEATHSIG; then, if the leash died before that, not at all; then the server in this very process."""


@dataclass(kw_only=True)
class Stopping:
    """A stop underway: cleanly until `quit_at`, immediately until `kill_at` (ticks), then kill -9."""

    why: str
    quit_at: float
    kill_at: float
    step: Literal["begun", "fast", "quit", "killed"] = "begun"


class Child:
    """At most one server at a time. Only the process's first thread may use it: the tie is to the thread."""

    def __init__(self, argv: Sequence[str]) -> None:
        self._argv = list(argv)
        self._process: subprocess.Popen[bytes] | None = None
        self.code: int | None = None
        """How the last server ended: its exit code, negative for a signal."""
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)  # backends that lose their postmaster become ours

    @property
    def pid(self) -> int | None:
        """The postmaster's pid while it lives."""
        return None if self._process is None else self._process.pid

    @property
    def empty(self) -> bool:
        """Whether no child is left, postmaster or backend."""
        return self._process is None and not _children(os.getpid())

    def start(self) -> None:
        """Start the server."""
        words = [sys.executable, "-I", "-S", "-c", _TIE, str(os.getpid()), str(int(signal.SIGQUIT)), *self._argv]
        argv, _ = server_argv(words, isolated=False)
        self.code = None
        self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, pass_fds=())

    def reap(self) -> None:
        """Take in what has ended."""
        if self._process is not None and self._process.poll() is not None:
            self.code = self._process.returncode
            self._process = None
        held = None if self._process is None else self._process.pid
        for pid in _children(os.getpid()):
            if pid != held:
                with suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)

    def send(self, number: int) -> None:
        """Signal the postmaster, waking it if it sleeps."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, number)
                os.kill(self._process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """kill -9 the postmaster and everything below it, and below us."""
        for pid in _below(os.getpid()):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


class Others:
    """Servers that work in our data directory and are none of our children: started by hand or by the distribution's
    own service. No leash of theirs bounds what they write."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._looked_at = float("-inf")
        self._found = False

    def beside(self, child: Child, *, at_once: bool = False) -> bool:
        """Whether there is one. Looked up about once a second, and never while a server of ours lives."""
        if child.pid is not None or not child.empty:
            self._found, self._looked_at = False, float("-inf")
        elif at_once or time.monotonic() - self._looked_at >= _BESIDE_SECONDS:
            self._found, self._looked_at = bool(servers_in(self._data_dir)), time.monotonic()
        return self._found


def exit_code(code: int) -> int:
    """As a shell tells of a program's end: 128 and the signal's number."""
    return 128 - code if code < 0 else code


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += [int(each) for each in (task / "children").read_text().split()]
    return found


def _below(pid: int) -> list[int]:
    found: list[int] = []
    left = _children(pid)
    while left:
        each = left.pop()
        found.append(each)
        left += _children(each)
    return found
