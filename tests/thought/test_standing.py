"""How a resource stands: which copy decides, what slipped, which proofs count, and the verdict."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from recovery.check import Verdict
from recovery.past import proof_of
from recovery.standing import (
    ProofState,
    Reason,
    ServerFacts,
    StoredFacts,
    duties,
    exposures,
    proof_states,
    reasons_of_duties,
    reasons_of_exposure,
    reasons_of_faults,
    reasons_of_proofs,
    state_of,
    verdict_of,
)
from tests.thought.ledger_scene import NOON, catalog, minutes, proved

HERE = catalog()
OBJECTIVE = HERE.objectives["critical"]
PRIMARY = ServerFacts(site="east", role="primary", system_id="1", timeline=1, lsn=100, flushed_lsn=100)


def standby(**changes: Any) -> ServerFacts:
    facts = {"site": "west", "role": "standby", "system_id": "1", "timeline": 1, "lsn": 90, "committed_at": minutes(-1)}
    return ServerFacts.model_validate({**facts, **changes})


def bucket(**changes: Any) -> StoredFacts:
    facts = {"site": "west", "system_id": "1", "timeline": 1, "lsn": 80, "committed_at": minutes(-2)}
    return StoredFacts.model_validate({**facts, **changes})


def seen(*servers: ServerFacts, stored: tuple[StoredFacts, ...] = ()) -> dict[str, tuple[float | None, str]]:
    found = exposures(servers, stored, surviving=["west"], now=NOON)
    return {f"{each.copy_of} {each.site}": (each.seconds, each.judged) for each in found}


def test_the_copy_with_the_least_exposure_at_the_surviving_site_decides() -> None:
    found = seen(PRIMARY, standby(), stored=(bucket(site="east", lsn=100), bucket()))
    assert found == {
        "standby west": (60.0, "decides"),
        "bucket east": (0.0, "shown"),
        "bucket west": (120.0, "shown"),
    }


def test_a_standby_that_has_replayed_everything_loses_nothing() -> None:
    assert seen(PRIMARY, standby(lsn=100)) == {"standby west": (0.0, "decides")}


def test_a_copy_of_another_system_or_timeline_is_no_copy() -> None:
    assert seen(PRIMARY, standby(system_id="2")) == {"standby west": (None, "shown")}
    assert seen(PRIMARY, stored=(bucket(timeline=2),)) == {"bucket west": (None, "shown")}


def test_without_the_primary_both_copies_count_from_their_last_confirmation() -> None:
    silent = ServerFacts(site="east", role="silent", why="refused")
    assert seen(silent, standby(), stored=(bucket(),)) == {
        "server east": (None, "shown"),
        "standby west": (60.0, "decides"),
        "bucket west": (120.0, "shown"),
    }


def test_a_bucket_without_a_restorable_backup_says_so() -> None:
    assert seen(PRIMARY, stored=(StoredFacts(site="west", why="no backup"),)) == {"bucket west": (None, "shown")}


@pytest.mark.parametrize(
    ("committed", "expected"), [(minutes(-1), []), (minutes(-16), ["missed"]), (None, ["unproven"])]
)
def test_the_objective_is_judged_by_the_deciding_copy(committed: object, expected: list[str]) -> None:
    found = exposures([PRIMARY, standby(committed_at=committed)], (), surviving=["west"], now=NOON)
    assert [each.outcome for each in reasons_of_exposure(found, OBJECTIVE)] == expected


def test_no_copy_at_all_is_unproven() -> None:
    assert [each.outcome for each in reasons_of_exposure((), OBJECTIVE)] == ["unproven"]


def test_duties_without_a_backup_are_due_and_slip_nothing() -> None:
    found = [
        state_of(each, now=NOON) for each in duties(HERE.backups["daily"], HERE.proofs["daily"], (), (), (), now=NOON)
    ]
    assert [each.what for each in found] == [
        "full backup", "incremental", "mark", "proof, mark", "proof, latest", "proof, deep", "planted fault",
    ]  # fmt: skip
    assert {each.state for each in found} == {"due"}
    assert reasons_of_duties(found) == ()


def test_a_policy_without_incrementals_deep_proofs_or_faults_has_no_such_duty() -> None:
    policy = HERE.backups["daily"].but(incremental=None)
    proofs = HERE.proofs["daily"].but(deep=None, planted_fault="never")
    found = duties(policy, proofs, (), (), (), now=NOON)
    assert [each.what for each in found] == ["full backup", "mark", "proof, mark", "proof, latest"]


def test_what_was_missed_and_late_is_counted_and_the_newest_named() -> None:
    taken = [("full", minutes(-5 * 60)), ("incremental", minutes(-15))]
    found = duties(HERE.backups["daily"], HERE.proofs["daily"], taken, (), (), now=NOON)
    states = [state_of(each, now=NOON) for each in found]
    reasons = {each.subject: each.fact for each in reasons_of_duties(states)}
    assert reasons["incremental"] == "4 missed, 1 late; the newest of them at 2026-11-24T11:30Z"
    assert "full backup" not in reasons


def test_mark_slots_count_only_from_the_oldest_mark_that_was_read() -> None:
    marked = (minutes(-45), minutes(-44))
    found = duties(HERE.backups["daily"], HERE.proofs["daily"], [("full", minutes(-300))], marked, (), now=NOON)
    mark = next(state_of(each, now=NOON) for each in found if each.what == "mark")
    assert (mark.state, mark.slips) == ("kept", ())


def test_proofs_keep_their_slots_by_sort_and_level_and_an_unproven_one_keeps_none() -> None:
    runs = [
        proved(minutes(-10)),
        proved(minutes(-9), sort="mark", verdict="unproven"),
        proved(minutes(-8), sort="random", level="deep"),
        proved(minutes(-7), planted={"name": "x", "what": "y", "detected": True}),
    ]
    found = duties(HERE.backups["daily"], HERE.proofs["daily"], (), (), runs, now=NOON)
    done = {each.what: len(each.done) for each in found if "proof" in each.what or "fault" in each.what}
    assert done == {"proof, mark": 0, "proof, latest": 1, "proof, deep": 1, "planted fault": 1}


def states(*runs: Any) -> tuple[ProofState, ...]:
    return proof_states([made for each in runs if (made := proof_of(each)) is not None], OBJECTIVE, now=NOON)


def test_a_service_is_met_only_with_a_fresh_met_proof_of_each_sort() -> None:
    found = states(proved(minutes(-10)), proved(minutes(-10), sort="mark"))
    assert reasons_of_proofs(found, OBJECTIVE) == ()
    assert [each.state for each in found] == ["fresh", "fresh"]


def test_a_stale_a_missed_an_unproven_and_a_lacking_proof_each_say_why() -> None:
    day = 24 * 60
    for run, outcomes in (
        (proved(minutes(-day - 1)), ["unproven", "unproven"]),
        (proved(minutes(-1), verdict="missed"), ["unproven", "missed"]),
        (proved(minutes(-1), verdict="unproven"), ["unproven", "unproven"]),
    ):
        assert [each.outcome for each in reasons_of_proofs(states(run), OBJECTIVE)] == outcomes


def test_a_proof_is_fresh_until_its_age_is_reached_and_the_newest_counts() -> None:
    edge = states(proved(NOON - timedelta(days=1)), proved(NOON - timedelta(days=2), verdict="missed"))
    assert (edge[1].state, edge[1].verdict) == ("fresh", Verdict.MET)


def test_a_proof_with_a_planted_fault_is_no_proof_of_the_data() -> None:
    planted: dict[str, Any] = {"name": "index-dropped", "what": "an index", "detected": False}
    assert states(proved(NOON, planted=planted))[1].state == "none"


def test_a_fault_that_was_not_caught_last_time_is_a_hole() -> None:
    def run(minute: int, detected: bool) -> Any:
        return proof_of(proved(minutes(minute), planted={"name": "rows", "what": "rows", "detected": detected}))

    assert [each.outcome for each in reasons_of_faults([run(1, False)])] == ["missed"]
    assert reasons_of_faults([run(2, True), run(1, False)]) == ()
    assert reasons_of_faults([proof_of(proved(NOON)) or run(0, True)]) == ()


def test_missed_beats_unproven_and_a_warning_decides_nothing() -> None:
    def reason(outcome: Any) -> Reason:
        return Reason(outcome=outcome, subject="s", fact="f", hint="h")

    assert verdict_of([reason("unproven"), reason("missed")]) is Verdict.MISSED
    assert verdict_of([reason("warning"), reason("unproven")]) is Verdict.UNPROVEN
    assert verdict_of([reason("warning")]) is Verdict.MET
