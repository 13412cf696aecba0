"""The platform's open client connections, so that those who stay can be told to go. Knows sockets, no requests.

Separate because a failover must reach clients that keep a connection and so never ask the name again.
"""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass

LONG_SECONDS = 1.0
"""From this age on an open connection counts as long-lived."""
DRAINING_SECONDS = 60.0


@dataclass(slots=True)
class _Line:
    socket: socket.socket
    since: float
    busy: bool = False
    goes: bool = False


class Connections:
    """All open connections of the server, by their handler."""

    def __init__(self) -> None:
        self._lines: dict[int, _Line] = {}
        self._lock = threading.Lock()
        self._draining_until = 0.0

    def opened(self, key: int, line: socket.socket) -> None:
        """A client connected."""
        with self._lock:
            self._lines[key] = _Line(line, time.monotonic())

    def closed(self, key: int) -> None:
        """It is gone."""
        with self._lock:
            self._lines.pop(key, None)

    def begun(self, key: int) -> None:
        """It asks something."""
        with self._lock:
            self._lines[key].busy = True

    def ended(self, key: int) -> None:
        """It has its answer."""
        with self._lock:
            self._lines[key].busy = False

    def must_close(self, key: int) -> bool:
        """Whether its answer has to say `Connection: close`."""
        with self._lock:
            line = self._lines.get(key)
            return time.monotonic() < self._draining_until or (line is not None and line.goes)

    def drain(self, seconds: float = DRAINING_SECONDS) -> int:
        """Close idle connections at once and busy ones after their answer; for so long no connection stays open
        after an answer. Gives how many were told to go."""
        with self._lock:
            self._draining_until = time.monotonic() + seconds
            for line in self._lines.values():
                line.goes = True
                if not line.busy:
                    with suppress(OSError):
                        line.socket.shutdown(socket.SHUT_RDWR)
            return len(self._lines)

    def told(self, *, but: int | None = None) -> dict[str, int | bool]:
        """`open`, `old` (open for longer than LONG_SECONDS) and `draining`, without the connection that asks."""
        now = time.monotonic()
        with self._lock:
            others = [line for key, line in self._lines.items() if key != but]
            old = sum(now - line.since > LONG_SECONDS for line in others)
            return {"open": len(others), "old": old, "draining": now < self._draining_until}
