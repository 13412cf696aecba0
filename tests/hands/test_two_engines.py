"""Two engines at one ledger and one place of leases; one is stopped at the worst moment and woken when all is over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest

from recovery.drive import Finish, Move, Seen, Truth
from recovery.errors import DrError
from recovery.lease import Terms
from recovery.plan import Plan
from recovery.step import Step
from tasks.dir_store import DirStore
from tasks.journal import Journal, read_records
from tasks.kind import Facts, Scene
from tasks.leases import Leases, wall_clock
from tasks.ledger_dir import DirectoryLedger
from tasks.loop import Loop

ROOT = Path(__file__).resolve().parents[2]
TERMS = Terms(seconds=1.0, clock_bound=timedelta())
SERVICE = "shop"


class Writes:
    """A step that is done when its file says who did it last."""

    def __init__(self, folder: Path, who: str) -> None:
        self.path, self.who = folder / "done-by", who

    def observe(self, step: Step, scene: Scene) -> Seen:
        return Seen(truth=Truth.HOLDS if step.id in scene.results else Truth.ABSENT)

    def perform(self, move: Move, scene: Scene) -> Facts:
        with self.path.open("a") as file:
            file.write(f"{self.who}\n")
        return {}


def drive(folder: Path, who: str, purpose: str, *, stops: bool = False) -> None:
    """Drive a plan of one step under the lease. `stops`: this process stops itself when the step is begun and on
    record, before its effect."""
    step = Step.model_validate({"id": "write", "verb": "write", "resource": "db"})
    at = wall_clock()
    plan = Plan(purpose=purpose, runbook="r", runbook_version="1", service=SERVICE, asked_at=at, steps=(step,))

    def door(move: Move, perform: object) -> Facts:
        if stops:
            (folder / "stopping").write_text(plan.run)
            os.kill(
                os.getpid(), signal.SIGSTOP
            )  # it may be another thread that is stopped first, and this one after it
            until((folder / "woken").exists)
        return perform()  # type: ignore[operator,no-any-return]

    leases = Leases(DirStore(folder / "leases"), TERMS, owner=who)
    with leases.hold(SERVICE, plan.run, patience_seconds=20) as held:
        journal = Journal(
            DirectoryLedger(folder / "ledger"), plan.run, who=who, generation=held.generation, clock=wall_clock
        )
        verbs = {"write": Writes(folder, who)}
        loop = Loop(plan=plan, verbs=verbs, journal=journal, now=wall_clock, door=door, may_act=held.check)  # type: ignore[arg-type]
        assert loop.run() == Finish()


def until(holds: object, patience_seconds: float = 30.0) -> None:
    deadline = time.monotonic() + patience_seconds
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it did not come true within the patience"
        time.sleep(0.01)


def is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only Linux tells here that a process is stopped")
def test_an_engine_that_slept_between_its_record_and_its_effect_does_nothing_when_it_wakes(tmp_path: Path) -> None:
    words = [sys.executable, __file__, str(tmp_path)]
    stale = subprocess.Popen(words, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE)
    try:
        until(lambda: (tmp_path / "stopping").exists() and is_stopped(stale.pid))
        drive(tmp_path, "newer@b", "failback")
        (tmp_path / "woken").touch()
        stale.send_signal(signal.SIGCONT)
        _, said = stale.communicate(timeout=60)
    finally:
        stale.kill()
        stale.wait()
    assert (tmp_path / "done-by").read_text() == "newer@b\n"
    assert stale.returncode == 4, said.decode()
    run = (tmp_path / "stopping").read_text()
    assert [each.kind for each in read_records(DirectoryLedger(tmp_path / "ledger"), run)] == ["step.begun"]
    last = Leases(DirStore(tmp_path / "leases"), TERMS, owner="x").look(SERVICE)
    assert last is not None
    assert (last.owner, last.released) == ("newer@b", True), "and it leaves the other one's lease alone"


if __name__ == "__main__":
    try:
        drive(Path(sys.argv[1]), "older@a", "failover", stops=True)
    except DrError as trouble:
        sys.stderr.write(str(trouble))
        sys.exit(trouble.exit_code)
