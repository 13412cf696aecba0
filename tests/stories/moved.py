"""What the stories of changed roles share: a whole lab with a user outside, plans as people make them, and what must be
true when a change has ended, however it was interrupted."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg

from deployments.lab import breaking, faults, observer
from deployments.lab.claimed import outage_of
from deployments.lab.process import wait_until
from deployments.lab.world import World, down, up
from recovery.accepting import acceptances, limits_of
from recovery.evidence import Record
from recovery.failover import Proposal
from recovery.journal import ENDED
from recovery.outcome import Changed
from recovery.plan import NothingToDo, Plan
from tasks import approving, changing
from tasks.engine import Act
from tasks.evidence import verify
from tasks.home import Home, open_home
from tasks.journal import read_records
from tasks.observing import changes, observe
from tasks.postgres.roles import witness

DB, SERVICE = "orders-db", "platform"
ROOT = Path(__file__).resolve().parents[2]
KILLED = -9


@contextmanager
def lab(folder: Path, *, standbys: int = 1) -> Iterator[World]:
    """A whole lab with its names, its platform and the observer."""
    try:
        world = up(folder, standbys=standbys)
        observer.begin(world)
        seen(world, "east")
        yield world
    finally:
        down(folder, wipe=True)
        shutil.rmtree(folder, ignore_errors=True)


def home_of(world: World) -> Home:
    return open_home(world.home)


def another_home(world: World, folder: Path) -> Home:
    """Another machine's home: the catalog and the keys, nothing else."""
    folder.mkdir(exist_ok=True)
    shutil.copy(world.home / "catalog.yaml", folder)
    shutil.copytree(world.home / "keys", folder / "keys", dirs_exist_ok=True)
    return open_home(folder)


def planned(home: Home, runbook: str, to: str, **more: Any) -> Proposal:
    made = changing.plan(home, runbook, to=to, **more)
    assert not isinstance(made, NothingToDo), made.why
    return made


def approved(home: Home, made: Proposal, person: str = "ann", accept: Sequence[str] = ("all",)) -> Plan:
    accepted = acceptances(accept, made.hazards, limits_of(made.plan)) if made.hazards else ()
    approving.approve(home, made.plan, who=person, accepted=accepted, lasts=timedelta(hours=1))
    return made.plan


def acted(home: Home, plan: Plan) -> Changed:
    told = changing.act(Act(home=home), plan)
    assert told.stopped is None, told.stopped
    return told


def standing_still(home: Home, plan: Plan) -> Changed:
    """Act on a plan that will not come to its end."""
    return changing.act(Act(home=home), plan)


def moved(home: Home, runbook: str, to: str, **more: Any) -> Changed:
    return acted(home, approved(home, planned(home, runbook, to, **more)))


def killed_at(home: Home, plan: Plan, point: str, *, patience_seconds: float = 120) -> Changed | None:
    """Act in a process that dies at that point; None when it died, else the outcome."""
    ran = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("killer.py")), str(home.folder), plan.digest, point],
        cwd=ROOT, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}, capture_output=True, text=True,
        timeout=patience_seconds, check=False,
    )  # fmt: skip
    assert ran.returncode in (0, KILLED), ran.stderr
    return None if ran.returncode else Changed.model_validate(json.loads(ran.stdout))


def lost(world: World, name: str, how: str | None = None) -> None:
    breaking.begin(world, faults.parse(name, how))


def seen(world: World, site: str, count: int = 8) -> None:
    """Wait until the user outside is served by that site."""

    def enough() -> bool:
        tries = [each for session in observer.sessions(world)[-1:] for each in session]
        last = [each.site for each in tries if each.outcome == "acknowledged"][-count:]
        return len(last) == count and set(last) == {site}

    wait_until(enough, what=f"{count} acknowledged writes at {site}", patience_seconds=40, hint="see the observer")


def agents_awake(home: Home) -> None:
    """Every agent answers: those that a story before killed are started again."""
    urls = {each.agent for each in home.resource(DB).members.values() if each.agent}

    def all_there() -> bool:
        try:
            for url in urls:
                urllib.request.urlopen(f"{url}/health", timeout=2).close()
        except OSError:
            return False
        return True

    wait_until(all_there, what="the agents", patience_seconds=60, hint="see the agents' logs")


