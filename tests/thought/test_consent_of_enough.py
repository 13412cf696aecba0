"""Consent to a danger is consent of as many persons as have to agree, however it came: each hole here was one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recovery.admission import Consents, Start, accepted, accepts
from recovery.approval import FORM, ConsentPolicy
from recovery.contradictions_of_doors import of_doors
from recovery.doors import Approver, StandingTerms
from recovery.hazard import Acceptance, Hazard, agreed, uncovered
from recovery.orders import Taken, Waiting, Word
from recovery.step import Mode
from tasks.run_consent import consented
from tests.thought import test_approval as scene
from tests.thought.failover_scene import catalog
from tests.thought.test_approval import advance, consent
from tests.thought.test_orders_of_people import accept, judge, plan, record, refusal, said

SPLIT = Acceptance(klass="split-brain")


def loss(limit: float | None, unit: str = "s") -> Acceptance:
    return Acceptance(klass="data-loss", limit=limit, unit=unit)


@pytest.mark.parametrize(
    ("given_", "persons", "wanted"),
    [
        ([(loss(10),), (loss(100),)], 2, (loss(10),)),
        ([(loss(10),), (loss(100),)], 1, (loss(100),)),
        ([(loss(10),), (loss(100),), (loss(50),)], 2, (loss(50),)),
        ([(loss(10), loss(30)), (loss(20),)], 2, (loss(20),)),
        ([(loss(10),), (loss(10, "MB"),)], 2, (loss(None, ""),)),
        ([(loss(10),), (loss(None),)], 2, (loss(None, ""),)),
        ([(SPLIT, loss(1)), (loss(2),)], 2, (loss(1),)),
        ([], 1, ()),
    ],
)
def test_what_so_many_accept_is_the_least_that_each_of_them_accepts(
    given_: list[tuple[Acceptance, ...]], persons: int, wanted: tuple[Acceptance, ...]
) -> None:
    assert agreed(given_, persons) == wanted


ONE = st.builds(
    Acceptance,
    klass=st.sampled_from(["data-loss", "split-brain"]),
    limit=st.sampled_from([None, 1.0, 2.0]),
    unit=st.sampled_from(["s", "MB"]),
)
HAZARD = st.builds(
    Hazard,
    id=st.just("it"),
    klass=st.sampled_from(["data-loss", "split-brain"]),
    figure=st.sampled_from([None, 0.5, 1.5, 2.5]),
    unit=st.sampled_from(["s", "MB"]),
)


@given(st.lists(st.lists(ONE, max_size=3), max_size=4), st.integers(1, 3), HAZARD)
def test_a_hazard_is_agreed_to_exactly_where_so_many_persons_cover_it(
    given_: list[list[Acceptance]], persons: int, hazard: Hazard
) -> None:
    alone = sum(not uncovered([hazard], each) for each in given_)
    assert (not uncovered([hazard], agreed(given_, persons))) is (alone >= persons)


def test_what_only_one_of_two_accepted_is_not_the_consent_of_the_run_that_they_started() -> None:
    """Ann saw that the fence could not be proved, bob saw that it could: the run that both start is told of no
    consent to two primaries, should the fence fail on the way."""
    both = (consent("ka", accepted=(*scene.ACCEPTS, SPLIT)), consent("kb"))
    start = Start(by=("alice", "bob"), spends=tuple(each.approval.id for each in both))
    assert accepted(start, Consents(policy=scene.policy(2), given=both)) == list(scene.ACCEPTS)
    assert set(accepted(start, Consents(policy=scene.policy(1), given=both))) == {*scene.ACCEPTS, SPLIT}


def test_the_form_is_no_person_there_either() -> None:
    three = (consent("ka"), consent("kb"), consent("kf", accepted=(*scene.ACCEPTS, SPLIT)))
    two = (consent("ka", accepted=(*scene.ACCEPTS, SPLIT)), *three[1:])
    for given_ in (three, two):
        start = Start(by=("alice", "bob", FORM), spends=tuple(each.approval.id for each in given_))
        assert SPLIT not in accepted(start, Consents(policy=scene.policy(2), given=given_))


def test_a_standing_approval_is_the_consent_of_all_who_signed_it() -> None:
    standing = advance("ka", "kb")
    start = Start(by=("alice", "bob"), spends=(), standing=standing.approval.id)
    assert accepted(start, Consents(policy=scene.policy(2), standing=(standing,))) == list(scene.ACCEPTS)


@pytest.mark.parametrize("word", [Word.PAUSE, Word.RESUME, Word.CANCEL, Word.RETRY, Word.SKIP])
@pytest.mark.parametrize("key", ["ka", "kengine"])
def test_an_order_that_one_may_give_consents_to_no_danger(word: Word, key: str) -> None:
    """Else one person's pause, or the engine's own, would sign that two primaries are possible."""
    who = {"who": "engine"} if key == "kengine" else {}
    step = {"step": "notify"} if word in (Word.RETRY, Word.SKIP) else {}
    answer = judge(said(word, key, accepted=accept("split-brain"), **who, **step), n=2)
    why = refusal(answer)
    assert "has no hazard to accept" in why or "needs the signature of a person" in why


def test_an_order_of_two_brings_only_what_both_accept() -> None:
    one = said(Word.SKIP, step="validate", accepted=accept("unvalidated", "split-brain"))
    two = said(Word.SKIP, "kb", step="validate", accepted=accept("unvalidated"))
    assert isinstance(judge(one, n=2), Waiting)
    taken = judge(one, two, n=2)
    assert isinstance(taken, Taken)
    assert [each.klass for each in consented((record(taken),)).accepted] == ["unvalidated"]


def test_a_step_that_the_variant_leaves_out_is_not_skipped_for_the_other_variant() -> None:
    """One person could else skip the fence while the graceful variant needs none, and switch with the others then."""
    made = plan("switchover")
    steps = tuple(
        step.but(graceful={"omitted": "it is demoted"}, ungraceful={}) if step.id == "fence" else step
        for step in made.steps
    )
    made = made.but(steps=steps)
    assert "left out of the graceful variant" in refusal(judge(said(Word.SKIP, step="fence", of=made), of=made, n=2))


PLAN: Any = plan()
DEGRADED = accept("ledger-degraded")


def of_plan(key: str, **changes: Any) -> Any:
    return consent(key, digest=PLAN.digest, epoch=PLAN.epoch, variant=Mode.UNGRACEFUL, **changes)


@pytest.mark.parametrize(
    ("consents", "wanted"),
    [
        ({"given": (of_plan("ka", accepted=DEGRADED),)}, True),
        ({"given": (of_plan("ka", accepted=DEGRADED, valid=False),)}, False),
        ({"given": (of_plan("kx", accepted=DEGRADED),)}, False),
        ({"given": (of_plan("ka", accepted=DEGRADED, expires_at=scene.NOW),)}, False),
        ({"given": (of_plan("ka"),)}, False),
        ({"standing": (advance("ka", service="core", accepted=DEGRADED),)}, True),
        ({"standing": (advance(service="core", accepted=DEGRADED),)}, False),
        ({"standing": (advance("kx", service="core", accepted=DEGRADED),)}, False),
        ({}, False),
    ],
)
def test_a_silent_home_of_the_ledger_is_accepted_by_those_who_may_start_the_run(
    consents: dict[str, Any], wanted: bool
) -> None:
    policy = ConsentPolicy(n_of_m=1, listed=scene.PEOPLE)
    assert accepts(PLAN, Consents(policy=policy, **consents), "ledger-degraded", scene.NOW) is wanted


def told(**changes: Any) -> list[str]:
    found = catalog()
    return [fact for _, fact, _ in of_doors(found.but(consent=found.consent.but(**changes)))]


def test_an_engines_key_is_no_persons_and_the_form_fills_no_persons_place() -> None:
    ann, form, engine = (Approver(key=mark * 64) for mark in "abc")
    assert told(approvers={"ann": ann, "engine": engine}, n_of_m=1) == [
        "`engine` is no person: engines' keys are named so"
    ]
    assert told(approvers={"ann": ann, FORM: form}, n_of_m=1) == []
    assert told(approvers={FORM: form}, n_of_m=1) == []
    assert told(approvers={"ann": ann, FORM: form}, n_of_m=2) == [
        "2 approvals are asked for, but 1 people may give one"
    ]


@pytest.mark.parametrize(
    ("changes", "fact"),
    [
        ({"lasts": "91 days"}, "`east` would last 91 days"),
        ({"conditions": {"app-east": "0 s"}}, "`app-east` need not fail at all: it would act at once"),
        ({"conditions": {"other": "9 s"}}, "there is no probe of core `other`"),
        ({"to": "east"}, "`east` goes to east, whose own probes it waits for to fail"),
        ({"to": "mars"}, "there is no site that serves `mars`"),
        ({"to": "witness"}, "there is no site that serves `witness`"),
        ({"accept": {"data-loss": "ten"}}, "the figure of data-loss: 'ten' is not a duration"),
    ],
)
def test_terms_that_nobody_could_sign_or_that_wait_for_nothing_are_told(changes: dict[str, Any], fact: str) -> None:
    terms = {"runbook": "failover", "service": "core", "to": "west", "conditions": {"app-east": "15 s"}, **changes}
    (found,) = told(standing={"east": StandingTerms.model_validate(terms)})
    assert found.startswith(fact)


def test_terms_of_before_there_were_directions_are_still_read() -> None:
    old = StandingTerms.model_validate({"runbook": "failover", "service": "core", "conditions": {"app-east": "15 s"}})
    assert told(standing={"east": old}) == []
