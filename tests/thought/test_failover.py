"""A plan that changes roles: what it pins, when it is nothing, when it is refused, and when it may run."""

from __future__ import annotations

import json
import re
from datetime import timedelta

import pytest

from recovery.admission import Consents, Report, Resume, RunState, admit
from recovery.errors import BadInput, Refused, Unproven
from recovery.failover import Asked, Proposal, asked_of, lease_of, make, propose
from recovery.observation import LedgerSeen, MemberSeen, Observation, ProbeSeen
from recovery.plan import NothingToDo, Plan
from recovery.rules import RULES
from tests.thought import failover_scene as scene


def asked(**more: str) -> Asked:
    return Asked.model_validate({"service": "core", "to": "west", "asked_at": scene.NOW, **more})


def plan(name: str = "failover", **more: str) -> Plan:
    made = make(asked(**more), scene.runbook(name), scene.catalog(), scene.seen())
    assert isinstance(made, Plan)
    return made


def test_it_pins_all_that_could_drift_and_nothing_that_was_only_seen() -> None:
    made = plan()
    assert made.pinned == {
        "from": "east",
        "to": "west",
        "live": True,
        "roles": {"east": "primary", "west": "recovery", "witness": "witness"},
        "choose": "most-advanced",
        "limits": {"data_loss_seconds": 900.0},
        "databases": {"validation-db": {"system_id": "7", "timeline": 1, "candidates": ["west"]}},
    }
    assert made.step("redirect").arguments == {"site": "west", "by": ["inverted-health-check"]}
    assert "4.2" not in made.model_dump_json()


def test_made_again_from_its_own_inputs_it_has_the_same_digest() -> None:
    for name in ("failover", "switchover", "drill", "restore", "rehearse-dns"):
        made = plan(name, max_loss="20 min")
        assert Plan.model_validate_json(made.model_dump_json()).digest == made.digest
        again = make(asked_of(made), scene.runbook(name), scene.catalog(), scene.seen(behind_seconds=99))
        assert isinstance(again, Plan)
        assert again.digest == made.digest


def test_every_step_carries_both_variants_and_a_manual_with_real_names() -> None:
    made = plan("switchover")
    assert made.step("demote").ungraceful == {"omitted": "the old primary is not asked any more"}
    assert made.step("follow").arguments["site"] == "east"
    assert all(step.manual and not re.search(r"\{[a-z][a-z_.]*\??\}", step.manual) for step in made.steps)


def test_a_site_that_is_primary_already_is_nothing_to_do() -> None:
    made = propose(asked(), scene.runbook("failover"), scene.catalog(), scene.seen(primary="west"))
    assert made == NothingToDo(why="west is the primary of core already")


def test_a_primary_by_hearsay_is_unproven_while_those_who_may_know_better_are_silent() -> None:
    """The change of roles went to the ledger's home and one mirror; the other, which was lost then, never got it."""
    stale = scene.seen(primary="west", ledger=LedgerSeen(home="silent", mirrors=("west",)))

    def made(seen: Observation) -> Plan | NothingToDo:
        return make(asked(), scene.runbook("failover"), scene.catalog(), seen)

    with pytest.raises(Unproven, match="its home and east are silent") as caught:
        made(stale)
    assert "dr status" in caught.value.hint
    for ledger in (LedgerSeen(), LedgerSeen(home="silent", mirrors=("west", "east"))):
        assert isinstance(made(stale.but(ledger=ledger)), NothingToDo)
    serves = [each.but(role="primary") if each.site == "west" else each for each in stale.members["validation-db"]]
    assert isinstance(made(stale.but(members={"validation-db": tuple(serves)})), NothingToDo)


def test_a_proposal_shows_groups_hazards_forecast_and_digest_as_one_document() -> None:
    past = [{"declare": 1.0, "approve": 2.0, "fence": 3.0, "promote": 2.0}]
    made = propose(asked(), scene.runbook("failover"), scene.catalog(), scene.seen(), past=past)
    assert isinstance(made, Proposal)
    shown = made.document()
    assert json.loads(json.dumps(shown)) == shown
    assert list(shown) == ["digest", "epoch", "steps", "groups", "hazards", "unwell", "forecast"]
    assert shown["digest"] == made.plan.digest
    assert shown["groups"][:3] == [["declare"], ["approve"], ["fence", "quarantine", "scale"]]  # type: ignore[index]
    assert [each["words"] for each in shown["hazards"]] == ["data-loss 4.2 s"]  # type: ignore[union-attr,call-overload,index]
    assert made.forecast.p50_seconds == 8.0
    assert "promote" in made.live
    assert "declare" not in made.live
    restore = propose(asked(), scene.runbook("restore"), scene.catalog(), scene.seen())
    assert isinstance(restore, Proposal)
    assert restore.forecast.p50_seconds is None


