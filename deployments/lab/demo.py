"""`make demo`: the main job on the embedded lab, from nothing to claimed against observed, in under two minutes.

Two sites come up under load; backups and WAL flow to S3 at both; a restore to an exact moment is proven on a real
Postgres as a Prefect flow run; a planted fault is caught; RPO and RTO are measured. Then the east is lost whole and the
west takes over by an approved plan, before the eyes of a user outside, and all go home again. Every number that it
prints is read back from the evidence, or from that user's journal.
"""

from __future__ import annotations

import argparse
import fcntl
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console
from rich.markup import escape

from deployments.cli.progress import watching
from deployments.lab import demo_failover
from recovery.errors import DrError, Failed

if TYPE_CHECKING:
    from deployments.lab.world import World
    from recovery.proof import Proof
    from tasks.home import Home

RESOURCE = "orders-db"
RATE = 20.0
MOST_HOMES = 8
T = TypeVar("T")


class Demo:
    """One demonstration in one home."""

    def __init__(self, folder: Path, console: Console) -> None:
        self.folder = folder
        self.console = console
        self.begun = time.monotonic()

    def say(self, text: str) -> None:
        """A line with the seconds since the beginning."""
        self.console.print(f"[dim]{time.monotonic() - self.begun:6.1f} s[/]  {text}")

    def act(self) -> int:
        """Everything in order; gives the exit code."""
        with ExitStack() as stack, ExitStack() as prefect:
            server = prefect.enter_context(_prefect(self.folder))
            world = stack.enter_context(self._lab())
            home = self._opened()
            self._back_up(home)
            moment = self._moment(home)
            proofs = self._prove(home, server, moment)
            prefect.close()  # what follows has no need of it, and a real loss may take it along
            caught = self._plant(home)
            moved = demo_failover.there_and_home(world, home, self.say)
            self._tell(home, proofs, moved)
            well = caught.planted and caught.planted.detected and _all_met(proofs)
            return 0 if well and all(each.changed.outcome == "met" for each in moved) else 1

    @contextmanager
    def _lab(self) -> Iterator[World]:
        from deployments.lab import load, world

        self.say("two sites, a witness, S3, Postgres 18 with a standby, agents and proxies …")
        raised = world.up(self.folder)
        try:
            load.begin(raised, rate=RATE, seed=1)
            self.say(f"[bold]the lab is up[/] and under load ({RATE:g} acknowledged rows/s)")
            yield raised
        finally:
            load.end(raised)
            world.down(self.folder)
            self.say("the lab is down; its home stays for a look")

    def _opened(self) -> Home:
        from tasks.home import open_home

        return open_home(self.folder)

    def _back_up(self, home: Home) -> None:
        from recovery.plan import Plan
        from tasks import backing
        from tasks.engine import Act

        for which in ("full", "incremental"):
            with watching(f"backup {RESOURCE} · {which}") as tell:
                plan = backing.plan_backup(home, RESOURCE, which)
                if not isinstance(plan, Plan):
                    raise Failed(f"no {which} backup was planned: {plan.why}", hint="report this as a defect")
                taken = backing.take(Act(home=home, tell=tell), plan)
            stored = f"{taken.size_bytes / 1e6:.0f} MB, stored {taken.stored_bytes / 1e6:.1f} MB"
            self.say(f"[bold]{taken.id}[/] at {taken.site}: {stored} in {taken.seconds:.1f} s")
        _, timeline, lsn = backing.take_mark(home, RESOURCE)
        self.say(f"a mark of the standby's content at LSN {lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}, timeline {timeline}")

    def _moment(self, home: Home) -> datetime:
        """A moment with commits on both sides, once the archive at the recovery site reaches beyond it and the mark.

        It lies in the future by as much as clocks may disagree: the backups ended just now, and on a quick machine a
        moment of now would be too close behind all of them for any to be trusted.
        """
        from recovery.choose import CLOCK_BOUND
        from tasks import proving

        moment = home.now() + CLOCK_BOUND
        wanted = (
            proving.Wanted(resource=RESOURCE, sort="time", at=moment),
            proving.Wanted(resource=RESOURCE, sort="mark"),
        )
        self.say(f"a moment to come back to: {moment:%H:%M:%S.%f} UTC; waiting for it, and for its WAL in the west …")
        patiently(lambda: [proving.plan_proof(home, each) for each in wanted], patience_seconds=40)
        return moment

    def _prove(self, home: Home, server: Callable[[], str] | None, moment: datetime) -> list[Proof]:
        from tasks import proving
        from tasks.engine import Act

        wanted = proving.Wanted(resource=RESOURCE, sort="time", at=moment)
        with watching(f"prove {RESOURCE} · the exact moment") as tell:
            proofs = [proving.prove(Act(home=home, tell=tell), wanted)]
        if server is None:
            for sort in ("mark", "latest"):
                with watching(f"prove {RESOURCE} · {sort}") as tell:
                    proofs.append(
                        proving.prove(Act(home=home, tell=tell), proving.Wanted(resource=RESOURCE, sort=sort))
                    )
        else:
            from deployments.serve import run_prove_flow

            self.say("the daily proof (newest mark, latest moment) as a Prefect flow run …")
            proofs += run_prove_flow(self.folder, server(), resources=[RESOURCE], say=self.say)
        for proof in proofs:
            self.say(_verdict_line(proof))
        return proofs

    def _plant(self, home: Home) -> Proof:
        from secrets import SystemRandom

        from tasks import proving
        from tasks.engine import Act
        from tasks.postgres.faults import catalogue

        fault = SystemRandom().choice(catalogue.names())
        self.say(f"the proof's own test: [bold]{fault}[/] is planted in an extra restore …")
        with watching(f"prove {RESOURCE} · {fault}") as tell:
            proof = proving.prove(
                Act(home=home, tell=tell), proving.Wanted(resource=RESOURCE, sort="mark", mutate=fault)
            )
        planted = proof.planted
        if planted is not None:
            word = "[green]caught[/]" if planted.detected else "[red]not caught[/]"
            self.say(f"{word}: {escape(planted.what)}")
        return proof

    def _tell(self, home: Home, proofs: list[Proof], moved: tuple[demo_failover.Told, ...]) -> None:
        from tasks.evidence import verify

        report = verify(home.ledger(), trusted=None)
        troubles = len(report.troubles)
        self.say(f"evidence: {len(report.runs)} runs, {troubles} troubles, in {escape(home.ledger().place)}")
        self.say(f"report: {escape(str(_report(home)))}")
        rpo = [each.rpo_seconds for each in proofs if each.rpo_seconds is not None]
        rto = [each.rto_seconds for each in proofs if each.rto_seconds]
        self.console.print()
        proven = "RPO {} (objective 900 s), RTO {} (objective 1800 s)"
        figures = (f"{max(each):.2f} s" if each else "unproven" for each in (rpo, rto))
        self.console.print(f"  [bold]proven by restores[/]: {proven.format(*figures)}\n")
        demo_failover.show(moved, self.console)
        self.console.print()
        where = escape(shlex.quote(str(home.folder)))
        self.console.print(f"  look around: . .venv/bin/activate; export DR_HOME={where}")
        self.console.print("               dr lab up; dr status; dr points\n")


