"""One measured run: wall, processor seconds by whom, peak memory; and what a contender is.

Each run is a child process of its own, so that its processor time (with all it starts and waits for) comes from the
kernel's books, and memory is that of the run and not of the bench. Separate from what is measured.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import NoReturn

import psutil

TICKS = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
SAMPLE_SECONDS = 0.1
PATIENCE_SECONDS = 1800.0


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One run. Seconds; `foreign_cpu` is what anybody else on the machine burnt meanwhile.

    `peak_bytes` is the resident memory of all its processes, as if each had been started afresh.
    """

    wall: float
    own_cpu: float
    s3_cpu: float
    pg_cpu: float
    foreign_cpu: float
    peak_bytes: int
    stored_bytes: int


@dataclass(kw_only=True)
class Contender:
    """One thing that is measured. `act` gives stored bytes (0: none of its own); it runs in a child process.

    `limit` names the contender whose wall is the unit; `scale` corrects for data of another size (bytes of the limit's
    data by bytes of this one's). `start_bytes`: what a fresh process has in memory before it does anything, for those
    that run in a fork of the bench.
    """

    name: str
    who: str
    limit: str
    act: Callable[[], int]
    before: Callable[[], None] = lambda: None
    scale: float = 1.0
    start_bytes: int = 0
    samples: list[Sample] = field(default_factory=list)


@dataclass(kw_only=True)
class Servers:
    """The processes whose time is not the contender's own: the S3 server, and whatever Postgres it asks."""

    s3: list[int]
    postgres: list[int]


def run(one: Contender, servers: Servers) -> Sample:
    """Measure one run. Raises RuntimeError with the child's last words when it fails."""
    one.before()
    s3, postgres, everything = _of(servers.s3), _of(servers.postgres), _machine()
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    inherited = _resident(os.getpid())
    begun = time.perf_counter()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _child(one, writing)
    os.close(writing)
    peak = _Peak(pid)
    try:
        with os.fdopen(reading, "rb") as told:
            said = told.read()
        _, status, usage = os.wait4(pid, 0)
    except KeyboardInterrupt:
        os.killpg(pid, signal.SIGKILL)
        raise
    wall = time.perf_counter() - begun
    peak.stop()
    if status != 0:
        raise RuntimeError(f"{one.who}: {one.name}: {said.decode(errors='replace')[-2000:]}")
    own = usage.ru_utime + usage.ru_stime
    s3, postgres = _of(servers.s3) - s3, _of(servers.postgres) - postgres
    sample = Sample(
        wall=wall,
        own_cpu=own,
        s3_cpu=s3,
        pg_cpu=postgres,
        foreign_cpu=max(0.0, _machine() - everything - own - s3 - postgres),
        peak_bytes=max(0, peak.bytes - inherited) + one.start_bytes,
        stored_bytes=int(json.loads(said)),
    )
    one.samples.append(sample)
    return sample


def _child(one: Contender, writing: int) -> NoReturn:
    code = 1
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.setsid()
        os.write(writing, json.dumps(one.act()).encode())
        code = 0
    except BaseException:  # noqa: BLE001 -- the parent reads it from the pipe
        os.write(writing, traceback.format_exc().encode())
    finally:
        os._exit(code)


class _Peak:
    """The largest sum of resident memory of a process and its descendants, looked at ten times a second."""

    def __init__(self, pid: int) -> None:
        self.bytes = 0
        self._pid, self._over = pid, Event()
        self._thread = Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(SAMPLE_SECONDS):
            self.bytes = max(self.bytes, sum(map(_resident, _tree(self._pid))))


def _tree(pid: int) -> list[int]:
    found = [pid]
    for each in found:
        try:
            for task in Path(f"/proc/{each}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
        except OSError:
            continue
    return found


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES
    except (OSError, IndexError):
        return 0


def _of(pids: list[int]) -> float:
    """Seconds of these processes, their living descendants, and the dead ones that they waited for."""
    total = 0
    for pid in (each for top in pids for each in _tree(top)):
        try:
            told = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(map(int, told[11:15]))
    return total / TICKS


def _machine() -> float:
    told = psutil.cpu_times()
    return float(told.user + told.system + told.nice)


def start_bytes() -> int:
    """The resident memory of a fresh interpreter that has imported the mover and a client of S3."""
    line = (
        "import boto3, psycopg, tasks.s3_store, tasks.postgres.basebackup, tasks.postgres.unpack_chain, pathlib;"
        "boto3.client('s3', region_name='us-east-1', aws_access_key_id='a', aws_secret_access_key='b');"
        "print(pathlib.Path('/proc/self/statm').read_text().split()[1])"
    )
    said = subprocess.run([sys.executable, "-c", line], check=True, capture_output=True, text=True).stdout
    return int(said) * PAGE_BYTES
