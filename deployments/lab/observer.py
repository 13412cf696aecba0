"""The outside observer: a user that knows a name and a resolver, nothing else, and writes down what it sees.

Run as `python -m deployments.lab.observer CONFIG_FILE` (until SIGTERM). Ten times a second it resolves the name, opens
a fresh connection, writes a row with a number of its own and reads it back, with a patience of a second for each write.
A try doesn't wait for the one before. Every try is a line of HOME/lab/observer/INSTANT.jsonl; what the lines mean is in
observed.py.
"""

from __future__ import annotations

import http.client
import itertools
import json
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from deployments.lab import layout, naming, observed
from deployments.lab.environment import for_python, module
from deployments.lab.observed import FIRST_SEQ, Try
from deployments.lab.process import wait_until
from deployments.lab.world import World
from recovery.errors import BadInput

NAME = "observer"
RATE = 10.0
RATE_MAX = 50.0
PATIENCE_SECONDS = 1.0
READ_SECONDS = 0.5
AT_ONCE_MOST = 64
LOOK_SECONDS = 5.0
SPARE = 1000
"""Numbers that a new observation leaves free: those that a killed one had under way."""


def begin(world: World, *, rate: float = RATE) -> int:
    """Start observing in the background; gives its pid once the first try is written down. Raises BadInput."""
    if not 0 < rate <= RATE_MAX:
        raise BadInput(f"{rate:g} tries a second are out of range", hint=f"choose above 0 and up to {RATE_MAX:g}")
    if world.processes.alive(NAME):
        raise BadInput("the observer runs already in this lab", hint="dr lab observer --stop ends it")
    folder = world.lab / NAME
    folder.mkdir(exist_ok=True)
    journal = folder / f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}.jsonl"
    highest = max((each.seq for session in sessions(world) for each in session), default=FIRST_SEQ - SPARE)
    config = {
        "names": naming.describe(world),
        "port": layout.PORTS["app"],
        "journal": str(journal),
        "first": highest + SPARE,
        "rate": rate,
    }
    (folder / "config.json").write_text(json.dumps(config))
    pid = world.processes.spawn(NAME, module("deployments.lab.observer", folder / "config.json"), env=for_python())
    wait_until(
        lambda: not world.processes.alive(NAME) or (journal.exists() and b"\n" in journal.read_bytes()),
        what="the observer's first try",
        patience_seconds=15,
        hint=f"read {world.processes.log(NAME)}",
    )
    return pid


def end(world: World) -> bool:
    """End the observation; whether there was one."""
    ran = world.processes.alive(NAME)
    world.processes.end(NAME, patience_seconds=PATIENCE_SECONDS + READ_SECONDS + 2)
    return ran


def look(world: World) -> dict[str, Any]:
    """Everything observed in this lab until now: the document of `dr lab observer --json`."""
    seen = sessions(world)
    acknowledged = [each.seq for one in seen for each in one if each.outcome == "acknowledged"]
    primary, present = None, None
    if acknowledged:
        primary, present = _at_the_primary(naming.of(naming.describe(world)), min(acknowledged))
    return {
        "running": "yes" if world.processes.alive(NAME) else "no",
        "pid": world.processes.pid(NAME),
        "journals": str(world.lab / NAME),
        "by": naming.describe(world),
        "primary": primary,
        **observed.told(seen, present),
    }


def sessions(world: World) -> list[list[Try]]:
    """The tries of each observation, oldest observation first. A last line that is not whole is not there yet."""
    return [read(path) for path in sorted((world.lab / NAME).glob("*.jsonl"))]


def read(journal: Path) -> list[Try]:
    """The whole lines of a journal."""
    whole = journal.read_bytes()
    return [Try.model_validate_json(line) for line in whole[: whole.rfind(b"\n") + 1].splitlines()]