def test_a_runbook_that_breaks_a_rule_gives_no_plan() -> None:
    failover = scene.runbook("failover")
    unfenced = tuple(
        step.but(needs=tuple(need for need in step.needs if need != "fence")) if step.verb == "promote" else step
        for step in failover.steps
    )
    with pytest.raises(Refused, match=r"failover is refused by rule 1 \(fence before promote\)"):
        make(asked(), failover.but(steps=unfenced), scene.catalog(), scene.seen())


def test_a_name_is_not_moved_while_one_of_the_databases_stays_behind() -> None:
    catalog, failover = scene.catalog(), scene.runbook("failover")
    core = catalog.services["core"].but(resources=("validation-db", "orders-db"))
    two = catalog.but(
        resources=dict.fromkeys(core.resources, catalog.resources["validation-db"]), services={"core": core}
    )
    members = scene.seen().members["validation-db"]
    seen = scene.seen().but(members=dict.fromkeys(core.resources, members))
    made = make(asked(), failover, two, seen)
    assert isinstance(made, Plan)
    assert made.step("promote-orders-db").needs == ("fence-validation-db", "fence-orders-db", "quarantine")
    half = tuple(
        step.but(resource="validation-db") if step.verb in ("fence", "promote", "protect") else step
        for step in failover.steps
    )
    with pytest.raises(Refused, match=r"rule 2 .* sent to west, where orders-db is not promoted"):
        make(asked(), failover.but(steps=half), two, seen)


def test_a_loss_above_the_limit_is_refused_until_the_plan_allows_it() -> None:
    late = scene.seen(behind_seconds=1000)
    why = "up to 1000 s of commits may be lost, above the plan's limit of 900 s"
    with pytest.raises(Refused, match=why) as refused:
        propose(asked(), scene.runbook("failover"), scene.catalog(), late)
    assert "dr plan failover --to west --max-loss '32 min' (the figure grows" in refused.value.hint
    assert isinstance(propose(asked(max_loss="20 min"), scene.runbook("failover"), scene.catalog(), late), Proposal)
    with pytest.raises(BadInput, match="the limit of loss: 'much' is not a duration"):
        plan(max_loss="much")
    unknown = propose(asked(), scene.runbook("failover"), scene.catalog(), scene.seen(behind_seconds=None))
    assert isinstance(unknown, Proposal)


def test_the_most_advanced_standby_is_the_one_that_counts() -> None:
    seen = scene.seen()
    more = [
        MemberSeen(site="west", role="standby", timeline=1, lsn=lsn, behind_seconds=900.0 - lsn) for lsn in (50, 300)
    ]
    seen = seen.but(members={"validation-db": (*seen.members["validation-db"], *more)})
    best = seen.best("validation-db", "west")
    assert best is not None
    assert best.lsn == 300
    with pytest.raises(Unproven, match="no standby of validation-db is seen at west"):
        make(asked(), scene.runbook("failover"), scene.catalog(), seen.but(members={}))


@pytest.mark.parametrize(
    ("target", "pinned"),
    [
        (None, "2026-11-24T02:45:00.000000Z"),
        ("1 h ago", "2026-11-24T02:00:00.000000Z"),
        ("2026-11-23T22:00:00-05:00", "2026-11-24T03:00:00.000000Z"),
        ("latest", "latest"),
    ],
)
def test_relative_times_are_resolved_once_when_the_plan_is_made(target: str | None, pinned: str) -> None:
    made = plan("restore", **({"target": target} if target else {}))
    assert made.pinned["target"] == made.step("restore").arguments["target"] == pinned


def test_a_drill_restores_the_latest_and_takes_a_lease_of_its_own() -> None:
    assert plan("drill").pinned["target"] == "latest"
    assert lease_of(plan("drill")) == "core-drill"
    assert lease_of(plan()) == "core"


@pytest.mark.parametrize(
    ("target", "fact"),
    [
        ("soon ago", "the target"),
        ("yesterday", "is no moment"),
        ("2026-11-24", "is no moment"),
        ("2027-01-01T00:00:00Z", "lies ahead"),
    ],
)
def test_a_target_that_is_no_moment_of_the_past_is_refused(target: str, fact: str) -> None:
    with pytest.raises(BadInput, match=fact):
        plan("restore", target=target)


def test_a_finished_run_only_reports_whatever_the_world_says() -> None:
    one = plan()
    consents = Consents(policy=scene.policy())
    world = scene.seen(epoch=9, primary="west", running={"core": "f" * 64})
    state = RunState(begun=scene.begun(), outcome="finished")
    assert admit(one, None, world, (), state=state, consents=consents, now=scene.NOW) == Report(outcome="finished")


