"""What the stories of hazards and troubles share: a lab with a backup and a mark, `dr` as its user runs it, and what is
left when it has ended."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import psycopg

from deployments.lab.environment import for_python
from deployments.lab.world import World, down, up
from recovery.check import Outcome
from recovery.errors import DrError
from recovery.journal import outcome
from recovery.plan import Plan
from tasks import backing, keys, proving
from tasks.engine import Act
from tasks.evidence import verify
from tasks.home import Home, open_home
from tasks.journal import read_records
from tasks.postgres import leftovers

DB = "orders-db"
PATIENCE_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Said:
    """How `dr` ended."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def document(self) -> Any:
        return json.loads(self.out)


@contextmanager
def lab(folder: Path) -> Iterator[tuple[World, Home]]:
    """A lab with rows, a full backup and a mark, all of it archived at the recovery site."""
    try:
        world = up(folder, without=frozenset({"aws", "app"}))
        home = open_home(world.home)
        write(world, "before the backup")
        back_up(home)
        write(world, "after the backup")
        backing.take_mark(home, DB)
        write(world, "after the mark")
        for sort in ("mark", "latest"):
            until(lambda sort=sort: proving.plan_proof(home, proving.Wanted(resource=DB, sort=sort)))
        yield world, home
    finally:
        down(folder, wipe=True)
        shutil.rmtree(folder, ignore_errors=True)


def write(world: World, payload: str, *, count: int = 10, site: str = "east") -> None:
    """Rows that are committed one by one, and a new WAL segment behind them."""
    with psycopg.connect(world.dsn(site), autocommit=True) as connection:
        for _ in range(count):
            connection.execute(
                "insert into rows (seq, payload) select coalesce(max(seq), 0) + 1, %s from rows", (payload,)
            )
        connection.execute("select pg_switch_wal()")


def back_up(home: Home, which: backing.Which = "full") -> backing.Taken:
    plan = backing.plan_backup(home, DB, which)
    assert isinstance(plan, Plan)
    return backing.take(Act(home=home), plan)


def until(look: Callable[[], Any], *, patience_seconds: float = PATIENCE_SECONDS) -> Any:
    """What `look` gives once it is true and raises nothing."""
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            if (found := look()) or found is None:
                return found
        except (DrError, AssertionError, psycopg.Error, psutil.NoSuchProcess):
            if time.monotonic() > deadline:
                raise
        assert time.monotonic() < deadline, "it did not come true within the patience"
        time.sleep(0.02)


def words(home: Path, *said: str) -> list[str]:
    return [sys.executable, "-m", "deployments.cli.main", *said, "--home", str(home)]


def dr(home: Path, *said: str, env: Mapping[str, str] | None = None, patience_seconds: float = 120) -> Said:
    """The command line as its user runs it."""
    begun = time.monotonic()
    ran = subprocess.run(
        words(home, *said), capture_output=True, text=True, timeout=patience_seconds, check=False,
        env={**os.environ, **for_python(), **(env or {})},
    )  # fmt: skip
    return Said(code=ran.returncode, out=ran.stdout, err=ran.stderr, seconds=time.monotonic() - begun)


def heed_ctrl_c() -> None:
    """As a terminal starts a program: whoever runs the tests in the background has them ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Running:
    """`dr` underway: its stderr is read line by line, so that a test acts at the moment that a step begins or ends."""

    def __init__(self, home: Path, *said: str, env: Mapping[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            words(home, *said), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
            preexec_fn=heed_ctrl_c,  # noqa: PLW1509 -- one system call between fork and exec
            env={**os.environ, **for_python(), "PYTHONUNBUFFERED": "1", **(env or {})},
        )  # fmt: skip
        self.lines: list[str] = []
        self.begun = time.monotonic()
        self._changed = threading.Condition()
        self._out: list[str] = []
        self._readers = [threading.Thread(target=self._read), threading.Thread(target=self._drain)]
        for each in self._readers:
            each.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._changed:
                self.lines.append(line.strip())
                self._changed.notify_all()
        with self._changed:
            self.lines.append("<end>")
            self._changed.notify_all()

    def _drain(self) -> None:
        assert self.process.stdout is not None
        self._out.append(self.process.stdout.read())

    def await_line(self, begin: str, patience_seconds: float = PATIENCE_SECONDS) -> str:
        """The first line that begins so. Fails when `dr` ends before."""
        with self._changed:
            found = self._changed.wait_for(
                lambda: next((line for line in self.lines if line.startswith((begin, "<end>"))), None),
                patience_seconds,
            )
        assert found not in {None, "<end>"}, f"{begin!r} was never said: {self.lines}"
        return str(found)

    def children(self) -> list[psutil.Process]:
        """All programs below it, down to the last."""
        return list(psutil.Process(self.process.pid).children(recursive=True))

    def end(self, patience_seconds: float = PATIENCE_SECONDS) -> Said:
        """Wait for its end, however it comes."""
        code = self.process.wait(patience_seconds)
        for each in self._readers:
            each.join(5)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
        return Said(
            code=code, out="".join(self._out), err="\n".join(self.lines[:-1]), seconds=time.monotonic() - self.begun
        )

    def kill(self, number: int = signal.SIGKILL) -> Said:
        """That signal to `dr` alone, not to its programs; then wait for its end."""
        os.kill(self.process.pid, number)
        return self.end()


def living(programs: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Those that still do anything: an ended one that nobody has taken in yet does not."""
    found = []
    for each in programs:
        try:
            if each.is_running() and each.status() != psutil.STATUS_ZOMBIE:
                found.append(each)
        except psutil.NoSuchProcess:
            continue
    return found


def servers_of(home: Path) -> list[str]:
    """Programs that work in this home's scratch, or below the folder that is given."""
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()).is_relative_to(home) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline())[:160])
        except (psutil.Error, OSError):
            continue
    return found


def left(home: Home) -> list[str]:
    """What a run left behind: scratch folders, servers in them, uploads and backups without an end."""
    found = [str(each) for each in home.scratch.glob("*")] if home.scratch.is_dir() else []
    found += servers_of(home.scratch)
    for site in ("east", "west"):
        store = home.backups(DB, site)
        found += [f"{site}: upload of {key}" for key, _, _ in store.uploads("")]
        folders = {each.key.rpartition("/")[0] for each in store.list("base/")}
        ends = {each.key.rpartition("/")[0] for each in store.list("base/") if each.key.endswith("/backup.json")}
        found += [f"{site}: {folder} has no marker" for folder in sorted(folders - ends)]
    return found


def swept(home: Home) -> None:
    """What killed backups left in the buckets is removed now, however young it is."""
    for site in ("east", "west"):
        leftovers.sweep_leftovers(home.backups(DB, site), now=home.now(), older_than=timedelta())


def runs_of(home: Home, purpose: str) -> dict[str, str | None]:
    """The outcomes of all runs of a purpose, by run, oldest first."""
    ledger = home.ledger()
    runs = sorted({key.split("/")[1] for key in ledger.list("runs/")})
    read = {run: read_records(ledger, run) for run in runs}
    mine = {run: records for run, records in read.items() if records and records[0].facts.get("purpose") == purpose}
    return {run: outcome(records) for run, records in sorted(mine.items(), key=lambda each: each[1][0].begin)}


def evidence_troubles(home: Home, runs: Iterable[str]) -> list[str]:
    """What a verification says against these runs, by whom the home trusts."""
    trusted = keys.engine_fingerprints(home.folder / "keys")
    report = verify(home.ledger(), trusted=trusted, runs=list(runs))
    return [str(each) for each in report.runs if each.outcome is not Outcome.PASSED]
