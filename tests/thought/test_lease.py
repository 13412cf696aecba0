"""A lease lets one process drive at a time, by clocks that differ, and its generation only grows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recovery.errors import Refused
from recovery.lease import Held, Lease, Mine, Request, Take, decide, following, lease_key, made

T0 = datetime(2026, 11, 24, 3, tzinfo=UTC)
BOUND = timedelta(seconds=2)
ALICE = Request(service="shop", owner="alice@a [x:1:1]", run="r1")
BOB = Request(service="shop", owner="bob@b [y:2:2]", run="r2")
HERS = made(ALICE, 7, T0, 30)


def after(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def test_the_first_ever_takes_generation_one() -> None:
    assert decide(None, ALICE, T0, BOUND) == Take(generation=1)


def test_where_it_is_not_there_it_begins_behind_all_that_may_have_been_lost() -> None:
    released = HERS.model_copy(update={"released": True})
    cases = [(None, int(T0.timestamp())), (HERS, 7), (released, 8), (HERS.model_copy(update={"run": "r9"}), 8)]
    assert [following(lease, "r1", T0) for lease, _ in cases] == [generation for _, generation in cases]


def test_the_owner_may_renew_while_it_lasts() -> None:
    assert decide(HERS, ALICE, after(29), BOUND) == Mine(lease=HERS)


def test_another_is_told_who_drives_in_which_run_and_until_when() -> None:
    held = decide(HERS, BOB, after(29), BOUND)
    assert held == Held(by=HERS, until=after(32))
    refusal = held.refusal()
    assert "alice@a" in refusal.fact
    assert "run r1" in refusal.fact
    assert refusal.exit_code == 4


def test_the_same_owner_with_another_run_is_another() -> None:
    other = Request(service="shop", owner=ALICE.owner, run="r9")
    assert isinstance(decide(HERS, other, after(1), BOUND), Held)


def test_an_expired_lease_is_free_only_after_the_clock_bound() -> None:
    assert isinstance(decide(HERS, BOB, after(31.9), BOUND), Held)
    assert decide(HERS, BOB, after(32), BOUND) == Take(generation=8)


def test_its_own_owner_too_takes_a_new_generation_after_expiry() -> None:
    assert isinstance(decide(HERS, ALICE, after(30), BOUND), Held)
    assert decide(HERS, ALICE, after(32), BOUND) == Take(generation=8)


def test_a_released_lease_is_free_at_once_and_the_generation_grows() -> None:
    released = HERS.model_copy(update={"released": True, "expires_at": after(5)})
    assert decide(released, BOB, after(5), BOUND) == Take(generation=8)


def test_an_owner_that_has_certainly_ended_is_not_waited_for() -> None:
    knows = Request(service="shop", owner=BOB.owner, run="r1", dead=frozenset({ALICE.owner}))
    assert decide(HERS, knows, after(1), BOUND) == Take(generation=8)


def test_a_lease_of_another_service_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="not of bank"):
        decide(HERS, Request(service="bank", owner="x", run="r"), T0, BOUND)


@pytest.mark.parametrize("seconds", [0, -1, 601, float("nan")])
def test_no_lease_is_for_ever_or_for_nothing(seconds: float) -> None:
    with pytest.raises(ValueError, match="a lease of"):
        made(ALICE, 1, T0, seconds)


def test_a_stale_owner_cannot_act() -> None:
    HERS.check(after(29.9))
    with pytest.raises(Refused, match="expired"):
        HERS.check(after(30))
    with pytest.raises(Refused, match="was released"):
        HERS.model_copy(update={"released": True}).check(T0)


def test_a_lease_lives_under_its_service() -> None:
    assert lease_key("shop") == "leases/shop.json"


@given(
    skew=st.floats(-2, 2),
    asked_at=st.floats(0, 100),
    seconds=st.floats(1, 60),
)
def test_two_owners_never_hold_at_one_true_instant_while_clocks_keep_the_bound(
    skew: float, asked_at: float, seconds: float
) -> None:
    """Alice's clock is the true one, Bob's is off by `skew`; he asks at a true instant."""
    hers = made(ALICE, 1, T0, seconds)
    his_now = after(asked_at + skew)
    if isinstance(decide(hers, BOB, his_now, BOUND), Take):
        with pytest.raises(Refused):
            hers.check(after(asked_at + 0.000002))  # instants have microseconds


@given(st.lists(st.tuples(st.sampled_from([ALICE, BOB]), st.floats(0, 40), st.booleans()), max_size=20))
def test_the_generation_never_falls_whatever_happens(events: list[tuple[Request, float, bool]]) -> None:
    lease: Lease | None = None
    now, newest = T0, 0
    for request, passed, release in events:
        now += timedelta(seconds=passed)
        match decide(lease, request, now, BOUND):
            case Take(generation=generation):
                assert generation == newest + 1
                lease, newest = made(request, generation, now, 30), generation
            case Mine(lease=mine):
                assert (mine.owner, mine.generation) == (request.owner, newest)
            case Held(by=by):
                assert by.owner == lease.owner if lease else None
        if release and lease is not None:
            lease = lease.model_copy(update={"released": True, "expires_at": now})
