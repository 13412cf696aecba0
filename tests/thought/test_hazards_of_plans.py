"""Hazards are computed from the plan and what is seen, each with its figure; what isn't known is a class of its own."""

from __future__ import annotations

import pytest

from recovery.failover import Asked, Proposal, propose, rpo_seconds
from recovery.hazard import Acceptance, Hazard, uncovered
from recovery.hazards import hazards, loss_seconds, words
from recovery.observation import DnsSeen, FenceSeen, LedgerSeen, Observation, UnfinishedSeen
from recovery.plan import Plan
from recovery.step import Mode
from tests.thought import failover_scene as scene


def planned(seen: Observation, name: str = "failover", **more: str) -> Plan:
    made = propose(
        Asked(service="core", to="west", asked_at=scene.NOW, **more), scene.runbook(name), scene.catalog(), seen
    )
    assert isinstance(made, Proposal)
    return made.plan


def found(seen: Observation, name: str = "failover", mode: Mode | None = None) -> tuple[Hazard, ...]:
    return hazards(planned(scene.seen(), name), seen, rpo_seconds=rpo_seconds(scene.catalog()), mode=mode)


def test_a_failover_shows_what_may_be_lost_against_the_objective() -> None:
    silent = scene.seen()
    there = [each.but(role="primary") if each.role == "silent" else each for each in silent.members["validation-db"]]
    seen = silent.but(members={"validation-db": tuple(there)})
    (loss,) = found(seen)
    assert loss.words == "data-loss 4.2 s"
    assert loss.text == "may lose up to 4.2 s of commits of validation-db; objective 900 s"
    bare = hazards(planned(seen), seen, rpo_seconds={})
    assert bare[0].text == "may lose up to 4.2 s of commits of validation-db"


def test_where_the_primary_is_silent_the_figure_says_that_it_grows() -> None:
    (loss,) = found(scene.seen())
    assert loss.text == (
        "may lose up to 4.2 s of commits of validation-db; objective 900 s; east is silent: counted since the last"
        " commit known to have arrived, it grows with the outage"
    )


def test_a_graceful_switchover_loses_nothing_and_its_ungraceful_variant_may() -> None:
    assert found(scene.seen(), "switchover") == ()
    assert words(found(scene.seen(), "switchover", Mode.UNGRACEFUL)) == "data-loss 4.2 s"
    assert words(found(scene.seen(), "drill")) == "none"


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (scene.seen(fence=FenceSeen()), ["split-brain", "data-loss 4.2 s"]),
        (scene.seen(fence=FenceSeen(agent="answers")), ["data-loss 4.2 s"]),
        (scene.seen(fence=FenceSeen(cloud="answers", lease="absent")), ["data-loss 4.2 s"]),
        (scene.seen(behind_seconds=None), ["data-loss-unknown"]),
        (scene.seen(ttl_seconds=300), ["data-loss 4.2 s", "ttl 300 s"]),
        (scene.seen(ttl_seconds=60), ["data-loss 4.2 s"]),
        (scene.seen(ttl_seconds=None), ["data-loss 4.2 s", "dns-unseen"]),
        (
            scene.seen(
                dns=DnsSeen(ttl_seconds=30, checks={"east-serves": "disabled", "x": "enabled"}, sites=("east",))
            ),
            ["data-loss 4.2 s", "disabled-health-check", "no-record"],
        ),
        (scene.seen(ledger=LedgerSeen(home="silent", mirrors=("west",))), ["ledger-degraded", "data-loss 4.2 s"]),
        (scene.seen(ledger=LedgerSeen(home="silent")), ["ledger-degraded", "data-loss 4.2 s"]),
    ],
)
def test_each_danger_has_its_class_and_its_figure(seen: Observation, expected: list[str]) -> None:
    those = found(seen)
    assert [hazard.words for hazard in those] == expected
    assert all(hazard.text for hazard in those)


def test_a_run_that_was_left_unfinished_is_a_hazard_of_every_other_live_plan() -> None:
    left = scene.seen().but(unfinished=UnfinishedSeen(run="ab" * 32, runbook="switchover"))
    first = found(left)[0]
    assert first.words == "unfinished-run"
    assert "run abababababab (switchover) of core is unfinished: go on with 'dr resume abababababab'" in first.text
    assert "unfinished-run" in words(found(left, "switchover"))
    assert words(found(left, "drill")) == "none"


def test_a_standby_that_is_gone_at_the_act_makes_the_loss_unknown() -> None:
    gone = scene.seen().but(members={})
    assert [hazard.words for hazard in found(gone)] == ["data-loss-unknown"]


def test_an_accepted_figure_never_covers_an_unknown_loss() -> None:
    unknown = found(scene.seen(behind_seconds=None))
    assert uncovered(unknown, [Acceptance(klass="data-loss", limit=1e9, unit="s")]) == unknown
    assert uncovered(unknown, [Acceptance(klass="data-loss-unknown")]) == ()
    assert loss_seconds(unknown) is None
    assert loss_seconds(found(scene.seen())) == 4.2
    assert loss_seconds(()) == 0.0


def test_a_runbook_that_promotes_without_a_fence_carries_the_split_brain_always() -> None:
    plan = planned(scene.seen())
    bare = tuple(
        step.but(arguments={"unfenced": "the old site has burnt down"}) if step.verb == "promote" else step
        for step in plan.steps
    )
    those = hazards(plan.but(steps=bare), scene.seen(), rpo_seconds={})
    assert [hazard.words for hazard in those] == ["data-loss 4.2 s", "split-brain"]
    assert "burnt down" in those[1].text


def test_moving_by_record_edits_alone_is_a_hazard_where_it_is_no_refusal() -> None:
    plan = planned(scene.seen(), "switchover")
    edited = tuple(
        step.but(arguments={**step.arguments, "by": ["record-edit"]}) if step.verb == "redirect" else step
        for step in plan.steps
    )
    those = hazards(plan.but(steps=edited), scene.seen(), rpo_seconds={})
    assert words(those) == "control-plane"


def test_hazards_lie_outside_the_digest() -> None:
    assert planned(scene.seen()).digest == planned(scene.seen(behind_seconds=9, ttl_seconds=300)).digest
    assert planned(scene.seen()).digest != planned(scene.seen(epoch=1)).digest
    assert planned(scene.seen()).digest != planned(scene.seen(), max_loss="20 min").digest