def test_an_unfinished_run_is_resumed_but_not_in_another_epoch() -> None:
    one = plan()
    ann, bob = (scene.approval(one.digest, 0, who, []) for who in ("ann", "bob"))
    consents = Consents(policy=scene.policy(), given=(ann, bob))
    state = RunState(begun=scene.begun(ann, bob))
    half = scene.seen(running={"core": one.digest})
    assert admit(one, None, half, (), state=state, consents=consents, now=scene.NOW + timedelta(days=1)) == Resume()
    with pytest.raises(Refused) as caught:
        admit(one, None, scene.seen(epoch=1), (), state=state, consents=consents, now=scene.NOW)
    assert caught.value.fact.startswith(RULES[8].cited)
    assert f"end this run with 'dr run cancel {one.run[:12]} --as NAME'" in caught.value.hint
    over = RunState(begun=scene.begun(ann, bob), cancelled=True)
    assert admit(one, None, scene.seen(epoch=1), (), state=over, consents=consents, now=scene.NOW) == Resume()
    with pytest.raises(Refused) as fresh:
        admit(one, None, scene.seen(epoch=1), (), state=RunState(), consents=consents, now=scene.NOW)
    assert "dr run cancel" not in fresh.value.hint


@pytest.mark.parametrize("what", ["nothing", "none", "steps"])
def test_a_plan_that_no_longer_holds_is_refused_and_says_what_changed(what: str) -> None:
    one = plan()
    other: Plan | NothingToDo | None = {
        "nothing": NothingToDo(why="west is the primary of core already"),
        "none": None,
        "steps": one.but(steps=one.steps[:3]),
    }[what]
    expected = {"nothing": "west is the primary", "none": r"another plan\n", "steps": r"another plan \(steps changed\)"}
    with pytest.raises(Refused, match=f"no longer holds: .*{expected[what]}") as caught:
        admit(one, other, scene.seen(), (), state=RunState(), consents=Consents(policy=scene.policy()), now=scene.NOW)
    assert caught.value.exit_code == 4


def test_a_changed_version_of_the_runbook_is_another_plan_even_where_the_steps_are_the_same() -> None:
    one = plan()
    newer = one.but(runbook_version="2")
    with pytest.raises(Refused, match="it is another plan"):
        admit(one, newer, scene.seen(), (), state=RunState(), consents=Consents(policy=scene.policy()), now=scene.NOW)


def test_how_long_each_probe_has_failed_is_what_standing_approvals_ask() -> None:
    seen = scene.seen(failing_seconds=12)
    assert seen.failing() == {"app-east": 12}
    assert seen.but(probes={"x": ProbeSeen(outcome="unproven", failing_seconds=99)}).failing() == {}


def test_people_are_told_of_a_site_that_takes_over_and_fails_its_probes_without_a_hazard_of_it() -> None:
    sick = {"app-west": ProbeSeen(outcome="failed", failing_seconds=7), "app-east": ProbeSeen(outcome="failed")}
    for name, told in (("failover", {"app-west": 7.0}), ("drill", {})):
        seen = scene.seen().but(probes=sick)
        made = propose(asked(), scene.runbook(name), scene.catalog(), seen)
        well = propose(asked(), scene.runbook(name), scene.catalog(), scene.seen())
        assert isinstance(made, Proposal)
        assert isinstance(well, Proposal)
        assert (made.unwell, well.unwell) == (told, {})
        assert made.hazards == well.hazards
        shown = made.document()["unwell"]
        assert isinstance(shown, list)
        assert [(each["probe"], each["site"], each["failing_seconds"]) for each in shown] == (  # type: ignore[index,call-overload]
            [("app-west", "west", 7.0)] if told else []
        )
        assert all("fails at west, for 7 s" in str(each["words"]) for each in shown)  # type: ignore[index,call-overload]


def test_a_failback_is_planned_from_the_primary_that_it_rebuilds_from_and_not_without_seeing_it() -> None:
    seen = scene.seen(primary="west", epoch=1)
    with pytest.raises(Unproven, match="the primary of validation-db at west"):
        make(asked(to="east"), scene.runbook("failback"), scene.catalog(), seen)
    west = MemberSeen(site="west", role="primary", system_id="7", timeline=2, lsn=900)
    there = seen.but(members={"validation-db": (west,)})
    made = make(asked(to="east"), scene.runbook("failback"), scene.catalog(), there)
    assert isinstance(made, Plan)
    assert made.pinned["databases"] == {"validation-db": {"system_id": "7", "timeline": 2, "candidates": ["east"]}}


def test_leases_live_at_the_ledgers_home_and_at_the_site_that_would_take_over() -> None:
    assert scene.catalog().lease_sites == ("witness", "west")
