"""The sites have lost each other and the witness is dead too: without a proof nothing is promoted unless people sign
the danger by its name; and never do two sites write, as the user outside has seen it."""

from __future__ import annotations

import pytest
from moved import acted, approved, lost, planned, primary, seen, standing_still, steps
from test_changes import home as home  # noqa: PLC0414 -- fixtures
from test_changes import raised as raised  # noqa: PLC0414
from test_changes import world as world  # noqa: PLC0414
from troubled import dr, until

from deployments.lab import breaking, observer
from deployments.lab.postgres import leash
from deployments.lab.world import World
from tasks.home import Home
from tasks.journal import read_records

pytestmark = [pytest.mark.lab, pytest.mark.slow]


def in_two(world: World, how: str) -> None:
    """East alone on one side, with users that still reach it; west and whoever operates on the other; no witness."""
    for path in ("east-west", "engine-east"):
        lost(world, f"network:{path}", how)
    lost(world, "witness", "kill" if how == "cut" else "blackhole")


@pytest.mark.parametrize("how", ["cut", "blackhole"])
def test_without_a_proof_it_is_refused_in_words_and_with_the_danger_signed_it_goes_on(
    world: World, home: Home, how: str
) -> None:
    in_two(world, how)
    made = planned(home, "failover", "west")
    classes = {each.klass for each in made.hazards}
    assert {"split-brain", "ledger-degraded"} <= classes
    others = sorted(classes - {"split-brain"})
    words = [word for each in others for word in ("--accept", each)]
    said = dr(home.folder, "approve", made.plan.digest, "--as", "ann", *words)
    assert (said.code, "not accepted: split-brain" in said.err) == (4, True), said.err
    plan = approved(home, made, accept=others)  # as one whose machine shows less might sign

    said = dr(home.folder, "act", plan.digest)
    assert said.code == 4, said.err
    assert "split-brain" in said.err
    assert "hint: " in said.err
    assert f"dr approve {plan.digest[:12]}" in said.err
    assert read_records(home.ledger(), plan.run) == (), "refused before anything was touched"
    assert any("split-brain" in why for why in refusals(home, plan.digest)), "the refusal is evidence"

    # The user outside reached the east until its leash ended it: nobody had confirmed it for the length of its lease.
    until(lambda: (state := leash.state(world, "east")) is not None and state.state != "running")
    assert observer.look(world)["two_writers"] == []

    approved(home, made, person="bob")
    told = standing_still(home, plan)
    assert told.stopped is not None
    assert (told.stopped.step, "no fence is proved" in told.stopped.why) == ("drain", True), told.stopped
    fence = next(
        each for each in read_records(home.ledger(), plan.run)
        if each.kind == "step.ended" and each.facts["step"] == "fence"
    )  # fmt: skip
    assert fence.facts["result"]["by"] == "hazard"  # type: ignore[index,call-overload]
    assert steps(home, plan).index(("step.ended", "fence")) < steps(home, plan).index(("step.begun", "promote"))
    assert told.lost_commits == "unproven"
    seen(world, "west")

    breaking.end(world)
    assert primary(world)[0] == "west", "the east hears of the new term and stays stopped"
    retried = dr(home.folder, "run", "retry", plan.digest[:12], "drain", "--as", "ann", "--json")
    assert retried.code == 0, retried.err
    told = acted(home, plan)
    assert told.outcome == "met", told
    assert observer.look(world)["two_writers"] == []


def refusals(home: Home, digest: str) -> list[str]:
    """Why this plan was refused so far, by the records that each refusal left."""
    ledger = home.ledger()
    runs = {key.split("/")[1] for key in ledger.list("runs/")}
    first = [records[0] for run in runs if (records := read_records(ledger, run))]
    return [str(each.facts["why"]) for each in first if each.kind == "refusal" and each.facts["plan"] == digest]
