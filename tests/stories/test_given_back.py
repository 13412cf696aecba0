"""A failover that is given up after its fence: the old primary writes again, and nobody else did meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import psycopg
import pytest
from test_fenced import Acted, agent_of, eventually, held, is_in, taken
from test_fenced import world as world  # noqa: PLC0414 -- the fixture: east is the primary before and after

from deployments.lab import breaking, faults
from deployments.lab.postgres import part
from deployments.lab.world import World
from recovery.drive import History, Tried
from recovery.errors import Failed, Refused
from recovery.term import Term
from tasks.home import open_home
from tasks.kind import Facts
from tasks.postgres.roles import servers, witness
from tasks.postgres.roles.giving_back import give_back
from tasks.postgres.terms import WitnessTerms

pytestmark = [pytest.mark.lab, pytest.mark.slow]
DB = "orders-db"
CUT_OFF = History(steps={"fence": Tried(begun=1, cut_off=1)})
BEGUN = History(steps={"fence": Tried(begun=1, ended=1)})


def given_back(run: Acted, told: History = BEGUN, *, changed: bool = False) -> Facts:
    return give_back(run.stage, DB, told, changed=changed)


def writes(world: World, site: str) -> bool:
    try:
        with psycopg.connect(world.dsn(site), autocommit=True) as sql:
            sql.execute("insert into standfast.beat default values")
    except psycopg.Error:
        return False
    return True


@pytest.fixture
def both_ever(world: World) -> Iterator[list[str]]:
    """Sites that took a write while the other one would have, asked all the while."""
    found: list[str] = []
    stop = threading.Event()

    def watch() -> None:
        members = open_home(world.home).resource(DB).members
        while not stop.wait(0.05):
            open_ = servers.primaries(servers.ask_all(members.items(), patience_seconds=1.0))
            if len(open_) > 1:
                found.append(" and ".join(each.member for each in open_))

    watching = threading.Thread(target=watch)
    watching.start()
    yield found
    stop.set()
    watching.join(20)


def test_cancelled_after_the_fence_the_old_primary_writes_again(world: World, both_ever: list[str]) -> None:
    run = Acted(world)
    run.perform()
    assert not writes(world, "east")
    facts = given_back(run)
    assert facts["writes"] == "east", facts
    assert facts["started"] == {"east": "running"}
    assert writes(world, "east")
    terms = witness.terms(run.stage.home)
    assert terms is not None
    found = terms.read(DB)
    assert found is not None
    assert (found.generation, found.turn, found.primary) == (run.stage.term, 1, "east")
    assert given_back(run) == {}, "again there is nothing to undo"
    run.perform()  # the same epoch, another change of mind: it is fenced again
    is_in(world, "east", "held")
    assert given_back(run)["writes"] == "east"
    assert both_ever == []


def test_once_a_promotion_has_begun_nothing_is_given_back_and_it_is_said_what_can_be_done(world: World) -> None:
    run = Acted(world)
    run.perform()
    promote = run.step.but(id="promote", verb="promote", arguments={})
    run.stage = replace(run.stage, plan=run.stage.plan.but(steps=(*run.stage.plan.steps, promote)))
    told = History(steps={**BEGUN.steps, "promote": Tried(begun=1, failed=1)})
    kept = str(given_back(run, told)["kept"])
    assert "had begun" in kept
    assert "dr plan" in kept
    assert "have changed since" in str(given_back(run, changed=True)["kept"])
    is_in(world, "east", "held")
    assert held(world)


def test_with_the_other_site_lost_its_lease_has_to_lapse_first(world: World, both_ever: list[str]) -> None:
    run = Acted(world)
    run.perform()
    breaking.begin(world, faults.parse("site:west", "kill"))
    facts = given_back(run)
    assert facts["writes"] == "east", facts
    assert facts["posted"]["witness"] == "written"  # type: ignore[index,call-overload]
    assert writes(world, "east")
    breaking.end(world)
    part.start(world, "west")
    assert both_ever == []


def test_with_the_witness_lost_the_agents_word_is_enough(world: World) -> None:
    run = Acted(world)
    run.perform()
    breaking.begin(world, faults.parse("witness", "kill"))
    facts = given_back(run)
    assert facts["writes"] == "east", facts
    assert facts["posted"]["west"] == "accepted"  # type: ignore[index,call-overload]
    breaking.end(world)
    terms = witness.terms(run.stage.home)
    assert terms is not None

    def carried() -> bool:
        try:
            found = terms.read(DB)
        except Failed:  # behind its restart its volumes register one by one
            return False
        return found is not None and found.primary == "east"

    eventually(carried, "the agents' term at the witness")
    assert writes(world, "east")


def test_while_the_old_primarys_agent_is_silent_the_run_stays_open_and_acting_again_starts_it(world: World) -> None:
    run = Acted(world)
    run.perform()
    breaking.begin(world, faults.parse("agent:east", "stop"))
    with pytest.raises(Failed, match="nobody could order it to start: the agent of east is silent") as trouble:
        given_back(run)
    assert "dr act" in trouble.value.hint
    assert not writes(world, "east")
    breaking.end(world)
    assert given_back(run)["started"] == {"east": "running"}
    assert writes(world, "east")
    assert given_back(run) == {}


def test_an_engine_that_slept_in_its_fence_stops_nothing_once_another_has_given_the_role_back(world: World) -> None:
    """It woke between its check of the lease and the effects: witness and agents know a newer generation."""
    slept = Acted(world)
    now = taken(slept.stage.home)
    taken_up = replace(slept.stage, generation=lambda: now)
    facts = give_back(taken_up, DB, CUT_OFF, changed=False)
    assert (facts["writes"], facts["started"]) == ("east", {}), "it served all the while: only the term was written"
    assert give_back(taken_up, DB, CUT_OFF, changed=False) == {}
    with pytest.raises(Refused, match=r"made east its primary"):
        slept.perform()
    for site in ("east", "west"):
        agent = agent_of(world, site, slept.stage.generation())
        with pytest.raises(Refused, match="another engine has ordered under generation"):
            agent.order(
                "slept-1", "stop" if site == "east" else "term", resource=DB, site=site, generation=slept.stage.term,
                run=slept.stage.plan.run, patience_seconds=5.0,
            )  # fmt: skip
    is_in(world, "east", "running")
    assert writes(world, "east")


def test_with_the_witness_silent_what_an_engine_that_slept_posts_there_later_does_not_last(world: World) -> None:
    slept = Acted(world)
    now = taken(slept.stage.home)
    breaking.begin(world, faults.parse("witness", "kill"))
    facts = give_back(replace(slept.stage, generation=lambda: now), DB, CUT_OFF, changed=False)
    assert facts["writes"] == "east", facts
    breaking.end(world)
    terms = witness.terms(slept.stage.home)
    assert terms is not None

    def posted() -> bool:
        try:
            terms.write(late)
        except (Failed, Refused):
            return False
        return True

    late = Term(
        resource=DB, generation=slept.stage.term, primary="west", run=slept.stage.plan.run,
        lease=slept.stage.generation(), at=datetime.now(UTC),
    )  # fmt: skip
    eventually(lambda: posted() or stands(terms) == "east", "either of the two at the witness")
    eventually(lambda: stands(terms) == "east", "the agents' term at the witness")
    eventually(lambda: writes(world, "east"), "the east writes")


def stands(terms: WitnessTerms) -> str:
    try:
        found = terms.read(DB)
    except Failed:
        return ""
    return "" if found is None else found.primary
