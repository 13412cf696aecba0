"""`make storm`: the daily proof again and again while heavy writes and DDL run: a clean database gives no finding.

Prints the distribution of RTO, RPO and the phases. `--proofs 100` is the promise of the issue; fewer is a sample.
"""

from __future__ import annotations

import argparse
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg
from rich.console import Console
from rich.markup import escape

from deployments.lab.demo import patiently
from deployments.lab.planted import RESOURCE, prepared
from recovery.errors import DrError
from recovery.measure import percentile

if TYPE_CHECKING:
    from recovery.proof import Proof
    from tasks.home import Home

DDL = (
    "create table if not exists storm_{n} (id bigint generated always as identity primary key, v text)",
    "insert into storm_{n} (v) select md5(g::text) from generate_series(1, 2000) g",
    "create index on storm_{n} (v)",
    "alter table storm_{n} add column if not exists w int default 7",
    "update storm_{n} set v = v || 'x' where id % 3 = 0",
    "delete from storm_{n} where id % 5 = 0",
    "drop table storm_{n}",
)


@contextmanager
def weather(dsn: str) -> Iterator[None]:
    """Heavy writes and DDL in the background until the block ends."""
    stop = threading.Event()

    def blow() -> None:
        with psycopg.connect(dsn, autocommit=True) as connection:
            number = 0
            while not stop.is_set():
                for statement in DDL:
                    connection.execute(statement.format(n=number % 5).encode())
                    stop.wait(0.05)
                number += 1

    thread = threading.Thread(target=blow, name="weather")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)


def proofs(home: Home, count: int, console: Console) -> list[Proof]:
    """`count` daily proofs, alternately to a fresh mark and to the latest moment."""
    from tasks import backing, proving
    from tasks.engine import Act

    made: list[Proof] = []
    for number in range(count):
        sort: proving.Sort = "mark" if number % 2 == 0 else "latest"
        wanted = proving.Wanted(resource=RESOURCE, sort=sort)
        if number and number % 10 == 0:
            incremental(home)
        if sort == "mark":
            _, _, lsn = backing.take_mark(home, RESOURCE)
            patiently(lambda: _reaches(home, wanted, lsn), patience_seconds=60)  # noqa: B023 -- called at once
        made.append(proving.prove(Act(home=home), wanted))
        last = made[-1]
        console.print(f"[dim]{number + 1}/{count}[/] {sort}: {last.verdict.value}, RTO {last.rto_seconds:.1f} s")
        for line in why_not_met(last):  # at once: the lab is gone when the storm ends or is stopped
            console.print(escape(line))
    return made


def incremental(home: Home) -> None:
    """What the hourly schedule does: a proof then replays an hour of WAL, not all since the full."""
    from recovery.plan import Plan
    from tasks import backing
    from tasks.engine import Act

    plan = backing.plan_backup(home, RESOURCE, "incremental")
    if isinstance(plan, Plan):
        backing.take(Act(home=home), plan)


def _reaches(home: Home, wanted: object, lsn: int) -> None:
    from recovery.errors import NoPoint
    from tasks import proving

    assert isinstance(wanted, proving.Wanted)  # noqa: S101 -- narrows the argument
    plan = proving.plan_proof(home, wanted)
    if plan.pinned["mark"] is None or not str(plan.pinned["mark"]).endswith(f"/{lsn}"):
        raise NoPoint("the newest mark is not archived yet", hint="wait")


def told(made: Sequence[Proof]) -> list[str]:
    """The distribution, and every finding."""
    lines = []
    for name, values in (
        ("RTO", [each.rto_seconds for each in made]),
        ("RPO", [each.rpo_seconds for each in made if each.rpo_seconds is not None]),
    ):
        p50, p95 = percentile(values, 0.5), percentile(values, 0.95)
        if p50 is not None and p95 is not None:
            lines.append(f"{name}: min {min(values):.2f}  p50 {p50:.2f}  p95 {p95:.2f}  max {max(values):.2f} s")
    bad = [each for each in made if each.verdict.value != "met"]
    lines.append(f"{len(made)} proofs, {len(made) - len(bad)} met, {sum(len(each.findings) for each in made)} findings")
    return lines + [line for each in made for line in why_not_met(each)]


def why_not_met(proof: Proof) -> list[str]:
    """Each check that kept a proof from being met, with its findings; one that is only unproven has none."""
    if proof.verdict.value == "met":
        return []
    told_of = [each for each in proof.checks if each.applies and each.outcome.value in ("failed", "unproven")]
    name = f"  • {proof.sort} {proof.run[:8]}"
    lines = [f"{name}: {each.name} {each.outcome.value}: {each.fact}" for each in told_of]
    return lines + [f"{name}: {finding.fact}" for finding in proof.findings]


def main() -> int:
    """The command line of `make storm`."""
    words = argparse.ArgumentParser(prog="make storm", description=__doc__)
    words.add_argument("--proofs", type=int, default=100)
    given = words.parse_args()
    console = Console(highlight=False)
    try:
        with prepared() as home, weather(home.resource(RESOURCE).members["east"].dsn):
            made = proofs(home, given.proofs, console)
    except DrError as trouble:
        sys.stderr.write(f"error: {trouble.fact}\nhint: {trouble.hint}\n")
        return trouble.exit_code
    for line in told(made):
        console.print(escape(line))
    return 0 if all(each.verdict.value == "met" for each in made) else 1


if __name__ == "__main__":
    sys.exit(main())
