"""A change of roles killed with kill -9 at its boundaries, gone on with from another home: one end, every effect once.

`make storm` kills at every boundary of every step (deployments/lab/storm…); here those between which most can go wrong.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from moved import (
    another_home,
    approved,
    home_of,
    killed_at,
    lab,
    lost,
    moved,
    outage,
    planned,
    primary,
    seen,
    steps,
    whole,
)

from deployments.lab import breaking, observer
from deployments.lab.world import World
from recovery.journal import ENDED
from tasks.home import Home
from tasks.journal import read_records
from tasks.postgres.roles import witness

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with lab(tmp_path_factory.mktemp("moved") / "home") as made:
        yield made


def homes(world: World, folder: Path) -> list[Home]:
    return [home_of(world), another_home(world, folder / "other")]


@pytest.mark.slow
def test_killed_at_every_boundary_of_every_step_a_failover_ends_as_if_nothing_had_happened(
    world: World, tmp_path: Path
) -> None:
    _away_and_home(world, tmp_path, f"all:{tmp_path / 'points'}")


def test_killed_where_the_effect_is_there_and_its_record_is_not_a_failover_is_taken_up_from_another_home(
    world: World, tmp_path: Path
) -> None:
    _away_and_home(world, tmp_path, "fence:done", "promote:done", "redirect:begun")


def _away_and_home(world: World, folder: Path, *points: str) -> None:
    here, other = homes(world, folder)
    _, before = primary(world)
    seen(world, "east")
    lost(world, "site:east")
    plan = approved(here, planned(here, "failover", "west"))
    told, turns = None, 0
    for point in points:
        while (told := killed_at((here, other)[turns % 2], plan, point)) is None:
            turns += 1
            assert turns <= 3 * len(plan.steps) + 2, "it dies without end"
            if not point.startswith("all:"):
                break
    told = told or killed_at((here, other)[turns % 2], plan, "never")
    assert told is not None
    whole(here, world, plan, told)
    assert turns >= (len(points) if not points[0].startswith("all:") else 2 * len(plan.steps))
    assert primary(world) == ("west", before + 1), "promoted once"
    terms = witness.terms(here)
    assert terms is not None
    assert (found := terms.read("orders-db")) is not None
    assert (found.generation, found.turn, found.primary) == (plan.epoch + 1, 0, "west"), "one term, once"
    ended = [each for each in read_records(here.ledger(), plan.run) if each.kind == ENDED]
    assert {str(each.facts["step"]) for each in ended} == {step.id for step in plan.steps}
    assert killed_at(other, plan, "never") == told, "a finished run only reports"
    seen(world, "west")
    assert outage(world, told) == pytest.approx(told.rto_seconds, abs=1.0)
    breaking.end(world)
    back = moved(other, "failback", "east")
    assert (back.outcome, back.lost_commits) == ("met", 0), back
    seen(world, "east")
    observed = observer.look(world)
    assert observed["two_writers"] == []
    assert observed["missing_count"] == 0 or json.dumps(observed["missing"])
    assert ("step.begun", "promote") in steps(here, plan)