def answering(world: World, site: str) -> None:
    """Wait until a look at the service sees the primary at that site, as who plans a change waits for it."""
    home = home_of(world)

    def there() -> bool:
        looked = observe(home, "platform").members["orders-db"]
        return [each.site for each in looked if each.role == "primary"] == [site]

    wait_until(there, what=f"the primary at {site} in a look", patience_seconds=20, hint="see 'dr status'")


def outage(world: World, told: Changed) -> float:
    """Seconds of the outage that this change ended, as the user outside saw it."""
    found = outage_of(told, observer.look(world)["outages"])
    return 0.0 if found is None else float(found["seconds"])


def steps(home: Home, plan: Plan) -> list[tuple[str, str]]:
    """(kind, step) of the run's step records, in order."""
    records: tuple[Record, ...] = read_records(home.ledger(), plan.run)
    return [(each.kind, str(each.facts["step"])) for each in records if each.kind.startswith("step.")]


def primary(world: World) -> tuple[str, int]:
    """The one site that takes writes, and its timeline. Fails when there are two; a primary whose leash ended it, since
    nobody confirmed it, starts again once somebody does, which is waited for."""
    found: list[tuple[str, int]] = []

    def one() -> bool:
        found[:] = primaries(world)
        assert len(found) < 2, found
        return len(found) == 1

    wait_until(one, what="a primary", patience_seconds=20, hint="see 'dr status'")
    return found[0]


def primaries(world: World) -> list[tuple[str, int]]:
    """The sites that take writes now, with their timelines."""
    found = []
    for site in ("east", "west"):
        try:
            with psycopg.connect(world.dsn(site), autocommit=True) as sql:
                standby, timeline = sql.execute(
                    "select pg_is_in_recovery(), timeline_id from pg_control_checkpoint()"
                ).fetchone()  # type: ignore[misc]
        except psycopg.OperationalError:
            continue
        if not standby:
            found.append((site, int(timeline)))
    return found


def killed_through(here: Home, other: Home, plan: Plan, point: str, *, most: int) -> tuple[Changed, int]:
    """Acted on in turn from two homes until nobody dies any more: what came of it, and how often somebody died."""
    for turns in range(most):
        if (told := killed_at((here, other)[turns % 2], plan, point)) is not None:
            assert told.stopped is None, (told.stopped, point)
            return told, turns
    raise AssertionError("it dies without end")


def as_if_never_killed(home: Home, world: World, plan: Plan, told: Changed) -> None:
    """The end of a run that was killed again and again: one term, each step ended, and acting again changes nothing."""
    whole(home, world, plan, told)
    terms = witness.terms(home)
    assert terms is not None
    assert (found := terms.read(DB)) is not None
    assert (found.generation, found.turn, found.primary) == (plan.epoch + 1, 0, told.target), "one term, once"
    ended = {str(each.facts["step"]) for each in read_records(home.ledger(), plan.run) if each.kind == ENDED}
    assert ended == {step.id for step in plan.steps if not step.omitted_in(told.mode)}
    assert killed_at(home, plan, "never") == told, "a finished run only reports"


def whole(home: Home, world: World, plan: Plan, told: Changed) -> None:
    """What is true after every change that ended, whatever happened on its way."""
    assert told.outcome == "met", (told.outcome, told.findings)
    order, verbs = steps(home, plan), {step.id: step.verb for step in plan.steps}
    told_of = [(kind, verbs[step]) for kind, step in order]
    if ("step.begun", "promote") in told_of:
        before = told_of[: told_of.index(("step.begun", "promote"))]
        assert ("step.ended", "fence") in before, "promoted before the fence was proved"
    mine = [each for each in changes(home, SERVICE) if each.run == plan.run]
    assert [(each.primary, each.epoch) for each in mine] == [(told.target, plan.epoch + 1)]
    assert primary(world)[0] == told.target
    report = verify(home.ledger(), runs=[plan.run])
    assert not report.troubles
    assert [each.troubles for each in report.runs] == [()]
