"""People's orders to a change of roles in mid-run: switched to ungraceful when the old site dies, cancelled before it
has promoted. One lab; each begins and ends with the service at home."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from moved import DB, acted, another_home, approved, home_of, killed_at, lost, outage, planned, primary, seen, steps
from test_changes import home as home  # noqa: PLC0414 -- fixtures
from test_changes import raised as raised  # noqa: PLC0414
from test_changes import world as world  # noqa: PLC0414
from troubled import Running, dr, until

from deployments.lab import breaking, observer
from deployments.lab.world import World, down, up
from recovery.journal import UNGRACEFUL
from recovery.outcome import Changed
from recovery.plan import Plan
from tasks.evidence import verify
from tasks.home import Home
from tasks.journal import read_records
from tasks.postgres.roles import witness

pytestmark = [pytest.mark.lab, pytest.mark.slow]


@contextmanager
def driven(home: Home, plan: Plan) -> Iterator[Running]:
    """`dr act` underway, until the block ends."""
    running = Running(home.folder, "act", plan.digest, "--json")
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.kill()


def ended(running: Running) -> tuple[int, Changed]:
    said = running.end(120)
    return said.code, Changed.model_validate(said.document)


def recorded(home: Home, plan: Plan, kind: str, step: str) -> None:
    until(lambda: (kind, step) in steps(home, plan))


def ordered(home: Home, plan: Plan, word: str, *more: str) -> None:
    said = dr(home.folder, "run", word, plan.digest[:12], "--as", "ann", "--wait", "20", "--json", *more)
    assert (said.code, said.document["outcome"]) == (0, "taken"), said.err


def told_by(world: World, member: str, query: str) -> object:
    """What a server says; None where it does not answer."""
    try:
        with psycopg.connect(world.dsn(member), autocommit=True) as sql:
            row = sql.execute(query.encode()).fetchone()
    except psycopg.OperationalError:
        return None
    return None if row is None else row[0]


def test_a_switchover_whose_primary_dies_is_switched_to_ungraceful_and_knows_since_when(
    world: World, home: Home
) -> None:
    """The standby replays nothing, so that the demotion is underway for long enough to lose the primary in it."""
    plan = approved(home, planned(home, "switchover", "west"))
    told_by(world, "west", "select pg_wal_replay_pause()")
    with driven(home, plan) as running:
        until(lambda: told_by(world, "east", "show default_transaction_read_only") == "on")
        lost(world, "site:east")
        recorded(home, plan, "step.failed", "demote")
        ordered(home, plan, "ungraceful", "--accept", "all")
        code, told = ended(running)
    assert (code, told.outcome, told.findings, told.mode) == (0, "met", (), "ungraceful")
    order = next(each for each in read_records(home.ledger(), plan.run) if each.kind == UNGRACEFUL)
    assert order.facts["seen"]["outcome"] == "failed"  # type: ignore[index,call-overload]
    seen(world, "west")
    assert told.rto_seconds is not None
    assert told.rto_seconds > outage(world, told) - 1.0, "never told better than it was"
    assert sum(float(each) for each in told.rto_segments.values()) == pytest.approx(told.rto_seconds)
    assert primary(world)[0] == "west"
    assert not verify(home.ledger(), runs=[plan.run]).troubles


def test_a_failover_that_is_cancelled_before_its_promotion_gives_the_role_back_and_users_write_again(
    world: World, home: Home
) -> None:
    """The platform of the west sleeps, so that the run has fenced and does not get on; all was a false alarm."""
    lost(world, "app:east")
    lost(world, "app:west", "stop")
    plan = approved(home, planned(home, "failover", "west"))
    with driven(home, plan) as running:
        recorded(home, plan, "step.ended", "fence")
        assert told_by(world, "east", "select true") is None, "it is fenced"
        ordered(home, plan, "cancel", "--why", "a false alarm")
        code, told = ended(running)
    assert (code, told.outcome) == (1, "cancelled")
    assert "east is the primary of orders-db again" in told.findings
    assert ("step.begun", "promote") not in steps(home, plan)
    terms = witness.terms(home)
    assert terms is not None
    assert (found := terms.read(DB)) is not None
    assert (found.primary, found.turn) == ("east", 1)
    assert primary(world)[0] == "east"
    breaking.end(world)
    seen(world, "east")
    assert observer.look(world)["two_writers"] == []


def test_a_switchover_that_is_cancelled_while_it_demotes_lets_users_write_again(world: World, home: Home) -> None:
    plan = approved(home, planned(home, "switchover", "west"))
    told_by(world, "west", "select pg_wal_replay_pause()")
    try:
        with driven(home, plan) as running:
            until(lambda: told_by(world, "east", "show default_transaction_read_only") == "on")
            ordered(home, plan, "cancel")
            code, told = ended(running)
    finally:
        told_by(world, "west", "select pg_wal_replay_resume()")
    assert (code, told.outcome) == (1, "cancelled")
    assert primary(world)[0] == "east"
    assert told_by(world, "east", "show default_transaction_read_only") == "off"
    seen(world, "east")


def test_where_the_old_machine_is_lost_for_good_people_go_on_and_the_cancelled_run_comes_to_its_end(
    world: World, home: Home
) -> None:
    """Nobody can order the old primary to start again: the run stays open until another one has changed the roles."""
    lost(world, "app:east")
    plan = approved(home, planned(home, "failover", "west"))
    assert killed_at(home, plan, "fence:ended") is None
    lost(world, "site:east")
    assert dr(home.folder, "run", "cancel", plan.digest[:12], "--as", "ann", "--json").code == 0
    said = dr(home.folder, "act", plan.digest)
    assert said.code == 1, said.err
    assert "where that machine is lost for good, go on to west with a new plan" in said.err
    made = planned(home, "failover", "west")
    assert "unfinished-run" in {each.klass for each in made.hazards}
    other = acted(home, approved(home, made))
    assert primary(world)[0] == "west"
    told = dr(home.folder, "act", plan.digest, "--json")
    assert (told.code, told.document["outcome"]) == (1, "cancelled"), told.err
    assert f"have changed since (epoch {plan.epoch + 1})" in told.document["findings"][-1]
    assert primary(world)[0] == "west"
    report = verify(home.ledger(), runs=[plan.run, other.run])
    assert [each.troubles for each in report.runs] == [(), ()]


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[World]:
    """A lab without the platform and without names: databases, objects, agents, a witness."""
    try:
        yield up(tmp_path / "bare", without=frozenset({"app", "aws"}))
    finally:
        down(tmp_path / "bare", wipe=True)


def test_where_no_platform_runs_a_killed_run_that_is_cancelled_from_elsewhere_gives_the_role_back_too(
    bare: World, tmp_path: Path
) -> None:
    here, other = home_of(bare), another_home(bare, tmp_path / "other")
    plan = approved(here, planned(here, "failover", "west"))
    assert killed_at(here, plan, "fence:ended") is None
    assert told_by(bare, "east", "select true") is None, "it is fenced"
    said = dr(other.folder, "run", "cancel", plan.digest[:12], "--as", "ann", "--json")
    assert (said.code, said.document["outcome"]) == (0, "stored"), said.err
    said = dr(other.folder, "act", plan.digest, "--json")
    assert (said.code, said.document["outcome"]) == (1, "cancelled"), said.err
    assert "east is the primary of orders-db again" in said.document["findings"]
    assert primary(bare) == ("east", 1)
    assert told_by(bare, "west", "select pg_is_in_recovery()") is True
    again = dr(here.folder, "act", plan.digest, "--json")
    assert (again.code, again.document) == (said.code, said.document), "an ended run only reports"
