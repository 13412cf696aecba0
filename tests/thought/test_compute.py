"""How many instances a site needs before users come, what limits them, and that nothing is ever made smaller."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recovery.binding import bind, ends
from recovery.breach import breaches
from recovery.capacity import Component, Instances
from recovery.catalog import Catalog
from recovery.compute import Ask, asks, goal, hazards_of, pinned, short
from recovery.compute_lint import lint
from recovery.failover import Asked, Proposal, propose, rpo_seconds
from recovery.hazards import hazards
from recovery.manual import scaling
from recovery.observation import CapacitySeen
from recovery.runbook import RunbookStep
from recovery.step import Step
from tests.thought import failover_scene as scene
from tests.thought.failover_scene import instances

SILENT = CapacitySeen(why="Auto Scaling of us-west-2 is silent (ReadTimeoutError)")


def step_of(name: str = "failover", to: str = "west", catalog: Catalog | None = None) -> Step:
    book, known = scene.runbook(name), catalog or scene.catalog()
    return next(each for each in bind(book, known, ends(known, book, to=to)) if each.verb == "scale")


def with_compute(**components: Component) -> Catalog:
    core = scene.catalog().services["core"]
    return scene.catalog().but(services={"core": core.but(compute=components)})


def test_what_is_asked_for_stands_in_the_plan_so_that_people_consent_to_it() -> None:
    assert step_of().arguments["capacity"] == {
        "frontend": {"least": 8, "most": 20, "cpus": 1.0},
        "backend": {"least": 12, "most": 50, "cpus": 2.0},
        "video-processing": {"least": 4, "most": 10, "cpus": 4.0},
    }
    assert pinned(step_of().arguments)["backend"] == Ask(least=12, most=50, cpus=2.0)


def test_without_a_figure_the_fewest_of_the_policy_carry_all_and_a_door_of_ones_own_has_no_quota() -> None:
    door = {"west": Instances(url="http://w")}
    known = with_compute(
        frontend=Component(sites=door),
        other=Component(full_load=3, sites=door),
        bare=Component(sites=door),
        far=Component(full_load=3, sites={"east": Instances(url="http://e")}),
    )
    assert asks(known, known.services["core"], "west") == {
        "frontend": Ask(least=2, most=20),
        "other": Ask(least=3),
        "bare": Ask(least=1),
    }


def test_a_service_without_compute_has_the_step_and_asks_for_nothing() -> None:
    known = with_compute()
    assert "capacity" not in step_of(catalog=known).arguments
    assert pinned(step_of(catalog=known).arguments) == {}
    assert list(scaling(known, known.services["core"], "west")) == []


@given(least=st.integers(1, 60), more=st.none() | st.integers(0, 60), left=st.integers(0, 200))
def test_the_other_site_can_only_add_and_never_beyond_the_policy(least: int, more: int | None, left: int) -> None:
    most = None if more is None else least + more
    wanted = goal(Ask(least=least, most=most), instances(left))
    assert wanted >= least
    assert wanted == max(least, left if most is None else min(left, most))
    assert goal(Ask(least=least, most=most), SILENT) == goal(Ask(least=least, most=most), None) == least


@given(wanted=st.integers(1, 60), at_most=st.none() | st.integers(0, 60))
def test_what_is_short_and_what_is_allowed_are_all_that_is_wanted(wanted: int, at_most: int | None) -> None:
    lacking = short(wanted, instances(0, at_most))
    assert 0 <= lacking <= wanted
    assert lacking == 0 if at_most is None else wanted - lacking <= max(at_most, 0) or lacking == 0


def found(name: str = "failover", **seen: object) -> list[tuple[str, str]]:
    told = scene.seen(**seen)  # type: ignore[arg-type]
    made = propose(Asked(service="core", to="west", asked_at=scene.NOW), scene.runbook(name), scene.catalog(), told)
    assert isinstance(made, Proposal)
    return [
        (each.words, each.text)
        for each in hazards(made.plan, told, rpo_seconds=rpo_seconds(scene.catalog()))
        if each.klass.startswith("capacity")
    ]


def west(**sites: CapacitySeen) -> dict[str, dict[str, CapacitySeen]]:
    return {name: {"west": instances(12)} for name in scene.COMPONENTS} | {"frontend": sites}


@pytest.mark.parametrize("name", ["failover", "switchover"])
def test_a_limit_is_told_with_its_figure_before_anybody_agrees(name: str) -> None:
    assert found(name) == []
    assert found(name, capacity=west(west=instances(2, at_most=None))) == []
    assert found(name, capacity=west(west=instances(2, at_most=5))) == [
        ("capacity-limit 3 instances", "west may have 5 of the 8 instances of frontend that carry all users")
    ]
    held = instances(2, at_most=2, why="the process Launch of frontend-west is suspended")
    assert found(name, capacity=west(west=held))[0][1].endswith(": the process Launch of frontend-west is suspended")


def test_what_the_site_that_is_left_carries_counts_as_long_as_it_says_so() -> None:
    limit = [("capacity-limit 4 instances", "west may have 12 of the 16 instances of frontend that carry all users")]
    assert found(capacity=west(west=instances(2, at_most=12), east=instances(16))) == limit
    assert found(capacity=west(west=instances(2, at_most=12), east=instances(90))) != [], "the policy ends at 20"
    assert found(capacity=west(west=instances(2, at_most=20), east=instances(90))) == []
    assert found(capacity=west(west=instances(2, at_most=12), east=SILENT)) == []


def test_what_is_not_known_is_a_class_of_its_own() -> None:
    (silent,) = found(capacity=west(west=SILENT))
    assert silent[0] == "capacity-unknown"
    assert silent[1].endswith("us-west-2 is silent (ReadTimeoutError)")
    assert found(capacity=west())[0][1].endswith("it was not asked")


def test_the_quota_is_told_in_the_unit_that_it_has() -> None:
    need = 12 * 1 + 12 * 2 + 12 * 4  # what is there already stays
    assert found(vcpus={"west": float(need)}) == []
    assert found(vcpus={"west": need - 7.5, "east": 1.0}) == [
        ("capacity-quota 8 vCPUs", "west would need 84 vCPUs for all users, and the account's quota there is 76.5")
    ]


def test_a_step_that_scales_the_site_that_is_left_looks_there_and_asks_nobody_else() -> None:
    arguments = {"site": "east", "capacity": {"frontend": {"least": 8}}}
    told = scene.seen(capacity={"frontend": {"east": instances(30, at_most=30)}})
    assert list(hazards_of(arguments, told, ("east", "west"))) == []
    assert [
        each.figure
        for each in hazards_of(
            arguments, scene.seen(capacity={"frontend": {"east": instances(3, 6)}}), ("east", "west")
        )
    ] == [2]


def test_no_drill_may_scale_and_no_failover_may_scale_the_impaired_site() -> None:
    """Rules 11 and 5 know the verb: live capacity, and the control plane of the site that takes over alone."""
    drill, failover = scene.runbook("drill"), scene.runbook("failover")
    step = RunbookStep(id="scale", verb="scale", arguments={"site": "to"}, needs=("declare",))
    assert [each.rule.number for each in breaches(drill.but(steps=(*drill.steps, step)))] == [11]
    assert breaches(failover) == ()
    wrong = tuple(each.but(arguments={"site": "from"}) if each.verb == "scale" else each for each in failover.steps)
    assert [each.words for each in breaches(failover.but(steps=wrong))] == [
        "rule 5 (static stability): `scale` needs the impaired site"
    ]
    assert not any(each.verb == "scale" for each in drill.steps)


def test_users_wait_for_the_instances_and_nothing_else_does() -> None:
    for name, before, beside in (
        ("failover", {"validate", "redirect"}, {"fence", "promote", "quarantine"}),
        ("switchover", {"demote", "promote", "validate", "redirect"}, {"quarantine"}),
    ):
        steps = {each.id: each for each in scene.runbook(name).steps}

        def all_before(step: str, steps: dict[str, RunbookStep] = steps) -> set[str]:
            return set(steps[step].needs).union(*(all_before(need) for need in steps[step].needs))

        assert all("scale" in all_before(each) for each in before), name
        assert all("scale" not in all_before(each) for each in beside), name


def test_a_person_raises_only_the_fewest_by_hand_and_waits_until_they_serve() -> None:
    core = scene.catalog().services["core"]
    lines = list(scaling(scene.catalog(), core, "west"))
    changing = [each for each in lines if re.match(r"\$ aws autoscaling (?!describe)", each)]
    assert changing == [
        "$ aws autoscaling update-auto-scaling-group --region us-west-2 --profile standfast-west"
        f" --auto-scaling-group-name {group} --min-size {least}"
        for group, least in (("frontend-west", 8), ("backend-west", 12), ("video-west", 4))
    ]
    known = with_compute(web=Component(full_load=3, sites={"west": Instances(url="http://w/capacity")}))
    (line,) = scaling(known, known.services["core"], "west")
    assert line.startswith('- web: send a PUT of {"at_least": 3} to http://w/capacity by any HTTP client.')


GOOD = {name: {"east": instances(8), "west": instances(4)} for name in scene.COMPONENTS}


def checked(seen: dict[str, dict[str, CapacitySeen]], vcpus: dict[str, float | str] | None = None) -> dict[str, str]:
    told = lint(scene.catalog(), "core", seen, vcpus or {})
    assert all(each.findings or each.outcome.value in ("passed", "not configured") for each in told)
    return {each.name: f"{each.outcome.value}: {each.fact}" for each in told}


def test_before_the_event_each_site_is_judged_by_what_it_may_have() -> None:
    good = checked(GOOD)
    assert good["capacity frontend west"] == "passed: 4 in service, at most 50; 8 carry all users"
    assert len(good) == 6
    assert all(each.startswith("passed") for each in good.values())
    small = {**GOOD, "frontend": {"east": instances(8), "west": instances(4, at_most=6)}}
    assert checked(small)["capacity frontend west"] == (
        "failed: west may have 6 of the 8 instances of frontend that carry all users"
    )
    grown = {**GOOD, "frontend": {"east": instances(15), "west": instances(4, at_most=12)}}
    assert checked(grown)["capacity frontend west"].startswith("failed: west may have 12 of the 15"), "as east has now"
    alone = {**GOOD, "frontend": {"west": instances(4, at_most=None)}}
    assert checked(alone)["capacity frontend west"] == "passed: 4 in service, without a limit; 8 carry all users"
    assert checked(alone)["capacity frontend east"] == "unproven: it was not asked"


def test_a_limit_below_the_policy_is_a_warning_and_what_the_catalog_lacks_is_said() -> None:
    under = {**GOOD, "frontend": {"east": instances(8), "west": instances(8, at_most=10)}}
    (told,) = [each for each in lint(scene.catalog(), "core", under, {}) if each.findings]
    assert (told.outcome.value, told.name) == ("passed", "capacity frontend west")
    assert told.findings[0].hint == "the policy goes up to 20: let the site's limit allow as many"
    known = with_compute(web=Component(full_load=3, sites={"west": Instances(url="http://w")}))
    lacking = lint(known, "core", {"web": {"west": instances(3)}}, {})
    assert [(each.name, each.outcome.value) for each in lacking] == [
        ("capacity web east", "not configured"),
        ("capacity web west", "passed"),
    ]


def test_quotas_are_compared_with_the_need_and_with_each_other() -> None:
    need = 8 * 1 + 12 * 2 + 8 * 4  # video: east has eight now
    title = "capacity quota west"
    assert checked(GOOD, {"west": float(need)})[title].startswith(f"passed: {need} vCPUs carry all users")
    assert checked(GOOD, {"west": need - 1.0})[title].startswith("failed")
    assert checked(GOOD, {"west": "Service Quotas of us-west-2 is silent"})[title] == (
        "unproven: Service Quotas of us-west-2 is silent"
    )
    told = lint(scene.catalog(), "core", GOOD, {"west": 64.0, "east": 128.0})
    (uneven,) = [each for each in told if each.findings]
    assert (uneven.name, uneven.outcome.value) == (title, "passed")
    assert uneven.findings[0].hint == "east has 128: the sites are not alike; ask for the same quota"
    bare = scene.catalog().but(operations=scene.catalog().operations.but(limits={}))
    quota = [each for each in lint(bare, "core", GOOD, {"west": 64.0}) if "quota" in each.name]
    assert [each.outcome.value for each in quota] == ["not configured"]
