"""What an observer's journal says: outages, missing rows and second writers, each figure by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.lab.observed import Try, loss_seconds, outages, second_writers, told

START = datetime(2026, 11, 24, 20, 0, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def good(begun: float, ended: float, seq: int = 0, **more: Any) -> Try:
    return Try(seq=seq, begun_at=at(begun), ended_at=at(ended), outcome="acknowledged", **{"site": "east", **more})


def bad(begun: float, ended: float, seq: int = 0) -> Try:
    return Try(seq=seq, begun_at=at(begun), ended_at=at(ended), outcome="failed", why="TimeoutError")


CASES = {
    "nothing was tried": ([], []),
    "all went well": ([good(0, 0.1), good(0.5, 0.6)], []),
    "a pause of the observer is no outage": ([good(0, 0.1), good(90, 90.1)], []),
    "a site was lost: from the last answer to the first": (
        [good(0, 0.1), good(1, 1.1), bad(2, 3), bad(3, 4), good(8.0, 8.3), good(9, 9.1)],
        [(1.1, 8.3)],
    ),
    "tries that hang and tries that are answered overlap": (
        [good(0, 0.1), bad(0.2, 1.2), bad(0.3, 1.3), bad(0.4, 1.4), good(0.9, 1.0), good(1.0, 1.1)],
        [(0.1, 1.0)],
    ),
    "one refusal between two answers": ([good(0, 0.1), bad(0.2, 0.21), good(0.3, 0.4)], [(0.1, 0.4)]),
    "an answer that took long began before the failure": ([good(0, 0.1), bad(0.2, 0.3), good(0.05, 5)], [(0.1, 5)]),
    "two outages": (
        [good(0, 0.1), bad(1, 2), good(3, 3.1), good(4, 4.1), bad(5, 5.1), good(6, 6.1)],
        [(0.1, 3.1), (4.1, 6.1)],
    ),
    "it lasts": ([good(0, 0.1), bad(1, 2), bad(2, 3)], [(0.1, None)]),
    "it failed from the beginning": ([bad(1, 2), good(4, 4.1)], [(1, 4.1)]),
    "nothing was ever acknowledged": ([bad(1, 2), bad(2, 3)], [(1, None)]),
}


@pytest.mark.parametrize("name", CASES)
def test_outages(name: str) -> None:
    tries, wanted = CASES[name]
    assert [(each.begin, each.end) for each in outages(tries)] == [
        (at(begin), None if end is None else at(end)) for begin, end in wanted
    ]


def test_an_outage_that_lasts_is_as_long_as_it_was_looked_at() -> None:
    assert outages([good(0, 0.1), bad(1, 2), bad(2, 3.6)])[0].seconds == 3.5


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 100), st.floats(0.001, 2))), st.randoms())
def test_outages_follow_each_other_hold_every_failure_and_no_answer(tries: list[Any], chance: Any) -> None:
    journal = [good(begun, begun + took) if well else bad(begun, begun + took) for well, begun, took in tries]
    found = outages(journal)
    chance.shuffle(journal)
    assert outages(journal) == found, "the order of lines says nothing"
    for one, other in pairwise(found):
        assert one.end is not None
        assert one.end <= other.begin
    for each in journal:
        inside = [one for one in found if one.begin <= each.begun_at and (one.end is None or each.begun_at < one.end)]
        if each.outcome == "failed":
            assert len(inside) == 1
        else:
            answered = [
                one for one in found if one.begin < each.ended_at and (one.end is None or each.ended_at < one.end)
            ]
            assert answered == []


def test_a_failover_and_the_way_home_have_one_writer_at_a_time() -> None:
    journal = [
        good(0, 0.1, 1, timeline=1), good(1, 1.4, 2, timeline=1),
        good(1.2, 1.3, 3, site="west", timeline=2),  # east's answer was still on its way: it began before
        good(2, 2.1, 4, site="west", timeline=2), good(3, 3.1, 5, timeline=3),
    ]  # fmt: skip
    assert second_writers(journal) == []


def test_a_write_that_an_older_timeline_took_afterwards_proves_two_writers() -> None:
    journal = [
        good(0, 0.1, 1, timeline=1),
        good(1, 1.1, 2, site="west", timeline=2),
        good(1.2, 1.3, 3, timeline=1),
        good(1.4, 1.5, 4, site="west", timeline=2),
    ]
    (found,) = second_writers(journal, missing={3})
    assert (found.seq, found.site, found.timeline, found.after_seq, found.missing) == (3, "east", 1, 2, True)


def test_two_sites_on_one_timeline_are_two_writers() -> None:
    assert [
        each.seq for each in second_writers([good(0, 0.1, 1, timeline=2), good(1, 2, 2, site="west", timeline=2)])
    ] == [2]


def test_a_platform_that_tells_no_timeline_proves_nothing() -> None:
    assert second_writers([good(0, 0.1, 1), good(1, 2, 2, site="west"), good(3, 4, 3)]) == []


def test_the_loss_reaches_back_to_the_write_before_it() -> None:
    journal = [good(n, n + 0.1, n) for n in range(10)]
    assert loss_seconds(journal, ()) == 0
    assert loss_seconds(journal, {7, 8}) == 2.0
    assert loss_seconds(journal, {2, 7, 8, 9}) == 3.0
    assert loss_seconds(journal, {0, 1}) == 1.0, "nothing before it was kept"


def test_the_document_counts_what_is_missing_and_never_guesses() -> None:
    first = [good(0, 0.1, 1), good(1, 1.1, 2, read_back=False), bad(2, 2.1, 3)]
    second = [good(60, 60.1, 10, site="west")]
    found = told([first, second], present={1, 10, 77})
    assert (found["missing"], found["missing_count"]) == ([2], 1)
    assert (found["acknowledged"], found["failed"], found["not_read_back"]) == (3, 1, 1)
    assert found["sites"] == {"east": 2, "west": 1}
    assert found["observer_gap_seconds"] == 1.0
    assert [each["seconds"] for each in found["outages"]] == [1.0], "between two observations nobody looked"
    unknown = told([first], present=None)
    assert (unknown["missing"], unknown["missing_count"]) == ("unproven", "unproven")