def _verdict_line(proof: Proof) -> str:
    colour = {"met": "green", "missed": "red"}.get(proof.verdict.value, "yellow")
    passed = sum(check.outcome.value == "passed" for check in proof.checks)
    rpo = "" if proof.rpo_seconds is None else f", RPO {proof.rpo_seconds:.2f} s"
    told = f"[{colour}]{proof.verdict.value}[/] {proof.sort}: {escape(proof.target)}"
    why = "".join(f"\n          [red]•[/] {escape(each.fact)}" for each in proof.findings[:3])
    return f"{told}; {passed} of {len(proof.checks)} checks passed, RTO {proof.rto_seconds:.2f} s{rpo}{why}"


def _all_met(proofs: list[Proof]) -> bool:
    return all(each.verdict.value == "met" for each in proofs)


def patiently(look: Callable[[], T], *, patience_seconds: float) -> T:
    """Look again with back-off until it works. Raises what the last look said once the patience is over."""
    end, pause = time.monotonic() + patience_seconds, 0.1
    while True:
        try:
            return look()
        except DrError:
            if time.monotonic() > end:
                raise
        time.sleep(pause)
        pause = min(pause * 1.5, 1.0)


@contextmanager
def _prefect(folder: Path) -> Iterator[Callable[[], str] | None]:
    """A Prefect server that starts while the lab does; gives a call that waits for its API's address."""
    from deployments.serve import server

    with server(folder) as ready:
        yield ready


def _report(home: Home) -> Path:
    from deployments.cli.report import gathered, write

    page = home.folder / "report.html"
    write(page, *gathered(home, home.folder))
    return page


@contextmanager
def _free_home(root: Path) -> Iterator[Path]:
    """The first demonstration home that nobody uses now, emptied of the last demonstration."""
    root.mkdir(parents=True, exist_ok=True)
    for number in range(1, MOST_HOMES + 1):
        folder = root / ("demo" if number == 1 else f"demo-{number}")
        with (root / f"{folder.name}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            _empty(folder)
            yield folder
            return
    raise Failed(
        f"{MOST_HOMES} demonstrations run already in {root}", hint="name another folder: make demo ARGS='--home DIR'"
    )


def _empty(folder: Path) -> None:
    from deployments.lab import world

    if (folder / "lab" / "world.json").exists():
        world.down(folder, wipe=True)
    shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    """The command line of the demonstration."""
    words = argparse.ArgumentParser(prog="make demo", description=__doc__)
    words.add_argument("--home", type=Path, default=Path(".home"), help="where the demonstration's homes are made")
    given = words.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    try:
        with _free_home(given.home.absolute()) as folder:
            return Demo(folder, console).act()
    except DrError as trouble:
        sys.stderr.write(f"error: {trouble.fact}\nhint: {trouble.hint}\n")
        return trouble.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("stopped by Ctrl-C; the lab is down\n")
        return 130


if __name__ == "__main__":
    sys.exit(main())
