"""Who may be primary: terms only grow, and no two sites may both write, whoever is cut off from whom."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from recovery.evidence import Signature
from recovery.lease import Under
from recovery.order import Order, SignedOrder, outdated, refusal
from recovery.policy import FencePolicy
from recovery.term import (
    Hold,
    Leashed,
    Ours,
    Overtaken,
    Permit,
    Run,
    Term,
    Write,
    leashed_key,
    may_run,
    newest,
    next_term,
    term_key,
    wait_seconds,
)

T0 = datetime(2026, 11, 24, 3, tzinfo=UTC)
FRESH = Permit(left_seconds=5.0)


def term(primary: str, generation: int = 1, turn: int = 0, run: str = "r1", resource: str = "orders-db") -> Term:
    return Term(resource=resource, generation=generation, turn=turn, primary=primary, run=run, at=T0)


def test_before_any_change_of_roles_the_confirmed_primary_runs():
    assert may_run("east", standby=False, held="", known=None, permit=FRESH) == Run(why="confirmed")
    assert term_key("orders-db") == "terms/orders-db.json"
    assert leashed_key("orders-db", "west-2") == "leash/orders-db/west-2.json"


@pytest.mark.parametrize(
    ("permit", "said"),
    [
        (Permit(), "has confirmed yet"),
        (Permit(left_seconds=0.0), "confirms any more"),
        (Permit(left_seconds=-3.0), "confirms any more"),
    ],
)
def test_without_a_permit_it_is_held_until_somebody_confirms(permit: Permit, said: str):
    found = may_run("east", standby=False, held="", known=term("east"), permit=permit)
    assert isinstance(found, Hold)
    assert not found.final
    assert said in found.why


def test_a_newer_primary_holds_it_for_good_whatever_its_permit_says():
    found = may_run("east", standby=False, held="", known=term("west", 4), permit=FRESH)
    assert found == Hold(why="west is the primary of orders-db since generation 4", final=True)
    trusted = Permit(left_seconds=None, trusted=9)
    assert isinstance(may_run("east", standby=False, held="", known=term("west", 4), permit=trusted), Hold)


def test_a_standby_needs_no_permit_but_obeys_an_order_to_stop():
    assert isinstance(may_run("east", standby=True, held="", known=term("west"), permit=Permit()), Run)
    assert may_run("east", standby=True, held="order 7", known=None, permit=FRESH) == Hold(why="order 7", final=True)


def test_people_s_signature_counts_for_its_generation_only():
    trusted = Permit(trusted=2)
    assert isinstance(may_run("west", standby=False, held="", known=None, permit=trusted), Run)
    assert isinstance(may_run("west", standby=False, held="", known=term("west", 2), permit=trusted), Run)
    assert isinstance(may_run("west", standby=False, held="", known=term("west", 3), permit=trusted), Hold)


def test_it_says_in_which_generation_it_is_confirmed():
    found = may_run("west", standby=False, held="", known=term("west", 3), permit=FRESH)
    assert found == Run(why="confirmed in generation 3")


def test_terms_are_written_taken_as_ours_or_found_overtaken():
    wanted = term("west", 3, run="mine")
    assert next_term(None, wanted) == Write(term=wanted)
    assert next_term(None, wanted.but(turn=7)) == Write(term=wanted.but(turn=7))
    assert next_term(term("east", 2, turn=5), wanted) == Write(term=wanted)
    assert next_term(term("west", 3, run="other"), wanted) == Ours(term=term("west", 3, run="other"))
    assert next_term(term("east", 3, turn=1), wanted) == Write(term=wanted.but(turn=2))
    assert next_term(term("east", 3, turn=1), wanted.but(turn=6)) == Write(term=wanted.but(turn=6))
    assert next_term(term("west", 4), wanted) == Overtaken(by=term("west", 4))
    with pytest.raises(ValueError, match="is of billing"):
        next_term(term("west", resource="billing"), wanted)


def test_an_engine_that_slept_while_another_took_its_lease_changes_no_term():
    slept = term("west", 3).but(lease=7)
    for stands in (term("east", 3, turn=1), term("west", 3), term("east", 2)):
        assert next_term(stands.but(lease=8), slept) == Overtaken(by=stands.but(lease=8))
        assert next_term(stands.but(lease=7), slept) != Overtaken(by=stands.but(lease=7))
    assert next_term(term("east", 3), slept) == Write(term=slept.but(turn=1)), "by hand: under no lease"


def test_the_newest_of_what_is_known_counts():
    assert newest() is None
    assert newest(None, None) is None
    assert newest(term("east", 2), None, term("west", 2, turn=1)) == term("west", 2, turn=1)


def test_a_fence_waits_for_the_longer_of_what_leash_and_catalog_say():
    leashed = Leashed(
        resource="orders-db", site="east", member="east", lease_seconds=20, clock_bound_seconds=1, asks=("w",), at=T0
    )
    assert wait_seconds(leashed, lease_seconds=15, clock_bound_seconds=2) == 22
    assert wait_seconds(leashed, lease_seconds=30, clock_bound_seconds=0.5) == 31


def test_a_policy_has_the_figures_of_production_and_bounds():
    policy = FencePolicy()
    assert (policy.lease, policy.clock_bound) == (timedelta(seconds=15), timedelta(seconds=2))
    for wrong in ({"lease": "0 s"}, {"clock_bound": "0 s"}, {"lease": "11 min"}):
        with pytest.raises(ValidationError):
            FencePolicy.model_validate(wrong)


terms = st.builds(term, st.sampled_from(["east", "west"]), st.integers(1, 4), st.integers(0, 2))


@given(st.lists(terms, max_size=8))
def test_what_stands_at_the_witness_only_grows(wanted: list[Term]):
    stored: Term | None = None
    for each in wanted:
        match next_term(stored, each):
            case Write(term=written):
                assert stored is None or written.order > stored.order
                assert written.primary == each.primary
                stored = written
            case Ours(term=same):
                assert same == stored
                assert same.primary == each.primary
            case Overtaken(by=by):
                assert by == stored


@dataclass
class Site:
    """A site's leash by its own clock, which runs faster or slower than the true one by up to the clock bound."""

    name: str
    primary: bool
    known: Term | None = None
    confirmed_at: float | None = None

    def writes(self, now: float, lease: float) -> bool:
        left = None if self.confirmed_at is None else lease - (now - self.confirmed_at)
        found = may_run(
            self.name, standby=not self.primary, held="", known=self.known, permit=Permit(left_seconds=left)
        )
        return self.primary and isinstance(found, Run)


