"""A mark's plan: whatever happens to the mark, the standby's replay goes on. A hold's: its order is in its digest.
A sweep's: retention is begun whatever became of the scratch."""

from __future__ import annotations

from datetime import UTC, datetime

from recovery import planners
from recovery.drive import History, Perform, Seen, Tried, Truth, next_moves
from recovery.plan import Plan

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def test_a_cancelled_or_killed_mark_still_resumes_the_replay() -> None:
    plan = planners.mark(service="p", resource="db", site="west", now=NOW)
    killed = History(steps={"mark": Tried(begun=1, last_begun_at=NOW)}, cancelled="a newer one was asked for")
    absent = {step.id: Seen(truth=Truth.ABSENT) for step in plan.steps}
    move = next_moves(plan, killed, absent, NOW)
    assert isinstance(move, Perform)
    assert [each.step.id for each in move.moves] == ["resume"]


def test_holding_and_releasing_are_two_plans() -> None:
    def plan(order: str) -> Plan:
        sites = ("east", "west")
        return planners.hold(service="p", resource="db", backup="b", order=order, why="audit", sites=sites, now=NOW)

    assert [step.verb for step in plan("hold").steps] == ["hold"]
    assert plan("hold").digest != plan("release").digest


def test_retention_does_not_wait_for_the_scratch() -> None:
    plan = planners.sweep(service="p", resource="db", now=NOW)
    absent = {step.id: Seen(truth=Truth.ABSENT) for step in plan.steps}
    moves = next_moves(plan, History(), absent, NOW)
    assert isinstance(moves, Perform)
    assert [each.step.id for each in moves.moves] == ["clear-scratch", "retain"]
