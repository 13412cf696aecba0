"""The scorecard: from runs alone, and only evidence ticks."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from recovery.check import Verdict
from recovery.exercise import Checklist
from recovery.past import Past
from recovery.readiness import readiness
from recovery.scorecard import Sample, Scorecard, scorecard, series, worst
from recovery.standing import ProofState
from tests.thought.ledger_scene import NOON, backed_up, catalog, marked, minutes, proved


def card(*runs: Any) -> Scorecard:
    return scorecard(runs, catalog(), now=NOON)


def samples(*seconds: float) -> list[Sample]:
    return [Sample(at=minutes(number), seconds=each, run="r") for number, each in enumerate(seconds)]


def test_an_empty_ledger_proves_nothing() -> None:
    found = card()
    assert found.verdict is Verdict.UNPROVEN
    assert found.resources[0].forecast.p50_seconds is None
    assert {each.verdict for each in found.readiness} == {Verdict.UNPROVEN}
    assert len(found.readiness) == 24


def test_fresh_proofs_of_both_sorts_are_met_and_tick_the_one_point_they_prove() -> None:
    found = card(proved(minutes(-5)), proved(minutes(-9), sort="mark", rpo_seconds=None))
    assert found.verdict is Verdict.MET
    assert [each.point for each in found.readiness if each.verdict is Verdict.MET] == ["backups validated by restore"]
    assert found.services[0].resources == ("orders",)


def test_figures_come_from_proofs_that_reached_their_checks_without_a_planted_fault() -> None:
    planted: dict[str, Any] = {"name": "rows", "what": "rows", "detected": True}
    halted: list[Any] = [{"name": "fetch", "seconds": 1.0}]
    score = card(
        proved(minutes(-1), rto_seconds=99.0, planted=planted),
        proved(minutes(-2), rto_seconds=98.0, phases=halted, verdict="missed"),
        proved(minutes(-3), rto_seconds=3.0, rpo_seconds=0.5),
        proved(minutes(-4), rto_seconds=1.0, sort="time", rpo_seconds=None),
    ).resources[0]
    assert (score.forecast.p50_seconds, score.forecast.proofs) == (2.0, 2)
    assert [each.name for each in score.rto] == ["RTO, mark", "RTO, latest", "RTO, time"]
    assert score.rpo.newest_seconds == 0.5


def of_drill(begun_at: datetime, *, purpose: str = "drill", outcome: str = "met") -> Past:
    return Past(
        run="dd", purpose=purpose, resource="platform", asked="", begun_at=begun_at, ended_at=begun_at,
        outcome=outcome, records=3, sealed="signed", who="ann@host",
    )  # fmt: skip


@pytest.mark.parametrize(("outcome", "state"), [("met", "kept"), ("missed", "late"), ("", "late")])
def test_a_drill_that_is_late_is_a_missed_promise_beside_those_of_the_services(outcome: str, state: str) -> None:
    monthly = {"what": "all of it", "schedule": {"cron": "0 9 1 * *", "late_after": "7 days"}, "runbook": "drill"}
    runs = [
        proved(minutes(-5)), proved(minutes(-9), sort="mark", rpo_seconds=None),
        of_drill(NOON - timedelta(days=60), purpose="sweep"), of_drill(minutes(-60), outcome=outcome),
    ]  # fmt: skip
    found = scorecard(runs, catalog(operations={"drills": {"full": monthly}}), now=NOON)
    (drill,) = found.drills
    assert (drill.state, drill.newest_outcome, drill.newest_who) == (state, outcome, "ann@host")
    assert [each.subject for each in found.drill_reasons] == (["drill full"] if state == "late" else [])
    assert found.verdict is (Verdict.MET if state == "kept" else Verdict.MISSED)
    assert found.services[0].verdict is Verdict.MET


@pytest.mark.parametrize(
    ("values", "trend"),
    [
        ((1, 1, 1, 1, 9), "too few"),
        ((1, 1, 1, 1, 1, 1.4), "steady"),
        ((1, 1, 1, 1, 1, 1.6), "regressed"),
        ((1, 3, 1, 3, 1, 3, 1, 3, 3.5), "steady"),
        ((), "too few"),
    ],
)
def test_a_regression_is_large_and_beyond_the_noise(values: tuple[float, ...], trend: str) -> None:
    assert series("RTO", samples(*values)).trend == trend


def test_only_the_ten_before_the_newest_are_compared() -> None:
    assert series("RTO", samples(*([9.0] * 20), *([1.0] * 10), 2.0)).trend == "regressed"


def test_backups_and_their_slots_are_counted_from_runs_that_ended_well() -> None:
    score = card(
        backed_up(minutes(-200)),
        backed_up(minutes(-90), kind="incremental"),
        backed_up(minutes(-30), kind="incremental", outcome="missed"),
        backed_up(minutes(-15), kind="incremental", size_bytes=None),
        proved(minutes(-1)),
    ).resources[0]
    assert [(each.kind, each.taken_seconds, each.size_bytes) for each in score.backups] == [
        ("full", 3.0, 1000),
        ("incremental", 3.0, 1000),
        ("incremental", 3.0, 0),
    ]
    slots = {each.what: (each.kept, each.late, each.missed) for each in score.punctuality}
    assert slots["incremental"] == (1, 1, 1)
    assert slots["mark"] == (0, 1, 2)
    assert score.verdict is Verdict.MISSED


def test_marks_are_counted_from_runs_on_record_that_came_to_one() -> None:
    score = card(
        backed_up(minutes(-200)),
        *(marked(minutes(each)) for each in (-50, -44)),
        marked(minutes(-104), outcome="missed"),
    ).resources[0]
    (kept,) = [each for each in score.punctuality if each.what == "mark"]
    assert (kept.kept + kept.late, kept.missed) == (1, 0)
    assert marked(minutes(-44)).said is not None


def test_a_fault_is_told_with_how_often_it_was_caught_and_the_holes_come_first() -> None:
    def planted(at: int, name: str, detected: bool) -> Any:
        return proved(minutes(at), planted={"name": name, "what": name, "detected": detected})

    found = card(planted(1, "a", False), planted(2, "a", True), planted(3, "b", False))
    assert [(each.fault, each.newest, each.caught, each.planted) for each in found.faults] == [
        ("b", "not caught", 0, 1),
        ("a", "caught", 1, 2),
    ]
    assert found.resources[0].verdict is Verdict.MISSED


def test_the_order_of_the_runs_does_not_matter() -> None:
    runs = [proved(minutes(-5)), proved(minutes(-9), sort="mark"), backed_up(minutes(-60))]
    assert card(*runs) == card(*reversed(runs))


def test_worst() -> None:
    assert worst([]) is Verdict.UNPROVEN
    assert worst([Verdict.MET, Verdict.UNPROVEN, Verdict.MISSED]) is Verdict.MISSED


def state(verdict: Verdict, how: Any = "fresh") -> tuple[str, ProofState]:
    return "orders", ProofState(sort="mark", state=how, verdict=verdict, run="ab")


@pytest.mark.parametrize(
    ("proofs", "verdict", "why"),
    [
        ([state(Verdict.MET), state(Verdict.MISSED)], Verdict.MISSED, "the newest proof is missed: orders (mark)"),
        ([state(Verdict.MET, "stale")], Verdict.UNPROVEN, "no fresh proof: orders (mark: stale)"),
        ([state(Verdict.UNPROVEN)], Verdict.UNPROVEN, "no fresh proof: orders (mark: unproven)"),
        ([], Verdict.UNPROVEN, "no fresh proof: the catalog has no resource"),
        ([state(Verdict.MET)], Verdict.MET, "1 fresh proofs, each restored and checked"),
    ],
)
def test_backups_are_validated_by_restore_and_by_nothing_else(proofs: list[Any], verdict: Verdict, why: str) -> None:
    chosen = Checklist(infrastructure=("backups validated by restore",), application=("retries",), operations=())
    found = readiness(chosen, proofs)
    assert (found[0].verdict, found[0].why) == (verdict, why)
    assert found[1].verdict is Verdict.UNPROVEN