@dataclass(kw_only=True)
class Observer:
    """One observation. `journal` takes the lines; tries run on threads, each with its patience."""

    names: naming.Names
    port: int
    numbers: Iterator[int]
    journal: TextIO
    patience_seconds: float = PATIENCE_SECONDS
    _writing: threading.Lock = field(default_factory=threading.Lock)

    def watch(self, stopped: threading.Event, *, rate: float) -> None:
        """Begin `rate` tries a second until `stopped`. Past AT_ONCE_MOST under way it waits, which shows as a gap."""
        free, due, troubles = threading.Semaphore(AT_ONCE_MOST), time.monotonic(), list[BaseException]()

        def ended(trial: Future[Try]) -> None:
            free.release()
            if trouble := trial.exception():  # of the observer itself, like a full disk: it must not go on unwritten
                troubles.append(trouble)
                stopped.set()

        with ThreadPoolExecutor(AT_ONCE_MOST, thread_name_prefix="try") as pool:
            while not stopped.wait(max(0.0, due - time.monotonic())):
                free.acquire()
                pool.submit(self.try_once).add_done_callback(ended)
                due = max(due + 1 / rate, time.monotonic() - 1.0)
        if troubles:
            raise troubles[0]

    def try_once(self) -> Try:
        """One try, from the name to the row read back, written down."""
        number, begun = next(self.numbers), datetime.now(UTC)
        tried = self._tried(number, begun)
        if tried.outcome == "failed":
            self.names.failed(tried.address)
        with self._writing:
            self.journal.write(tried.model_dump_json() + "\n")
            self.journal.flush()
        return tried

    def _tried(self, number: int, begun: datetime) -> Try:
        deadline, address, text = time.monotonic() + self.patience_seconds, "", f"observed {number}"
        line: http.client.HTTPConnection | None = None
        try:
            address = self.names.addresses(patience_seconds=self.patience_seconds)[0]
            line = http.client.HTTPConnection(address, self.port, timeout=_left(deadline))
            body = json.dumps({"seq": number, "payload": text})
            code, said = _asked(line, deadline, "POST", "/rows", body)
            ended = datetime.now(UTC)
            if code != 201:
                return _failed(number, begun, address, f"{code} {said.get('error', '')}".strip())
            again = _read_back(line, number, text)
        except (naming.Unresolved, OSError, http.client.HTTPException, ValueError) as trouble:
            return _failed(number, begun, address, f"{type(trouble).__name__}: {trouble}")
        finally:
            if line is not None:
                line.close()
        return Try(
            seq=number, begun_at=begun, ended_at=ended, outcome="acknowledged", address=address,
            site=str(said.get("site", "")), timeline=said.get("timeline"), read_back=again,
        )  # fmt: skip


def _failed(number: int, begun: datetime, address: str, why: str) -> Try:
    return Try(seq=number, begun_at=begun, ended_at=datetime.now(UTC), outcome="failed", address=address, why=why[:200])


def _read_back(line: http.client.HTTPConnection, number: int, text: str) -> bool:
    try:
        code, said = _asked(line, time.monotonic() + READ_SECONDS, "GET", f"/rows/{number}")
    except (OSError, http.client.HTTPException, ValueError):
        return False  # counted as not read back; the write stays acknowledged
    return code == 200 and said.get("payload") == text


def _asked(
    line: http.client.HTTPConnection, deadline: float, method: str, path: str, body: str | None = None
) -> tuple[int, dict[str, Any]]:
    if line.sock is not None:
        line.sock.settimeout(_left(deadline))
    line.request(method, path, body, {"Content-Type": "application/json"} if body else {})
    line.sock.settimeout(_left(deadline))
    answer = line.getresponse()
    said = json.loads(answer.read())
    return answer.status, said if isinstance(said, dict) else {}


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("the patience is over")
    return left


def _at_the_primary(
    names: naming.Names, begin: int, *, port: int = layout.PORTS["app"]
) -> tuple[dict[str, str] | None, set[int] | None]:
    """Who answers by the name and takes writes, and the numbers from `begin` on that it has; None when nobody does."""
    deadline = time.monotonic() + LOOK_SECONDS
    while time.monotonic() < deadline:
        try:
            for address in names.addresses(patience_seconds=1.0):
                line = http.client.HTTPConnection(address, port, timeout=2)
                try:
                    code, health = _asked(line, deadline, "GET", "/health")
                    if code == 200:
                        return {"address": address, "site": str(health["site"])}, _numbers(line, begin)
                finally:
                    line.close()
        except (naming.Unresolved, OSError, http.client.HTTPException, ValueError):
            pass  # asked again until the patience is over; then the answer is None: unproven
        time.sleep(0.1)
    return None, None


def _numbers(line: http.client.HTTPConnection, begin: int) -> set[int]:
    found: set[int] = set()
    while True:
        code, page = _asked(line, time.monotonic() + LOOK_SECONDS, "GET", f"/rows/from/{begin}")
        if code != 200:
            raise ValueError(f"the rows were not told: {code}")
        found.update(page["seqs"])
        if not page["more"]:
            return found
        begin = max(page["seqs"]) + 1


def _main(file: str) -> None:
    config, stopped = json.loads(Path(file).read_text()), threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    with Path(config["journal"]).open("a") as journal:
        names, numbers = naming.of(config["names"]), itertools.count(config["first"])
        Observer(names=names, port=config["port"], numbers=numbers, journal=journal).watch(stopped, rate=config["rate"])


if __name__ == "__main__":
    _main(sys.argv[1])
