"""Since when users were not served: by the probes, by the run's own demotion, or by nobody's word."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from test_outcome import OBJECTIVES, SWITCHOVER, WHOLE, Told, at, begun, ended, plan, records, run

from recovery.observation import ProbeSeen
from recovery.outage import SEEN, began, evidence, over_by, switched
from recovery.outcome import changed
from recovery.rto import rto
from recovery.step import Mode
from recovery.value import rfc3339
from tests.thought.failover_scene import seen

STEPS = (SWITCHOVER[0].but(ungraceful={"omitted": "the old primary is not asked any more"}), *SWITCHOVER[1:])
LATER = tuple((kind, facts, begin + 4, None if end is None else end + 4) for kind, facts, begin, end in WHOLE[2:])
"""The steps from the fence on, after an order at 17."""


def ordered(when: float, *, asked: float | None = None, **told: Any) -> Told:
    facts: dict[str, object] = {"who": "ann"}
    if asked is not None:
        facts |= {"asked_at": rfc3339(at(asked)), SEEN: told}
    return ("order.ungraceful", facts, when, None)


def failed(name: str, begin: float, end: float, attempt: int = 1) -> Told:
    return ("step.failed", {"step": name, "attempt": attempt, "fact": "broke off", "hint": ""}, begin, end)


def given_up(*told: Told) -> Any:
    return rto(plan(STEPS, mode=Mode.GRACEFUL), records(run(), *told, *LATER))


def since(when: float) -> dict[str, object]:
    return {"outcome": "failed", "failing": ["app-east"], "failing_since": rfc3339(at(when))}


def test_a_primary_that_dies_in_a_graceful_run_is_told_from_the_last_pass_that_the_probes_saw() -> None:
    told = given_up(begun("demote", 14), failed("demote", 14, 15), ordered(17, asked=16.5, **since(13)))
    assert (told.begin, told.why) == (at(13), "")
    assert told.seconds == pytest.approx(13.25)
    assert told.segments == pytest.approx(
        {"detect": 3.5, "declare": 0.0, "decide": 0.5, "act": 7.0, "converge": 2.0, "verify": 0.25}
    )
    assert sum(told.segments.values()) == pytest.approx(told.seconds)


def test_it_is_met_with_its_rpo_by_the_same_beginning() -> None:
    told = changed(
        plan(STEPS, mode=Mode.GRACEFUL), records(run(), ordered(17, asked=16.5, **since(13)), *LATER), OBJECTIVES, None
    )
    assert (told.outcome, told.findings, told.lost_commits) == ("met", (), "unproven")
    assert told.rpo_seconds == pytest.approx(14.5)


def test_where_the_demotion_had_stopped_the_writes_before_the_site_was_lost_the_outage_began_with_it() -> None:
    stopped = (begun("demote", 13), ended("demote", 13, 14.5, lsn=100, at=rfc3339(at(13.5))))
    assert given_up(*stopped, ordered(17, asked=16, **since(15))).begin == at(13.5)
    assert given_up(*stopped, ordered(17, asked=16, outcome="unproven", failing_since=None)).begin == at(13.5)
    assert given_up(*stopped, ordered(17, asked=16, **since(13.2))).begin == at(13.2)
    unended = given_up(begun("demote", 13), ordered(17, asked=16, **since(15)))
    assert (unended.begin, unended.segments["detect"]) == (at(13), pytest.approx(1.0))


def test_a_demotion_that_had_failed_before_the_last_pass_had_let_users_write_again() -> None:
    first = (begun("demote", 13), failed("demote", 13, 14))
    assert given_up(*first, ordered(17, asked=16, **since(15))).begin == at(15)
    again: Told = ("step.begun", {"step": "demote", "attempt": 2, "verb": "demote"}, 14.5, None)
    assert given_up(*first, again, ordered(17, asked=16, **since(15))).begin == at(14.5)


def test_a_site_whose_probes_pass_still_is_given_up_from_its_demotion_on() -> None:
    hung = (begun("demote", 13), ordered(17, asked=16, outcome="passed", failing_since=None))
    assert given_up(*hung).begin == at(13)
    assert given_up(*hung).segments["detect"] == 0.0


@pytest.mark.parametrize(
    "told",
    [
        (begun("demote", 13), failed("demote", 13, 14), ordered(17, asked=16, outcome="failed", failing_since=None)),
        (begun("demote", 13), ordered(17, asked=16, outcome="unproven", failing_since=None)),
        (ordered(17, asked=16, outcome="passed", failing_since=None),),
        (begun("demote", 13), ordered(17)),
    ],
)
def test_where_nobody_saw_it_begin_it_is_unproven_and_never_the_order_or_the_demotion(told: tuple[Told, ...]) -> None:
    found = given_up(*told)
    assert (found.begin, found.seconds, found.segments["detect"]) == (None, None, None)
    assert "no probe had seen" in found.why


def test_the_time_of_a_step_that_nobody_awaits_any_more_is_not_the_outages() -> None:
    """A demotion that hangs on a dead primary ends long after the switch."""
    told = given_up(begun("demote", 14), ordered(17, asked=16, **since(13)), failed("demote", 14, 21))
    assert "demote" not in {each.name for each in told.steps if each.seconds > 3.001}
    assert told.seconds == pytest.approx(13.25)
    assert sum(told.segments.values()) == pytest.approx(told.seconds)


def test_a_users_word_wins_and_a_rehearsal_was_no_outage() -> None:
    told = records(run(rfc3339(at(11))), ordered(17, asked=16, **since(13)))
    assert began(plan(STEPS, mode=Mode.GRACEFUL), told) == (at(11), "")
    drill = rto(plan(STEPS, mode=Mode.GRACEFUL, live=False), records(run(), ordered(17, asked=16, **since(13)), *LATER))
    assert (drill.begin, drill.seconds) == (at(12), pytest.approx(14.25))
    assert switched(records(run())) is None


def test_the_evidence_beside_the_order_is_of_the_site_that_is_left() -> None:
    def told(**probes: ProbeSeen) -> tuple[object, object, object]:
        looked = seen()
        found = evidence(looked.but(probes=probes), ["east", "db", "gone"])
        lasting = max((each.failing_seconds for name, each in probes.items() if name in found["failing"]), default=None)  # type: ignore[operator]
        assert found["failed_by"] == (None if lasting is None else rfc3339(looked.at - timedelta(seconds=lasting)))
        return found["outcome"], found["failing"], found["failing_since"]

    well, blind = ProbeSeen(outcome="passed"), ProbeSeen(outcome="unproven")
    lost = ProbeSeen(outcome="failed", failing_since=at(5))
    assert told(east=lost, db=lost.but(failing_since=at(3)), west=lost.but(failing_since=at(1))) == (
        "failed", ["east", "db"], rfc3339(at(3)),
    )  # fmt: skip
    lasting = lost.but(failing_seconds=7.0)
    assert told(east=lasting, db=lost.but(failing_seconds=4.0))[0] == "failed"
    assert told(east=lost.but(failing_since=None), db=well) == ("failed", ["east"], None)
    assert told(east=well, db=well, west=blind) == ("passed", [], None)
    assert told(east=well, db=blind) == ("unproven", [], None)
    assert told() == ("unproven", [], None)


def by(when: float, at_latest: float) -> dict[str, object]:
    return {"failing_since": rfc3339(at(when)), "failed_by": rfc3339(at(at_latest))}


def test_what_was_committed_between_the_last_pass_and_the_first_failure_counts_as_not_come_back() -> None:
    """RTO begins with the earlier of the two and RPO ends with the later: each is a bound from above."""
    told = changed(plan(), records(run(), ended("declare", 12, 13, **by(0, 0.25)), *WHOLE[1:]), OBJECTIVES, None)
    assert (told.rto_seconds, told.rpo_seconds) == (pytest.approx(22.25), pytest.approx(1.75))
    assert told.outage_began_at == at(0)


@pytest.mark.parametrize(
    ("told", "over"),
    [
        ((run(), ended("declare", 12, 13, **by(0, 0.5))), 0.5),
        ((run(), ended("declare", 12, 13, failing_since=rfc3339(at(0)))), 0),
        ((run(rfc3339(at(-3))), ended("declare", 12, 13, **by(0, 0.5))), -3),
        ((run(), ended("declare", 12, 13)), None),
    ],
)
def test_the_last_commit_of_the_old_site_is_no_later_than_the_first_failure_or_what_a_person_said(
    told: tuple[Told, ...], over: float | None
) -> None:
    assert over_by(plan(), records(*told)) == (None if over is None else at(over))


def test_in_a_run_that_was_switched_it_is_by_the_evidence_beside_the_order_or_by_its_own_demotion() -> None:
    def over(*told: Told) -> object:
        return over_by(plan(STEPS, mode=Mode.GRACEFUL), records(run(), *told))

    lost = {**since(13), "failed_by": rfc3339(at(13.5))}
    assert over(ordered(17, asked=16, **lost)) == at(13.5)
    stopped = (begun("demote", 12), ended("demote", 12, 13, at=rfc3339(at(12.5)), lsn=100))
    assert over(*stopped, ordered(17, asked=16, **lost)) == at(12.5)
    assert over(begun("demote", 12)) == at(12)
