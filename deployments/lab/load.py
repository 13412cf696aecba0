"""The seeded workload: rows through the sample platform's HTTP, each acknowledgement written down.

Run as `python -m deployments.lab.load HOME RATE SECONDS SEED` (SECONDS 0: until SIGTERM). A row is in
HOME/lab/load/acknowledged.jsonl when, and only when, the platform said that it is committed: RPO is compared with it.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import signal
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deployments.lab import layout, naming
from deployments.lab.environment import for_python, module
from deployments.lab.world import World
from recovery.errors import BadInput, Failed
from recovery.value import rfc3339

NAME = "load"
RATE_MAX = 500.0
PATIENCE_SECONDS = 3.0


def begin(world: World, *, rate: float, seed: int, seconds: float = 0) -> int:
    """Start the workload in the background; gives its pid. Raises BadInput when one runs or the rate is senseless."""
    check(rate=rate, seconds=seconds)
    if world.processes.alive(NAME):
        raise BadInput("a workload runs already in this lab", hint="dr lab load --stop ends it")
    return world.processes.spawn(
        NAME, module("deployments.lab.load", world.home, rate, seconds, seed), env=for_python()
    )


def end(world: World) -> bool:
    """End the workload in the background; whether there was one."""
    ran = world.processes.alive(NAME)
    world.processes.end(NAME, patience_seconds=PATIENCE_SECONDS * 2)
    return ran


def check(*, rate: float, seconds: float) -> None:
    """Raises BadInput for what makes no sense."""
    if not 0 < rate <= RATE_MAX:
        raise BadInput(
            f"a rate of {rate:g} rows a second is out of range", hint=f"choose above 0 and up to {RATE_MAX:g}"
        )
    if seconds < 0:
        raise BadInput("a workload cannot last less than no time", hint="choose --seconds 0 or more")


def run(world: World, *, rate: float, seconds: float, seed: int, stop: Callable[[], bool]) -> dict[str, Any]:
    """Write `rate` rows a second until `seconds` have passed (0: for ever) or `stop()`. Gives what was acknowledged.

    A row that was not acknowledged is tried again at the other site; nothing later is written before it.
    """
    check(rate=rate, seconds=seconds)
    folder = world.lab / "load"
    folder.mkdir(exist_ok=True)
    client, begun = _Client(world), time.monotonic()
    seq, done, failed, busy = _next_seq(world, client), 0, 0, True
    with acknowledgements(world).open("a") as book:
        while busy and not stop():
            said = client.post({"seq": seq, "payload": payload(seed, seq)})
            if said is None:
                failed += 1
            else:
                line = {"seq": seq, "acknowledged_at": rfc3339(datetime.now(UTC)), "lsn": said.get("lsn")}
                book.write(json.dumps(line) + "\n")
                book.flush()
                seq, done = seq + 1, done + 1
            due = begun + (done + failed) / rate
            time.sleep(max(0.0, min(due - time.monotonic(), 1.0)) if said else 0.1)
            busy = not seconds or time.monotonic() < begun + seconds
    return {"acknowledged": done, "failed": failed, "next_seq": seq}


def payload(seed: int, seq: int) -> str:
    """The text of a row: a function of seed and number, so that any copy can be judged."""
    return hashlib.sha256(f"{seed}:{seq}".encode()).hexdigest() * (1 + seq % 16)


def acknowledgements(world: World) -> Path:
    """JSON lines: seq, acknowledged_at (RFC 3339 UTC), lsn."""
    return world.lab / "load" / "acknowledged.jsonl"


def counts(world: World) -> dict[str, Any]:
    """How many rows were acknowledged, and the last."""
    last = last_acknowledged(world)
    return {"acknowledged_file": str(acknowledgements(world)), "last": last}


def last_acknowledged(world: World) -> dict[str, Any] | None:
    """The last whole line."""
    path = acknowledgements(world)
    if not path.exists():
        return None
    with path.open("rb") as book:
        book.seek(max(0, path.stat().st_size - 4096))
        lines = [line for line in book.read().split(b"\n")[:-1] if line.startswith(b"{") and line.endswith(b"}")]
    found: dict[str, Any] | None = json.loads(lines[-1]) if lines else None
    return found


def _next_seq(world: World, client: _Client) -> int:
    deadline = time.monotonic() + 20
    while (said := client.get("/rows/last")) is None:
        if time.monotonic() > deadline:
            raise Failed("no site's application answers", hint="dr lab status; dr lab heal all")
        time.sleep(0.1)
    last = last_acknowledged(world)
    return max(said["seq"] or 0, last["seq"] if last else 0) + 1


class _Client:
    """A client that goes by name, or to both sites in turn while the resolver is silent; asks anew after a failure."""

    def __init__(self, world: World) -> None:
        self._names = naming.of(naming.describe(world))
        self._doors = naming.InTurn(known=[world.address(site, source="user") for site in layout.SITES])
        self._line: http.client.HTTPConnection | None = None

    def post(self, row: dict[str, Any]) -> dict[str, Any] | None:
        """The acknowledgement, or None."""
        return self._ask("POST", "/rows", json.dumps(row).encode(), 201)

    def get(self, path: str) -> dict[str, Any] | None:
        """The answer, or None."""
        return self._ask("GET", path, None, 200)

    def _ask(self, method: str, path: str, body: bytes | None, wanted: int) -> dict[str, Any] | None:
        if self._line is None:
            self._line = http.client.HTTPConnection(self._address(), layout.PORTS["app"], timeout=PATIENCE_SECONDS)
        try:
            self._line.request(method, path, body, {"Content-Type": "application/json"})
            answer = self._line.getresponse()
            said = answer.read()
            if answer.status == wanted:
                found: dict[str, Any] = json.loads(said)
                return found
        except (OSError, http.client.HTTPException, ValueError):
            pass  # an answer that did not come is the outcome None, which the caller counts
        self._names.failed(self._line.host)
        self._doors.failed(self._line.host)
        self._line.close()
        self._line = None
        return None

    def _address(self) -> str:
        try:
            return self._names.addresses(patience_seconds=1.0)[0]
        except naming.Unresolved:
            return self._doors.addresses(patience_seconds=0)[0]


def _main(home: str, rate: str, seconds: str, seed: str) -> None:
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    told = run(World.load(Path(home)), rate=float(rate), seconds=float(seconds), seed=int(seed), stop=stopped.is_set)
    sys.stderr.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    _main(*sys.argv[1:])
