"""A leash's word at the witness: when its lapsed lease proves the end of a primary, and when it does not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from recovery.term import WORD_SECONDS, Leashed, doubt, strictest

T0 = datetime(2026, 11, 28, 3, tzinfo=UTC)
LEASE_SECONDS = 15.0


def word(member: str = "east", **more: Any) -> Leashed:
    told = {
        "resource": "orders-db", "site": "east", "member": member, "lease_seconds": LEASE_SECONDS,
        "clock_bound_seconds": 2, "asks": ("witness", "west"), "at": T0, "generation": 3, "system_id": "7",
    }  # fmt: skip
    return Leashed.model_validate({**told, **more})


def judged(*words: Leashed, late_seconds: float = 0.0, **more: Any) -> str:
    known = {"system_id": "7", "since": 3, "committed_at": T0 + timedelta(seconds=late_seconds)}
    return doubt(words, site="east", **{**known, **more})


def test_a_word_that_its_leash_renews_is_believed_however_long_ago_its_site_was_lost():
    """What counts is the last sign of the server's life, not the clock on the wall: the site may be gone for days."""
    bound = 2 * WORD_SECONDS + LEASE_SECONDS
    assert judged(word(), late_seconds=-3600) == ""
    assert judged(word(), late_seconds=bound) == ""
    assert judged(word(), committed_at=None) == "", "no commit is known: nothing speaks against it"


def test_a_server_that_committed_long_after_its_leash_s_last_word_may_have_none_any_more():
    """The leash was uninstalled, or the machine made anew without one: its word would stand for ever."""
    found = judged(word(), late_seconds=2 * WORD_SECONDS + LEASE_SECONDS + 1)
    assert "the server may run without it" in found
    assert "136 s before the last commit" in found


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"asks": ("witness", "east")}, "lets its own site confirm it"),
        ({"system_id": "8"}, "system 8, not of 7"),
        ({"generation": 2}, "may have let it run unconfirmed"),
    ],
)
def test_every_word_counts_and_one_that_does_not_hold_is_enough(told: dict[str, Any], why: str):
    assert judged(word(), word("east2")) == ""
    assert why in judged(word(), word("east2", **told))
    assert "east2" in judged(word(), word("east2", **told))


def test_what_nobody_knows_is_not_compared():
    assert judged(word(system_id="")) == "", "a leash tells no system while there is no data"
    assert judged(word(), system_id="") == ""
    assert judged(word(generation=0), since=0) == ""


def test_the_strictest_of_all_words_is_waited_for():
    found = strictest((word(), word("east2", lease_seconds=30, clock_bound_seconds=1, asks=("witness", "north"))))
    assert (found.lease_seconds, found.clock_bound_seconds) == (30, 2)
    assert found.asks == ("north", "west", "witness")


@pytest.mark.parametrize(
    ("told", "alike"),
    [
        ({"at": T0 + timedelta(hours=1), "generation": 9}, True),
        ({"lease_seconds": 60}, False),
        ({"asks": ("witness", "west", "north")}, False),
        ({"clock_bound_seconds": 3}, False),
        ({"system_id": "8"}, False),
    ],
)
def test_two_words_bind_alike_whatever_was_known_when_they_were_said(told: dict[str, Any], alike: bool):
    assert word().binds_like(word(**told)) is alike
