"""Speaking to a leash through its control socket: one line of JSON to and fro. Light: both ends import it.

Separate because the agent, the lab and the leash itself must agree on it and on nothing else.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recovery.errors import Failed
from tasks.unanswered import why

LINE_BYTES = 65536


@dataclass(frozen=True, kw_only=True, slots=True)
class LeashControl:
    """A leash, as others on its machine speak to it."""

    path: Path

    def status(self, *, patience_seconds: float = 1.0) -> dict[str, Any]:
        """What it says of itself (see leash.State). Raises Failed when it does not answer."""
        return self._say({"do": "status"}, patience_seconds)

    def stop(self, order: str, why: str, *, fast_seconds: float, patience_seconds: float) -> dict[str, Any]:
        """Have the server stopped, and kept stopped until a `start`: a clean shutdown for at most `fast_seconds`, then
        an immediate one. Answers when the server and all its children are gone. Raises Failed."""
        return self._say({"do": "stop", "order": order, "why": why, "fast_seconds": fast_seconds}, patience_seconds)

    def start(self, order: str, *, patience_seconds: float) -> dict[str, Any]:
        """Let the server run again where it may. Answers when it runs, or is held for another reason. Raises Failed."""
        return self._say({"do": "start", "order": order, "patience_seconds": patience_seconds}, patience_seconds + 1)

    def trust(self, order: str, generation: int, *, patience_seconds: float = 2.0) -> dict[str, Any]:
        """People signed the split-brain hazard: run unconfirmed while nothing newer than the generation is known."""
        return self._say({"do": "trust", "order": order, "generation": generation}, patience_seconds)

    def learn(self, term: Mapping[str, Any], *, patience_seconds: float = 2.0) -> dict[str, Any]:
        """Tell it a term that it may not have heard of yet. It is remembered, and confirms nothing. Raises Failed."""
        return self._say({"do": "term", "term": dict(term)}, patience_seconds)

    def _say(self, words: dict[str, Any], patience_seconds: float) -> dict[str, Any]:
        deadline = time.monotonic() + patience_seconds
        told = b""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
                line.settimeout(patience_seconds)
                line.connect(str(self.path))
                line.sendall(json.dumps(words).encode() + b"\n")
                while not told.endswith(b"\n") and len(told) < LINE_BYTES:
                    line.settimeout(max(0.001, deadline - time.monotonic()))
                    piece = line.recv(LINE_BYTES)
                    if not piece:
                        break
                    told += piece
            said = json.loads(told)
        except (OSError, ValueError) as error:
            raise Failed(
                f"the leash at {self.path} does not answer: {why(error)}",
                hint="see whether it runs: its service is Postgres's, and Postgres runs as its child",
            ) from None
        if not isinstance(said, dict) or "error" in said:
            fact = said.get("error", "nonsense") if isinstance(said, dict) else "nonsense"
            raise Failed(f"the leash says: {fact}", hint="see its log")
        return said


def gone(path: Path) -> bool:
    """Whether nobody listens on a control socket: the leash that made it has ended."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.settimeout(1.0)
        with suppress(BlockingIOError, TimeoutError):
            try:
                line.connect(str(path))
            except (FileNotFoundError, ConnectionRefusedError):
                return True
    return False
