"""`kill -9` of the engine and of the agents at every boundary of every step and in the midst of each:
the same command from another home goes on, and the end is the same as if nothing had happened."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from moved import (
    another_home,
    approved,
    as_if_never_killed,
    killed_through,
    lost,
    moved,
    outage,
    planned,
    primary,
    seen,
    steps,
)
from test_changes import home as home  # noqa: PLC0414 -- fixtures
from test_changes import raised as raised  # noqa: PLC0414
from test_changes import world as world  # noqa: PLC0414

from deployments.lab import breaking, observer
from deployments.lab.world import World
from recovery.binding import groups
from recovery.outcome import Changed
from recovery.plan import Plan
from tasks.home import Home

pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.timeout(900)]

WAYS = ("all", "inside", "agents", "agents-inside")


def killed(world: World, home: Home, folder: Path, plan: Plan, way: str) -> Changed:
    """Act until nobody dies any more. The world has then been changed once."""
    _, timeline = primary(world) if plan.purpose != "failover" else ("", 0)
    book = folder / f"{way}-{plan.digest[:8]}"
    done = [step for step in plan.steps if not step.omitted_in(plan.mode)]
    told, turns = killed_through(
        home, another_home(world, folder / "other"), plan, f"{way}:{book}", most=5 * len(done) + 5
    )
    points = book.read_text().splitlines()
    match way:
        case "all":
            named = Counter(each.partition(":")[0] for each in points)
            alone = {step.id for step in done if (step.id,) in groups(plan.steps)}
            assert {step for step in alone if named[step] < 3} == set(), "at each of the three boundaries of each step"
            beside = len(done) - len(alone)  # of two that reach theirs at once one death may be for both
            assert {step.id for step in done if not named[step.id]} == set()
            assert sum(named[step.id] for step in done) >= 3 * len(done) - beside
            assert turns >= 3 * len(alone)
        case "inside":
            assert turns >= len(done) // 2, "steps that end at once can't be killed in their midst"
            assert {each.partition(":")[0] for each in points} >= {step.id for step in done}
        case "agents":
            assert turns == 0, "the engine was never killed"
            assert len(points) >= 3 * len(done)
        case "agents-inside":
            assert turns == 0, "the engine was never killed"
            assert len(points) >= 3, "steps that end at once have no midst"
    as_if_never_killed(home, world, plan, told)
    if timeline:
        assert primary(world) == (told.target, timeline + 1), "promoted once"
    assert told.rto_seconds is not None
    seen(world, told.target)
    assert told.rto_seconds > outage(world, told) - 1.0, "never told better than it was"
    return told


@pytest.mark.parametrize("way", WAYS)
def test_a_failover(world: World, home: Home, tmp_path: Path, way: str) -> None:
    lost(world, "site:east")
    plan = approved(home, planned(home, "failover", "west"))
    killed(world, home, tmp_path, plan, way)


@pytest.mark.parametrize("way", WAYS)
def test_a_failback_behind_it_with_its_losses_its_rebuild_and_its_switchover(
    world: World, home: Home, tmp_path: Path, way: str
) -> None:
    lost(world, "site:east")
    assert moved(home, "failover", "west").outcome == "met"
    seen(world, "west")
    breaking.end(world)
    known = set(observer.look(world)["missing"])
    plan = approved(home, planned(home, "failback", "east"))
    told = killed(world, home, tmp_path, plan, way)
    assert (told.lost_commits, told.rpo_seconds) == (0, 0.0)
    assert set(observer.look(world)["missing"]) <= known, "going home lost nothing"
    assert len([each for each in steps(home, plan) if each == ("step.ended", "losses")]) >= 1


@pytest.mark.parametrize("way", WAYS)
def test_a_switchover_there_and_home(world: World, home: Home, tmp_path: Path, way: str) -> None:
    missing = observer.look(world)["missing"]
    for site in ("west", "east"):
        plan = approved(home, planned(home, "switchover", site))
        told = killed(world, home, tmp_path, plan, way)
        assert (told.lost_commits, told.rpo_seconds) == (0, 0.0)
    assert observer.look(world)["missing"] == missing
