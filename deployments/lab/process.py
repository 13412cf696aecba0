"""The lab's processes: started in sessions of their own, remembered by pid and start time, found again after any crash.

Separate because every part needs the same care: a recycled pid is never signalled, an orphan of a killed starter is
found by a mark in its environment, and what belongs to another home is never touched.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped,unused-ignore]

from recovery.errors import BadInput, Failed

HOME_MARK, NAME_MARK = "STANDFAST_LAB", "STANDFAST_LAB_PART"
NOT_INHERITED = ("PG", "AWS_", "WEED_", "PREFECT_", "MOTO_")
"""A person's settings for other servers must not steer the lab's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Processes:
    """The processes of the lab in folder `lab` (HOME/lab, absolute)."""

    lab: Path

    def spawn(self, name: str, argv: Sequence[str], *, env: Mapping[str, str] | None = None) -> int:
        """Start `name`, its output appended to log/NAME.log; gives its pid. It must not run already."""
        program = shutil.which(argv[0])
        if program is None:
            raise BadInput(f"{argv[0]} is not installed", hint="install it, or put it on PATH")
        kept = {key: value for key, value in os.environ.items() if not key.startswith(NOT_INHERITED)}
        log = self.log(name)
        log.parent.mkdir(parents=True, exist_ok=True)
        pid = os.posix_spawn(
            program,
            list(argv),
            {**kept, "TZ": "UTC", HOME_MARK: str(self.lab), NAME_MARK: name, **(env or {})},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
            setsigdef=[signal.SIGPIPE],
        )
        record = {"pid": pid, "created": psutil.Process(pid).create_time()}
        path = self._record(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".new").write_text(json.dumps(record))
        path.with_suffix(".new").replace(path)
        return pid

    def log(self, name: str) -> Path:
        """Where a part's output goes."""
        return self.lab / "log" / f"{name}.log"

    def pid(self, name: str) -> int | None:
        """The pid of a running part; None when it doesn't run (or its pid is somebody else's by now)."""
        try:
            record = json.loads(self._record(name).read_text())
            process = psutil.Process(record["pid"])
            same = abs(process.create_time() - record["created"]) < 0.02
            return process.pid if same and process.status() != psutil.STATUS_ZOMBIE else None
        except (FileNotFoundError, psutil.NoSuchProcess, ValueError):
            return None

    def alive(self, name: str) -> bool:
        """Whether it runs."""
        return self.pid(name) is not None

    def frozen(self, name: str) -> bool:
        """Whether it was stopped by SIGSTOP."""
        pid = self.pid(name)
        with suppress(psutil.NoSuchProcess):
            return pid is not None and psutil.Process(pid).status() == psutil.STATUS_STOPPED
        return False

    def names(self) -> list[str]:
        """Parts that were started and not stopped, running or not."""
        return sorted(path.stem for path in (self.lab / "run").glob("*.json"))

    def freeze(self, name: str) -> None:
        """SIGSTOP the part and all its children: it accepts connections and hangs."""
        for process in self._tree(name):
            with suppress(psutil.NoSuchProcess):
                process.suspend()

    def thaw(self, name: str) -> None:
        """SIGCONT the part and all its children."""
        for process in self._tree(name):
            with suppress(psutil.NoSuchProcess):
                process.resume()

    def kill(self, name: str) -> None:
        """kill -9 the part and all its children; returns when they are gone."""
        _kill(self._tree(name))

    def end(self, name: str, *, number: int = signal.SIGTERM, patience_seconds: float = 15.0) -> None:
        """Ask the part to end, wake it if it sleeps, kill it past the patience; forget it."""
        tree = self._tree(name)
        self.thaw(name)
        for process in tree[:1]:
            with suppress(psutil.NoSuchProcess, psutil.TimeoutExpired):
                process.send_signal(number)
                process.wait(patience_seconds)
        _kill(tree)
        self._record(name).unlink(missing_ok=True)

    def orphans(self) -> Iterator[tuple[str, psutil.Process]]:
        """Processes of this lab that no record knows: their starter was killed before it could write one."""
        known = {self.pid(name) for name in self.names()}
        for process in psutil.process_iter():
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied, FileNotFoundError, ProcessLookupError):
                if process.pid in known or process.pid == os.getpid() or os.getsid(process.pid) != process.pid:
                    continue
                marks = process.environ()
                ours = marks.get(HOME_MARK) == str(self.lab) and process.status() != psutil.STATUS_ZOMBIE
                if ours and not any(parent.pid in known for parent in process.parents()):
                    yield marks.get(NAME_MARK, ""), process

    def reap(self) -> list[str]:
        """Kill the orphans; gives their names."""
        found = list(self.orphans())
        for _, process in found:
            _kill([process, *_children(process)])
        return [name for name, _ in found]

    def _record(self, name: str) -> Path:
        return self.lab / "run" / f"{name}.json"

    def _tree(self, name: str) -> list[psutil.Process]:
        pid = self.pid(name)
        if pid is None:
            return []
        with suppress(psutil.NoSuchProcess):
            leader = psutil.Process(pid)
            return [leader, *_children(leader)]
        return []


def _children(process: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return list(process.children(recursive=True))
    return []


def _kill(tree: list[psutil.Process]) -> None:
    for process in tree:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    for process in tree:
        wait_until(
            lambda process=process: _gone(process),  # type: ignore[misc]  # mypy takes the default for an argument
            what=f"the end of process {process.pid}",
            patience_seconds=10,
            hint="is its disk hanging? see dmesg",
        )


def _gone(process: psutil.Process) -> bool:
    with suppress(ChildProcessError):
        os.waitpid(process.pid, os.WNOHANG)
    with suppress(psutil.NoSuchProcess):
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    return True


def wait_until(holds: Callable[[], bool], *, what: str, patience_seconds: float, hint: str) -> None:
    """Poll `holds()` every 20 ms until it is true. Raises Failed past the patience."""
    deadline = time.monotonic() + patience_seconds
    while not holds():
        if time.monotonic() > deadline:
            raise Failed(f"{what} did not come about within {patience_seconds:g} s", hint=hint)
        time.sleep(0.02)
