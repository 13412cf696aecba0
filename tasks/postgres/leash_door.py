"""The leash's one waiting place: commands on its control socket, signals, news of its helpers, and time.

Separate so that the leash itself is a list of decisions. Only the first thread waits here; anybody may wake it.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recovery.errors import BadInput, Refused
from recovery.value import Value, canonical
from tasks.postgres.leash_control import LINE_BYTES, gone

_LINE_SECONDS = 0.5
_PATH_BYTES = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """A command and the line on which its answer goes back."""

    words: dict[str, Any]
    line: socket.socket

    def answer(self, said: Value) -> None:
        """Answer and hang up; who no longer listens is none of our business."""
        self._send(canonical(said))

    def refuse(self, why: str) -> None:
        """Answer that this cannot be done."""
        self._send(json.dumps({"error": why}).encode())

    def _send(self, body: bytes) -> None:
        with suppress(OSError), self.line:
            self.line.sendall(body + b"\n")


def _nothing(_number: int) -> None:
    return


class LeashDoor:
    """Listens on `path` (mode 0600). Raises Refused when another leash does, BadInput for a path that is too long."""

    def __init__(self, path: Path) -> None:
        if len(str(path).encode()) > _PATH_BYTES:
            raise BadInput(f"{path} is longer than a socket's path may be", hint="name a shorter `control`")
        if not gone(path):
            raise Refused(f"another leash listens at {path}", hint="one server has one leash: stop the other first")
        self._path = path
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        mask = os.umask(0o177)
        try:
            self._listener.bind(str(path))
        finally:
            os.umask(mask)
        self._listener.listen(16)
        self._listener.setblocking(False)
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        self._pending: list[int] = []
        self._handle: Callable[[int], None] = _nothing

    def on_signals(self, numbers: Iterable[int], handle: Callable[[int], None]) -> None:
        """From now on these signals wake the door, which then calls `handle`."""
        self._handle = handle
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in numbers:
            signal.signal(number, lambda got, _frame: self._pending.append(got))

    def wake(self) -> None:
        """There is news: wait no longer."""
        with suppress(BlockingIOError):
            os.write(self._write, b"\0")

    def wait(self, seconds: float) -> list[Asked]:
        """Until something happens or the time is over. Gives the commands; signals have been handled."""
        with suppress(InterruptedError):
            select.select([self._read, self._listener.fileno()], [], [], seconds)
        with suppress(BlockingIOError):
            os.read(self._read, 4096)
        while self._pending:
            self._handle(self._pending.pop(0))
        found: list[Asked] = []
        with suppress(BlockingIOError):
            while True:
                line, _ = self._listener.accept()
                asked = _read(line)
                found += [asked] if asked else []
        return found

    def close(self) -> None:
        """Nobody listens any more."""
        self._listener.close()
        self._path.unlink(missing_ok=True)


def _read(line: socket.socket) -> Asked | None:
    line.settimeout(_LINE_SECONDS)
    told = b""
    with suppress(OSError, ValueError):
        while not told.endswith(b"\n") and len(told) < LINE_BYTES:
            piece = line.recv(LINE_BYTES)
            if not piece:
                break
            told += piece
        words = json.loads(told)
        if isinstance(words, dict):
            return Asked(words=words, line=line)
    line.close()
    return None
