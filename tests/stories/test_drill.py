"""A drill on a real copy: restored, checked, promoted, discarded; the live servers keep their roles."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from deployments.lab.world import World
from recovery.drive import Move, Truth
from recovery.errors import Refused
from recovery.plan import Plan
from recovery.step import Step
from tasks.home import Home
from tasks.kind import Facts, Opened, Scene
from tasks.postgres import roles
from tasks.postgres.roles import servers
from tasks.stage import Stage

pytestmark = [pytest.mark.lab, pytest.mark.slow]
DB = "orders-db"


def plan_of(home: Home, *steps: Step) -> Plan:
    return Plan(
        purpose="drill", runbook="drill", runbook_version="1", service="platform", asked_at=home.now(), steps=steps,
        pinned={"from": "east", "to": "west", "live": False},
    )  # fmt: skip


def scene_of(home: Home, plan: Plan, results: Mapping[str, Facts]) -> Scene:
    return Scene(plan=plan, results=results, attempts={}, now=home.now, say=lambda text, share: None)


def standing(home: Home) -> list[tuple[str, bool, int]]:
    said = servers.ask_all(home.resource(DB).members.items()).values()
    return [(each.member, each.primary, each.place.timeline) for each in said if isinstance(each, servers.Server)]


def outcomes(checks: Any) -> dict[str, str]:
    return {each["name"]: each["outcome"] for each in checks}


def test_a_drill_promotes_its_own_copy_and_leaves_nothing_behind(troubled: tuple[World, Home]) -> None:
    _, home = troubled
    before = standing(home)
    plan = plan_of(
        home,
        Step(id="restore", verb="restore", resource=DB, arguments={"into": "scratch"}),
        Step(id="promote", verb="promote", resource=DB, arguments={"scratch": True}, needs=("restore",)),
        Step(id="discard", verb="discard", resource=DB, always=True, needs=("promote",)),
    )
    verbs = Opened(roles.PLACES, Stage(home=home, plan=plan, sign=home.signer()))
    results: dict[str, Facts] = {}
    with pytest.raises(Refused, match="no copy was restored"):
        verbs["promote"].perform(Move(step=plan.step("promote"), attempt=1), scene_of(home, plan, results))
    for step in plan.steps:
        verb = verbs[step.verb]
        assert verb.observe(step, scene_of(home, plan, results)).truth is Truth.ABSENT
        results[step.id] = verb.perform(Move(step=step, attempt=1), scene_of(home, plan, results))
        assert verb.observe(step, scene_of(home, plan, results)).truth is Truth.HOLDS
    assert results["restore"]["isolated"] in (True, False)
    assert "failed" not in outcomes(results["restore"]["checks"]).values()
    assert outcomes(results["promote"]["checks"]) == {"opens-for-writing": "passed", "live-standby-follows": "passed"}
    assert results["promote"]["recovered_until"] is not None
    assert results["discard"]["leftovers"] == []
    assert not list(home.scratch.glob(f"{DB}-drill-*"))
    assert standing(home) == before


def test_a_runbook_s_restore_is_kept_whole_and_stopped_beside_its_source(troubled: tuple[World, Home]) -> None:
    _, home = troubled
    step = Step(id="restore", verb="restore", resource=DB, arguments={"into": "fresh", "target": "latest"})
    plan = plan_of(home, step)
    verb = Opened(roles.PLACES, Stage(home=home, plan=plan, sign=home.signer()))["restore"]
    said = verb.perform(Move(step=step, attempt=1), scene_of(home, plan, {}))
    kept = Path(str(said["data_dir"]))
    assert (kept / "PG_VERSION").exists()
    assert kept.is_relative_to(home.folder / "restored")
    assert not (kept / "postmaster.pid").exists()
    assert verb.observe(step, scene_of(home, plan, {"restore": said})).truth is Truth.HOLDS