@settings(max_examples=400)
@given(st.lists(st.booleans(), min_size=30, max_size=30), st.integers(0, 20), st.floats(0.95, 1.0))
def test_promoted_after_the_lease_and_the_bound_no_two_sites_ever_write(
    reaches: list[bool], fence_at: int, east_clock: float
):
    lease, bound = 4.0, 0.5
    east, west = Site("east", primary=True, confirmed_at=0.0), Site("west", primary=False)
    witness: Term | None = None
    fenced: float | None = None
    for tick, reached in enumerate(reaches):
        now, easts = float(tick), tick * east_clock  # a slow clock lets a permit last longer than it should
        if tick == fence_at:
            match next_term(witness, term("west")):
                case Write(term=witness):
                    fenced = now
        if reached:
            east.known, east.confirmed_at = newest(east.known, witness), easts
        if fenced is not None and now >= fenced + lease + bound and not west.primary:
            west = Site("west", primary=True, known=witness, confirmed_at=now)
        if west.primary:
            west.confirmed_at = now
        assert not (east.writes(easts, lease) and west.writes(now, lease))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, ""),
        ({"resource": "billing"}, "for billing"),
        ({"site": "west"}, "for west"),
        ({"expires_at": T0}, "expired"),
        ({"generation": 2}, "generation 3 was ordered before"),
    ],
)
def test_an_order_is_refused_for_what_it_says(change: dict[str, object], said: str):
    order = Order(
        id="a-1", what="stop", resource="orders-db", site="east", generation=3, run="r",
        expires_at=T0 + timedelta(seconds=1),
    ).but(**change)  # fmt: skip
    why = refusal(order, site="east", resource="orders-db", newest=3, now=T0)
    assert (said in why) if said else why == ""


def under(lease: str, generation: int, name: str = "a-1") -> Order:
    lease_of = Under(lease=lease, generation=generation)
    words = {"what": "stop", "resource": "orders-db", "site": "east", "generation": 3, "run": "r", "expires_at": T0}
    return Order.model_validate({"id": name, "under": lease_of, **words})


@pytest.mark.parametrize(
    ("order", "known", "said"),
    [
        (under("shop", 5), [], ""),
        (under("shop", 5), [under("shop", 4), under("shop", 5)], ""),
        (under("shop", 5), [under("bank", 9)], ""),
        (under("shop", 5), [under("shop", 5).but(under=None)], ""),
        (under("shop", 5), [under("shop", 6), under("shop", 4)], "under generation 6"),
        (under("shop", 5).but(under=None), [], "under no lease"),
    ],
)
def test_an_order_of_an_older_generation_of_the_lease_counts_for_nothing(order: Order, known: list[Order], said: str):
    why = outdated(order, known)
    assert (said in why) if said else why == ""


def test_only_the_expiry_of_an_order_and_its_lease_s_generation_may_change():
    order = under("shop", 5)
    assert order.same(order.but(expires_at=T0 + timedelta(days=1)))
    assert order.same(under("shop", 6))
    assert not order.same(order.but(arguments={"fast_seconds": 1}))
    signed = SignedOrder(
        order=order, public_key="pem", signature=Signature(who="engine", key="a" * 64, ed25519="0" * 128)
    )
    assert SignedOrder.model_validate_json(signed.model_dump_json()) == signed
    with pytest.raises(ValidationError):
        order.but(id="../../etc/passwd")
