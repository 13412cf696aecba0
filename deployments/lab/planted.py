"""`make faults`: every planted fault on a lab of its own, and the table of which were detected; then clean proofs.

A fault counts as detected only when a finding names what was planted (TRUTH.md). Exit 1 when one is missed, or when a
clean proof raises an alarm.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from recovery.errors import DrError

if TYPE_CHECKING:
    from recovery.proof import Proof
    from tasks.home import Home

RESOURCE = "orders-db"


@dataclass(frozen=True, kw_only=True, slots=True)
class Tried:
    """One fault and what became of it."""

    name: str
    seconds: float
    detected: bool
    what: str
    finding: str


@contextmanager
def prepared(*, rate: float = 20.0) -> Iterator[Home]:
    """A lab in a fresh folder, under load, with a full backup, an incremental, and a mark that can be restored to."""
    from deployments.lab import load, world
    from deployments.lab.demo import patiently
    from recovery.plan import Plan
    from tasks import backing, proving
    from tasks.engine import Act
    from tasks.home import open_home

    folder = Path(tempfile.mkdtemp(prefix="standfast-"))
    raised = world.up(folder)
    try:
        load.begin(raised, rate=rate, seed=1)
        home = open_home(folder)
        for which in ("full", "incremental"):
            plan = backing.plan_backup(home, RESOURCE, which)
            if isinstance(plan, Plan):
                backing.take(Act(home=home), plan)
        backing.take_mark(home, RESOURCE)
        patiently(lambda: proving.plan_proof(home, proving.Wanted(resource=RESOURCE, sort="mark")), patience_seconds=60)
        yield home
    finally:
        load.end(raised)
        world.down(folder, wipe=True)
        shutil.rmtree(folder, ignore_errors=True)


def plant(home: Home, name: str) -> Tried:
    """One fault in an extra restore."""
    from tasks import proving
    from tasks.engine import Act

    begun = time.monotonic()
    proof: Proof = proving.prove(Act(home=home), proving.Wanted(resource=RESOURCE, sort="mark", mutate=name))
    planted = proof.planted
    return Tried(
        name=name,
        seconds=time.monotonic() - begun,
        detected=planted is not None and planted.detected and not proof.leftovers,
        what=planted.what if planted is not None else "nothing was planted",
        finding=proof.findings[0].fact if proof.findings else "none",
    )


def drawn(tried: Sequence[Tried]) -> Table:
    """The table for people."""
    table = Table(box=None, padding=(0, 1))
    table.add_column("fault", no_wrap=True)
    table.add_column("detected", no_wrap=True)
    table.add_column("s", no_wrap=True, justify="right")
    table.add_column("first finding", no_wrap=True, overflow="ellipsis")
    for each in tried:
        word = "[green]yes[/]" if each.detected else "[red]NO[/]"
        table.add_row(each.name, word, f"{each.seconds:.1f}", escape(each.finding if each.detected else each.what))
    return table


def main() -> int:
    """The command line of `make faults`."""
    from tasks.postgres.faults import catalogue

    words = argparse.ArgumentParser(prog="make faults", description=__doc__)
    words.add_argument("names", nargs="*", help="faults; all when none is named")
    words.add_argument("--clean", type=int, default=3, help="proofs without a fault afterwards")
    given = words.parse_args()
    console = Console(highlight=False)
    try:
        with prepared() as home:
            names = given.names or catalogue.names()
            tried = []
            for number, name in enumerate(names, start=1):
                tried.append(plant(home, name))
                console.print(f"[dim]{number}/{len(names)}[/] {name}: {'detected' if tried[-1].detected else 'MISSED'}")
            alarms = clean(home, given.clean)
    except DrError as trouble:
        sys.stderr.write(f"error: {trouble.fact}\nhint: {trouble.hint}\n")
        return trouble.exit_code
    console.print(drawn(tried))
    found = sum(each.detected for each in tried)
    console.print(f"{found} of {len(tried)} detected; {len(alarms)} false alarms in {given.clean} clean proofs")
    for alarm in alarms:
        console.print(f"  [red]•[/] {escape(alarm)}")
    return 0 if found == len(tried) and not alarms else 1


def clean(home: Home, count: int) -> list[str]:
    """Proofs of the newest mark without a fault: each finding is a false alarm."""
    from tasks import proving
    from tasks.engine import Act

    alarms: list[str] = []
    for _ in range(count):
        proof = proving.prove(Act(home=home), proving.Wanted(resource=RESOURCE, sort="mark"))
        alarms += [finding.fact for finding in proof.findings]
        if proof.verdict.value != "met" and not proof.findings:
            alarms.append(f"the verdict is {proof.verdict.value}")
    return alarms


if __name__ == "__main__":
    sys.exit(main())
