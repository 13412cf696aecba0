"""Consent: whose, to what, to which dangers, until when; and every way in which it is not enough."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recovery.approval import (
    FORM,
    Admitted,
    Approval,
    Asked,
    ConsentPolicy,
    Given,
    GivenStanding,
    Missing,
    StandingApproval,
    admitted,
    approval_key,
    facts_of_refusal,
    standing_key,
)
from recovery.evidence import Signature
from recovery.hazard import Acceptance, Hazard, uncovered
from recovery.step import Mode

NOW = datetime(2026, 11, 24, 3, tzinfo=UTC)
DIGEST, OTHER = "d" * 64, "e" * 64
PEOPLE = {"ka": "alice", "kb": "bob", "kc": "carol", "kf": FORM}
LOSS = Hazard(id="loss", klass="data-loss", figure=4.2, unit="s", text="4.2 s of commits are not at the other site")
ACCEPTS = (Acceptance(klass="data-loss", limit=10, unit="s"),)


def policy(n: int = 1, **listed: str) -> ConsentPolicy:
    return ConsentPolicy(n_of_m=n, listed=listed or PEOPLE)


def asked(**changes: Any) -> Asked:
    base: dict[str, Any] = {
        "digest": DIGEST,
        "epoch": 7,
        "runbook": "failover",
        "service": "shop",
        "mode": Mode.GRACEFUL,
        "hazards": (LOSS,),
    }
    return Asked(**{**base, **changes})


def signature(key: str) -> Signature:
    return Signature(who=PEOPLE.get(key, "mallory"), key=key, ed25519="0" * 128)


def consent(key: str = "ka", *, valid: bool = True, **changes: Any) -> Given:
    base: dict[str, Any] = {
        "digest": DIGEST,
        "epoch": 7,
        "who": PEOPLE.get(key, "mallory"),
        "accepted": ACCEPTS,
        "made_at": NOW - timedelta(minutes=1),
        "expires_at": NOW + timedelta(minutes=10),
        "signature": signature(key),
    }
    return Given(approval=Approval(**{**base, **changes}), valid=valid)


def judge(given_: Sequence[Given], n: int = 1, ask: Asked | None = None, **more: Any) -> Admitted | Missing:
    return admitted(ask or asked(), given_, more.pop("policy", policy(n)), spent=more.pop("spent", {}), now=NOW, **more)


def refused(given_: Sequence[Given], n: int = 1, ask: Asked | None = None, **more: Any) -> str:
    verdict = judge(given_, n, ask, **more)
    assert isinstance(verdict, Missing)
    return " | ".join(verdict.why)


def test_one_person_who_accepts_the_hazard_is_enough_where_one_is_asked() -> None:
    verdict = judge([consent()])
    assert isinstance(verdict, Admitted)
    assert (verdict.by, verdict.spends) == (("alice",), (consent().approval.id,))


def test_nobody_is_not_enough_even_when_the_policy_says_none() -> None:
    assert "0 of 1" in refused([], n=0)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (consent(valid=False), "no valid signature"),
        (consent(signature=None, valid=True), "not listed (none)"),
        (consent("kx"), "not listed"),
        (consent("kb", who="alice"), "somebody else's key"),
        (consent(digest=OTHER), "another plan"),
        (consent(epoch=6), "for epoch 6; the service is in epoch 7"),
        (consent(expires_at=NOW), "expired"),
        (consent(accepted=()), "does not accept data-loss 4.2 s"),
        (consent(accepted=(Acceptance(klass="data-loss", limit=4.1, unit="s"),)), "data-loss 4.2 s"),
        (consent(accepted=(Acceptance(klass="data-loss", limit=9000, unit="ms"),)), "data-loss 4.2 s"),
        (consent(accepted=(Acceptance(klass="data-loss"),)), "data-loss 4.2 s"),
        (consent(accepted=(Acceptance(klass="split-brain"),)), "data-loss 4.2 s"),
    ],
)
def test_what_is_wrong_with_an_approval_is_said(bad: Given, words: str) -> None:
    assert words in refused([bad])
    assert "0 of 1 approvals" in refused([bad])


def test_lag_that_grew_past_what_was_accepted_refuses_and_smaller_growth_does_not() -> None:
    def lag(seconds: float) -> Asked:
        return asked(hazards=(LOSS.model_copy(update={"figure": seconds}),))

    assert isinstance(judge([consent()], ask=lag(10)), Admitted)
    assert "data-loss 12 s" in refused([consent()], ask=lag(12))
    assert "data-loss nan s" in refused([consent()], ask=lag(float("nan")))


def test_a_new_hazard_refuses() -> None:
    split = Hazard(id="split", klass="split-brain")
    assert "split-brain" in refused([consent()], ask=asked(hazards=(LOSS, split)))
    both = (*ACCEPTS, Acceptance(klass="split-brain"))
    assert isinstance(judge([consent(accepted=both)], ask=asked(hazards=(LOSS, split))), Admitted)


def test_an_approval_is_spent_by_its_run_and_serves_no_other() -> None:
    spent = {consent().approval.id: DIGEST}
    assert isinstance(judge([consent()], spent=spent), Admitted), "the same run may start by it"
    assert "was spent by run eeeeeeee" in refused([consent()], spent={consent().approval.id: OTHER})


def test_a_run_whose_engine_died_between_spending_and_beginning_does_not_start_after_the_expiry() -> None:
    old = consent(expires_at=NOW - timedelta(minutes=1))
    assert "expired" in refused([old])
    assert "expired" in refused([old], spent={old.approval.id: DIGEST})


def test_consent_that_was_taken_back_is_none() -> None:
    assert "was cancelled" in refused([consent()], cancelled={consent().approval.id})
    standing = advance("ka", "kb")
    assert "was cancelled" in refused([], n=2, ask=FAILING, standing=[standing], cancelled={standing.approval.id})


def test_graceful_consent_does_not_allow_the_ungraceful_variant() -> None:
    rough = asked(mode=Mode.UNGRACEFUL)
    assert "only the graceful" in refused([consent()], ask=rough)
    assert isinstance(judge([consent(variant=Mode.UNGRACEFUL)], ask=rough), Admitted)
    assert isinstance(judge([consent(variant=Mode.UNGRACEFUL)]), Admitted)


def test_the_same_person_twice_counts_once() -> None:
    again = consent(made_at=NOW - timedelta(minutes=2))
    assert "1 of 2" in refused([consent(), again], n=2)
    two_keys = policy(2, ka="alice", kb="alice")
    assert "1 of 2" in refused([consent(), consent("kb", who="alice")], policy=two_keys)
    assert isinstance(judge([consent(), consent("kb")], n=2), Admitted)


def test_the_form_is_enough_alone_where_one_is_asked_and_never_a_person() -> None:
    form = consent("kf")
    assert judge([form]) == Admitted(by=(FORM,), spends=(form.approval.id,))
    assert f"1 of 2 approvals ({FORM} is no person)" in refused([form, consent()], n=2)
    assert isinstance(judge([form, consent(), consent("kb")], n=2), Admitted)


GIVEN = st.builds(
    consent,
    st.sampled_from(["ka", "kb", "kc", "kf", "kx"]),
    valid=st.booleans(),
    digest=st.sampled_from([DIGEST, DIGEST, OTHER]),
    epoch=st.sampled_from([7, 7, 6]),
    expires_at=st.sampled_from([NOW, NOW + timedelta(seconds=1)]),
    accepted=st.sampled_from([ACCEPTS, ()]),
)


@given(st.lists(GIVEN, max_size=6), st.integers(1, 3))
def test_whatever_is_given_only_that_many_good_persons_admit(given_: list[Given], n: int) -> None:
    good = {
        one.approval.who
        for one in given_
        if one.valid
        and one.approval.signature
        and one.approval.signature.key in PEOPLE
        and (one.approval.digest, one.approval.epoch, one.approval.accepted) == (DIGEST, 7, ACCEPTS)
        and one.approval.expires_at > NOW
    }
    enough = len(good - {FORM}) >= n or (n == 1 and FORM in good)
    assert isinstance(judge(given_, n), Admitted) is enough


@given(st.lists(GIVEN, max_size=5), st.integers(1, 3), st.randoms())
def test_order_and_repetition_change_nothing(given_: list[Given], n: int, shuffle: Any) -> None:
    again = [*given_, *given_]
    shuffle.shuffle(again)
    assert isinstance(judge(again, n), Admitted) is isinstance(judge(given_, n), Admitted)


def advance(*keys: str, valid: tuple[bool, ...] | None = None, **changes: Any) -> GivenStanding:
    base: dict[str, Any] = {
        "runbook": "failover",
        "service": "shop",
        "to": "west",
        "conditions": {"db-east": 20.0},
        "accepted": ACCEPTS,
        "made_at": NOW - timedelta(days=1),
        "expires_at": NOW + timedelta(days=30),
        "signatures": tuple(signature(key) for key in keys),
    }
    return GivenStanding(approval=StandingApproval(**{**base, **changes}), valid=valid or (True,) * len(keys))


FAILING = asked(mode=Mode.UNGRACEFUL, to="west", failing_seconds={"db-east": 25.0})


def test_a_standing_approval_admits_without_anybody() -> None:
    standing = advance("ka", "kb")
    verdict = judge([], n=2, ask=FAILING, standing=[standing])
    assert verdict == Admitted(by=("alice", "bob"), spends=(), standing=standing.approval.id)


@pytest.mark.parametrize(
    ("standing", "words"),
    [
        (advance("ka", "kb", runbook="switchover"), "for the runbook switchover"),
        (advance("ka", "kb", service="bank"), "for the service bank"),
        (advance("ka", "kb", to="east"), "is for east to take over"),
        (advance("ka", "kb", to=None), "names no site that takes over: nobody consented to a direction"),
        (advance("ka", "ka"), "carries 1 of 2"),
        (advance("ka", "kf"), "carries 1 of 2"),
        (advance("ka", "kx"), "carries 1 of 2"),
        (advance("ka", "kb", valid=(True, False)), "carries 1 of 2"),
        (advance("ka", "kb", valid=(True,)), "carries 1 of 2"),
        (advance("ka", "kb", made_at=NOW + timedelta(days=1)), "begins at"),
        (advance("ka", "kb", expires_at=NOW), "expired"),
        (advance("ka", "kb", conditions={"db-east": 26.0}), "waits for its conditions: db-east"),
        (advance("ka", "kb", conditions={"app-east": 1.0}), "waits for its conditions: app-east"),
        (advance("ka", "kb", conditions={"db-east": 1.0, "app-east": 1.0}), "waits for its conditions: app-east"),
        (advance("ka", "kb", variant=Mode.GRACEFUL), "only the graceful"),
        (advance("ka", "kb", accepted=()), "does not accept data-loss 4.2 s"),
    ],
)
def test_what_is_wrong_with_a_standing_approval_is_said(standing: GivenStanding, words: str) -> None:
    assert words in refused([], n=2, ask=FAILING, standing=[standing])


def test_without_probe_evidence_no_condition_holds_and_people_may_still_approve() -> None:
    assert "waits for" in refused([], ask=asked(to="west"), standing=[advance("ka")])
    assert isinstance(judge([consent()], standing=[advance("ka")]), Admitted)


def test_no_standing_approval_lasts_more_than_ninety_days() -> None:
    with pytest.raises(ValueError, match="at most 90 days"):
        advance("ka", expires_at=NOW + timedelta(days=90))


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_a_condition_that_asks_for_no_failure_at_all_is_none(seconds: float) -> None:
    with pytest.raises(ValueError, match="conditions"):
        advance("ka", conditions={"db-east": seconds})


@pytest.mark.parametrize("limit", ["NaN", "Infinity", "1e999"])
def test_a_figure_that_is_no_number_is_accepted_by_no_document(limit: str) -> None:
    with pytest.raises(ValueError, match="limit"):
        Acceptance.model_validate_json(f'{{"klass": "data-loss", "limit": {limit}, "unit": "s"}}')


def test_a_signature_is_not_part_of_what_it_signs() -> None:
    approval = consent().approval
    unsigned = approval.model_copy(update={"signature": None})
    assert (approval.signed_bytes(), approval.id) == (unsigned.signed_bytes(), unsigned.id)
    one, two = advance("ka").approval, advance("ka", "kb").approval
    assert (one.signed_bytes(), one.id) == (two.signed_bytes(), two.id)
    assert standing_key(one) != standing_key(two)
    assert approval_key(approval) == f"approvals/{DIGEST}/{approval.id}.json"


def test_a_refusal_is_evidence() -> None:
    assert facts_of_refusal(DIGEST, Missing(why=("0 of 1 approvals",))) == {"plan": DIGEST, "why": ["0 of 1 approvals"]}


def test_a_hazard_is_shown_as_it_is_accepted() -> None:
    assert (LOSS.words, Hazard(id="x", klass="split-brain").words) == ("data-loss 4.2 s", "split-brain")
    assert uncovered((LOSS,), ACCEPTS) == ()


def test_what_was_signed_before_there_were_directions_keeps_its_bytes_and_its_name() -> None:
    """As 0.0 wrote it: whoever verifies old evidence must find the same signature good."""
    old = (
        '{"accepted":[],"conditions":{"app-east":15.0},"expires_at":"2026-12-24T03:00:00.000000Z",'
        '"made_at":"2026-11-24T03:00:00.000000Z","runbook":"failover","schema_version":1,"service":"core",'
        '"signatures":[],"variant":"ungraceful"}'
    )
    read = StandingApproval.model_validate_json(old)
    assert (read.to, read.signed_bytes()) == (None, old.encode())
    assert b'"to":"west"' in read.but(to="west").signed_bytes()
    assert read.but(to="west").id != read.but(to="east").id != read.id
