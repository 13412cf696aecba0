"""The one port through which anything is done on a machine: run a program, touch files, look at processes.

Adapters: local here; ssh and agent beside it. The lab uses the same, with no lab branch in the engine.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from recovery.errors import BadInput, Failed


@dataclass(frozen=True, kw_only=True, slots=True)
class Ran:
    """A program that ended: its exit code (negative: killed by that signal) and what it said."""

    code: int
    out: str
    err: str


class Host(Protocol):
    """A machine. Paths are paths on that machine; programs are argument lists, never a shell line."""

    def run(
        self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, patience_seconds: float, input_: str = ""
    ) -> Ran:
        """Run to the end; past the patience its whole process group is killed and Failed is raised."""
        ...

    def open(self, argv: Sequence[str], *, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start with stdout as a pipe, in a process group of its own; the caller ends it with `end`."""
        ...

    def start(self, argv: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None) -> int:
        """Start a resident program in a session of its own, output appended to `log`; gives its pid."""
        ...

    def free_bytes(self, path: Path) -> int:
        """Free space where `path` (or its nearest existing parent) lives."""
        ...


class LocalHost:
    """This machine."""

    def run(
        self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, patience_seconds: float, input_: str = ""
    ) -> Ran:
        """See Host.run."""
        process = subprocess.Popen(
            list(argv),
            env={**os.environ, **(env or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            text=True,
            errors="replace",
        )
        try:
            out, err = process.communicate(input_, timeout=patience_seconds)
        except subprocess.TimeoutExpired:
            end(process, grace_seconds=2.0)
            raise Failed(
                f"{Path(argv[0]).name} was still running after {patience_seconds:g} s and was ended",
                hint="see why it is slow (disk, locks, network), or give the step more patience in the catalog",
            ) from None
        except BaseException:
            end(process, grace_seconds=0.5)
            raise
        return Ran(code=process.returncode, out=out, err=err)

    def open(self, argv: Sequence[str], *, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """See Host.open."""
        return subprocess.Popen(
            list(argv),
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def start(self, argv: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None) -> int:
        """See Host.start."""
        with log.open("ab") as sink:
            process = subprocess.Popen(
                list(argv),
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return process.pid

    def free_bytes(self, path: Path) -> int:
        """See Host.free_bytes."""
        while not path.exists():
            path = path.parent
        return shutil.disk_usage(path).free


def host_of(address: str) -> Host:
    """The machine that a catalog names. Raises BadInput for one that no adapter reaches: never run here instead."""
    if address == "local":
        return LocalHost()
    raise BadInput(
        f"the host {address!r} cannot be reached: there is no adapter for it yet",
        hint="run dr on that machine, with host: local in its catalog",
    )


def end(process: subprocess.Popen[bytes] | subprocess.Popen[str], *, grace_seconds: float) -> None:
    """End a process group: SIGTERM, then SIGKILL after the grace; returns when the leader is reaped."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        deadline = time.monotonic() + grace_seconds
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
    process.wait()
