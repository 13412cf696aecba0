"""The fold of a journal: what the resolver is told of the past, from every prefix of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recovery.drive import Tried
from recovery.evidence import GENESIS, Record
from recovery.journal import attempts, generation, history, outcome, results
from recovery.step import Mode

T0 = datetime(2026, 11, 24, 3, tzinfo=UTC)
KINDS = [
    "step.begun",
    "step.ended",
    "step.failed",
    "order.paused",
    "order.resumed",
    "order.cancelled",
    "order.skipped",
    "order.retried",
    "order.ungraceful",
    "run.begun",
    "run.ended",
    "proof",
]


def told(*facts: tuple[str, dict[str, Any]]) -> list[Record]:
    return [
        Record(
            run="r",
            sequence=n,
            previous=GENESIS,
            kind=kind,
            subject="db",
            begin=T0 + timedelta(seconds=n),
            who="alice",
            generation=n,
            facts=fact,
        )
        for n, (kind, fact) in enumerate(facts)
    ]


def fold(*facts: tuple[str, dict[str, Any]]) -> Tried:
    return history(told(*facts)).of("s")


S = {"step": "s"}
FAIL = {**S, "attempt": 1, "fact": "disk full", "hint": "free space"}


def test_nothing_is_known_of_a_step_that_was_never_begun() -> None:
    assert fold() == Tried()


def test_begun_counts_attempts_and_not_records() -> None:
    tried = fold(("step.begun", {**S, "attempt": 1}), ("step.begun", {**S, "attempt": 1}))
    assert (tried.begun, tried.last_begun_at) == (1, T0 + timedelta(seconds=1))


def test_a_beginning_without_its_number_is_the_next_attempt() -> None:
    assert fold(("step.begun", S), ("step.begun", {**S, "attempt": True})).begun == 2


def test_a_failure_tells_its_fact_its_hint_and_whether_it_is_final() -> None:
    tried = fold(("step.begun", {**S, "attempt": 1}), ("step.failed", {**FAIL, "final": True}))
    assert (tried.failed, tried.last_fact, tried.last_hint, tried.final) == (1, "disk full", "free space", True)
    assert tried.last_failed_at == T0 + timedelta(seconds=1)


def test_an_attempt_that_was_open_when_the_run_was_taken_up_again_was_cut_off_and_did_not_fail() -> None:
    begun, again = ("step.begun", {**S, "attempt": 1}), ("step.begun", {**S, "attempt": 2})
    died = fold(begun, ("run.resumed", {}), ("run.resumed", {}), again)
    assert (died.begun, died.cut_off, died.is_open, died.tries) == (2, 1, True, 1)
    for kind, facts in (("step.failed", FAIL), ("step.ended", {**S, "attempt": 1})):
        told = fold(begun, (kind, facts), ("run.resumed", {}), again)
        assert (told.cut_off, told.tries) == (0, 2), kind


def test_a_failure_is_dated_by_its_end() -> None:
    record = told(("step.failed", FAIL))[0].model_copy(update={"end": T0 + timedelta(hours=1)})
    assert history([record]).of("s").last_failed_at == T0 + timedelta(hours=1)


def test_a_success_closes_the_row_of_failures() -> None:
    tried = fold(("step.begun", {**S, "attempt": 1}), ("step.failed", FAIL), ("step.ended", {**S, "attempt": 2}))
    assert (tried.failed, tried.last_failed_at, tried.last_fact, tried.ended) == (0, None, "", 1)


def test_an_ordered_retry_overrules_a_final_failure_and_grants_tries() -> None:
    tried = fold(("step.failed", {**FAIL, "final": True}), ("order.retried", {**S, "tries": 2}), ("order.retried", S))
    assert (tried.final, tried.extra_tries) == (False, 3)


def test_skipping_is_remembered() -> None:
    assert fold(("order.skipped", S)).skipped


def test_pause_lasts_until_resumed_and_says_why_or_at_least_who() -> None:
    assert history(told(("order.paused", {"why": "lunch"}))).paused == "lunch"
    assert history(told(("order.paused", {}))).paused == "by alice"
    assert history(told(("order.paused", {}), ("order.resumed", {}))).paused == ""


def test_cancelled_is_for_good() -> None:
    assert history(told(("order.cancelled", {"why": "wrong site"}), ("order.resumed", {}))).cancelled == "wrong site"


def test_other_kinds_are_passed_over() -> None:
    assert fold(("proof", S), ("step.begun", {"step": 7}), ("step.begun", {})) == Tried()


def test_results_are_those_of_the_last_success() -> None:
    records = told(("step.ended", {**S, "result": 1}), ("step.ended", {**S, "result": {"x": 2}}), ("step.ended", {}))
    assert results(records) == {"s": {"x": 2}}


def test_attempts_are_all_that_may_have_left_something() -> None:
    records = told(("step.begun", {**S, "attempt": 2}), ("step.begun", {**S, "attempt": 1}), ("step.failed", FAIL))
    assert attempts(records) == {"s": (1, 2)}


def test_the_variant_is_the_planned_one_until_people_order_the_other() -> None:
    assert history([]).mode(Mode.GRACEFUL) is Mode.GRACEFUL
    assert history(told(("order.ungraceful", {}))).mode(Mode.GRACEFUL) is Mode.UNGRACEFUL


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ([], None),
        ([("run.begun", {})], None),
        ([("run.ended", {"outcome": "held"})], "held"),
        ([("run.ended", {})], ""),
    ],
)
def test_the_outcome_is_named_by_the_last_record(facts: list[tuple[str, dict[str, Any]]], said: str | None) -> None:
    assert outcome(told(*facts)) == said


def test_the_newest_generation_counts_wherever_it_stands() -> None:
    assert (generation([]), generation(told(("proof", {}), ("proof", {})))) == (0, 1)


JSON = (
    st.none()
    | st.booleans()
    | st.integers(-2, 5)
    | st.sampled_from(["", "s", "t"])
    | st.lists(st.integers(0, 1), max_size=1)
)
FACTS = st.dictionaries(st.sampled_from(["step", "attempt", "final", "fact", "hint", "why", "tries", "result"]), JSON)


@given(st.lists(st.tuples(st.sampled_from(KINDS), FACTS), max_size=12))
def test_any_prefix_of_any_journal_folds(facts: list[tuple[str, dict[str, Any]]]) -> None:
    records = told(*facts)
    before: dict[str, int] = {}
    for length in range(len(records) + 1):
        folded = history(records[:length])
        begun = {step: tried.begun for step, tried in folded.steps.items()}
        assert all(begun[step] >= number for step, number in before.items()), "attempts never count down"
        before = begun
        assert results(records[:length]) is not None
        assert attempts(records[:length]) is not None
