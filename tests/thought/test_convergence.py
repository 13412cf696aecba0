"""A server has turned after a series of new answers without an old one between; its first instant is the one told."""

from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recovery.convergence import Said, Watched, converged, heard, percentile, same, turned

ANSWERS = st.lists(st.sampled_from(["new", "other", "silent"]), max_size=30)


def after(answers: list[Said]) -> Watched:
    watched = Watched()
    for at, said in enumerate(answers):
        watched = heard(watched, said, at_seconds=float(at))
    return watched


@given(answers=ANSWERS, series=st.integers(1, 8))
def test_it_has_turned_when_the_last_answers_are_new_with_nothing_old_between(answers: list[Said], series: int) -> None:
    since_old = answers[len(answers) - answers[::-1].index("other") :] if "other" in answers else answers
    news = since_old.count("new")
    assert turned(after(answers), series) is (answers[-1:] == ["new"] and news >= series)


@given(answers=ANSWERS)
def test_its_time_is_that_of_the_first_new_answer_after_the_last_old_one(answers: list[Said]) -> None:
    begin = len(answers) - answers[::-1].index("other") if "other" in answers else 0
    news = [at for at, said in enumerate(answers) if said == "new" and at >= begin]
    found = after(answers)
    assert found.new_seconds == (news[0] if news else None)
    assert found.asks == len(answers)
    assert found.answered is bool(set(answers) - {"silent"})


@given(answers=ANSWERS, last=st.sampled_from(["other", "silent"]))
def test_who_answers_otherwise_or_not_at_all_has_never_turned(
    answers: list[Said], last: Literal["other", "silent"]
) -> None:
    assert not turned(after([*answers, last]))
    assert not converged({"a": after(["new"] * 9), "b": after([*answers, last])})


def test_nobody_asked_is_nothing_proved() -> None:
    assert not converged({})
    assert converged({"a": after(["other", "new", "new"])})


@given(values=st.lists(st.floats(0, 1e6), min_size=1), share=st.floats(0.01, 1))
def test_a_percentile_is_one_of_the_values_and_enough_of_them_do_not_exceed_it(
    values: list[float], share: float
) -> None:
    found = percentile(values, share)
    assert found in values
    below = sum(each <= found for each in values)
    assert below >= share * len(values) - 1e-9
    assert sum(each < found for each in values) < share * len(values)


def test_a_percentile_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


@pytest.mark.parametrize(
    ("values", "wanted", "is_same"),
    [
        (["192.0.2.1"], "192.0.2.1", True),
        (["2001:db8:0:0::1"], "2001:DB8::1", True),
        (["West.Example.com."], "west.example.com", True),
        (["192.0.2.1", "192.0.2.2"], "192.0.2.1", False),
        ([], "192.0.2.1", False),
        (["192.0.2.10"], "192.0.2.1", False),
    ],
)
def test_an_answer_is_the_site_s_when_it_gives_that_and_nothing_else(
    values: list[str], wanted: str, is_same: bool
) -> None:
    assert same(values, wanted) is is_same
