"""A run that is taken up again: the consent that its first record claims is held against what people signed."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from pydantic import JsonValue

from recovery.admission import Consents, Resume, RunState, admit
from recovery.approval import Given, GivenStanding
from recovery.begun import SIGNED, Begun, begun, vouched_bytes, voucher
from recovery.errors import Refused
from recovery.evidence import GENESIS, Record
from recovery.failover import Asked, Proposal, propose, rpo_seconds
from recovery.hazard import Acceptance, Hazard
from recovery.hazards import hazards
from recovery.plan import Plan
from tests.thought import failover_scene as scene

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
LOSS = "data-loss <= 10 s"
SPLIT = Acceptance(klass="split-brain")


def plan(book: str = "failover", *, later: timedelta = timedelta()) -> Plan:
    made = propose(
        Asked(service="core", to="west", asked_at=scene.NOW + later), scene.runbook(book), scene.catalog(), scene.seen()
    )
    assert isinstance(made, Proposal)
    return made.plan


PLAN = plan()


def signed(who: str, accept: tuple[str, ...] = (LOSS,), *, of: Plan = PLAN, **more: Any) -> Given:
    return scene.approval(of.digest, of.epoch, who, list(accept), **more)


def resumed(
    claim: Begun,
    *given: Given,
    standing: tuple[GivenStanding, ...] = (),
    spent: Mapping[str, str] | None = None,
    cancelled: Mapping[str, datetime] | None = None,
    troubles: tuple[str, ...] = (),
    of: Plan = PLAN,
) -> str:
    """Nothing where it goes on in a world that is half changed, else the refusal's fact."""
    consents = Consents(
        policy=scene.policy(), given=given, standing=standing, spent=spent, cancelled=cancelled or {}, troubles=troubles
    )
    half = scene.seen(running={"core": of.run}, failing_seconds=0, behind_seconds=500)

    def ask() -> object:
        return admit(of, None, half, (), state=RunState(begun=claim), consents=consents, now=scene.NOW + DAY)

    with suppress(Refused):
        assert ask() == Resume()
        return ""
    with pytest.raises(Refused) as caught:
        ask()
    assert f"dr evidence verify --run {of.run[:12]}" in caught.value.hint
    return caught.value.fact


ANN, BOB = signed("ann"), signed("bob")


def test_a_run_that_people_began_goes_on_when_their_consent_is_over_spent_and_taken_back_since() -> None:
    claim = scene.begun(ANN, BOB, hazards=(Hazard(id="loss", klass="data-loss", figure=4.2, unit="s"),))
    mine = dict.fromkeys((ANN.approval.id, BOB.approval.id), PLAN.run)
    since = dict.fromkeys(mine, scene.NOW + timedelta(seconds=1))
    assert resumed(claim, ANN, BOB, spent=mine, cancelled=since) == ""


def test_what_one_accepted_further_than_the_other_is_no_more_than_both_did() -> None:
    far = signed("ann", ("data-loss <= 60 s", "split-brain"))
    assert resumed(scene.begun(far, BOB), far, BOB) == ""
    claim = scene.begun(far, BOB, accepted=(Acceptance(klass="data-loss", limit=60, unit="s"), SPLIT))
    assert "nobody accepted data-loss 60 s, split-brain" in resumed(claim, far, BOB)


FORGED: list[tuple[str, dict[str, Any], tuple[Given, ...], dict[str, Any], str]] = [
    ("nobody signed", {}, (), {}, "0 of 2 approvals"),
    ("a person alone", {}, (ANN,), {}, "1 of 2 approvals"),
    ("a forged signature", {}, (ANN, signed("bob", valid=False)), {}, "the approval of bob carries no valid signature"),
    ("a stranger's", {}, (ANN, signed("mallory")), {}, "with a key that is not listed"),
    ("another plan's", {}, (ANN, signed("bob", of=plan(later=HOUR))), {}, "is for another plan"),
    ("another run's", {}, (ANN, BOB), {"spent": {BOB.approval.id: "f" * 64}}, "was spent by run ffffffff"),
    ("taken back before", {}, (ANN, BOB), {"cancelled": {BOB.approval.id: scene.NOW}}, "was cancelled"),
    ("over before", {"at": scene.NOW + HOUR}, (ANN, BOB), {}, "expired"),
    ("in other names", {"by": ("ann", "eve")}, (ANN, BOB), {}, "nothing signed says that eve consented"),
    ("more accepted", {"accepted": (SPLIT,)}, (ANN, BOB), {}, "nobody accepted split-brain"),
    (
        "further",
        {"accepted": (Acceptance(klass="data-loss", limit=11, unit="s"),)},
        (ANN, BOB),
        {},
        "nobody accepted data-loss 11 s",
    ),
    (
        "in another unit",
        {"accepted": (Acceptance(klass="data-loss", limit=1, unit="h"),)},
        (ANN, BOB),
        {},
        "nobody accepted data-loss 1 h",
    ),
    (
        "a danger left out",
        {"hazards": (Hazard(id="x", klass="split-brain"),)},
        (ANN, BOB),
        {},
        "with split-brain, which",
    ),
    (
        "a silent copy",
        {},
        (ANN,),
        {"troubles": ("the copy of the ledger at s3 does not answer",)},
        "at s3 does not answer",
    ),
    ("no beginning", {"trouble": "it names nobody who consented"}, (ANN, BOB), {}, "it names nobody who consented"),
]


@pytest.mark.parametrize(("claim", "given", "more", "why"), [each[1:] for each in FORGED], ids=[e[0] for e in FORGED])
def test_a_first_record_that_nobody_signed_for_is_refused(
    claim: dict[str, Any], given: tuple[Given, ...], more: dict[str, Any], why: str
) -> None:
    said = resumed(scene.begun(ANN, BOB, **claim), *given, **more)
    assert said.startswith(f"run {PLAN.run[:12]} is not gone on with: its first record is not what people signed")
    assert why in said


def test_people_who_sign_again_stand_for_what_was_lost() -> None:
    claim = scene.begun(ANN, BOB)
    again = [signed(who, at=scene.NOW + HOUR) for who in ("ann", "bob")]
    assert resumed(claim, *again) == ""


def test_the_approvals_that_it_names_come_before_narrower_ones_of_the_same_person() -> None:
    narrow = signed("ann", (), at=scene.NOW - HOUR / 2)
    assert resumed(scene.begun(ANN, BOB), narrow, ANN, BOB) == ""


def test_figures_that_were_rounded_in_their_words_are_not_beyond_what_was_accepted() -> None:
    exact = [signed(who, ("data-loss <= 12.34567 s",)) for who in ("ann", "bob")]
    rounded = (Hazard(id="loss", klass="data-loss", figure=12.3457, unit="s"),)
    assert resumed(scene.begun(*exact, hazards=rounded), *exact) == ""
    bare = [signed(who, ("data-loss",)) for who in ("ann", "bob")]
    assert "which nobody accepted" in resumed(scene.begun(*bare, hazards=rounded), *bare)


def test_a_standing_approval_counts_as_of_the_beginning() -> None:
    ours = scene.standing("failover", ["ann", "bob"], {"app-east": 15.0}, [LOSS])
    claim = scene.begun(standing=ours)
    assert resumed(claim, standing=(ours,)) == ""
    lone = scene.standing("failover", ["ann"], {"app-east": 15.0}, [LOSS])
    assert "carries 1 of 2" in resumed(scene.begun(standing=lone), standing=(lone,))
    other = scene.standing("switchover", ["ann", "bob"], {"app-east": 15.0}, [LOSS])
    assert "is for the runbook switchover" in resumed(scene.begun(standing=other), standing=(other,))
    assert "begins at" in resumed(replace(claim, at=scene.NOW - 2 * DAY), standing=(ours,))
    assert "0 of 2" in resumed(replace(claim, standing=""), standing=(ours,)), "unnamed it does not count"
    gone = {ours.approval.id: scene.NOW - HOUR}
    assert "was cancelled" in resumed(claim, standing=(ours,), cancelled=gone)
    assert resumed(claim, standing=(ours,), cancelled={ours.approval.id: scene.NOW + HOUR}) == ""


# A beginning that no known engine signed


def unvouched(
    *given: Given,
    standing: tuple[GivenStanding, ...] = (),
    lag: float = 4.2,
    fails: float = 0.0,
    of: Plan = PLAN,
    derived: Plan | None = PLAN,
    later: timedelta = timedelta(),
    **claim: Any,
) -> Resume:
    first = replace(scene.begun(*given, standing=standing[0] if standing else None), vouched=False, **claim)
    look = scene.seen(behind_seconds=lag, failing_seconds=fails, running={"core": of.run})
    answer = admit(
        of,
        derived,
        look,
        hazards(of, look, rpo_seconds=rpo_seconds(scene.catalog())),
        state=RunState(begun=first),
        consents=Consents(policy=scene.policy(), given=given, standing=standing),
        now=scene.NOW + later,
    )
    assert isinstance(answer, Resume)
    return answer


def test_a_beginning_that_no_engine_signed_is_asked_what_a_start_is() -> None:
    assert set(unvouched(ANN, BOB).spends) == {ANN.approval.id, BOB.approval.id}
    with pytest.raises(Refused, match=r"signed by no engine that is known here.* not approved.*data-loss 12 s"):
        unvouched(ANN, BOB, lag=12)
    with pytest.raises(Refused, match="above the plan's limit") as beyond:
        unvouched(ANN, BOB, lag=5000)
    assert "put its public key into HOME/keys" in beyond.value.hint
    with pytest.raises(Refused, match="no longer holds"):
        unvouched(ANN, BOB, derived=None)
    with pytest.raises(Refused, match="expired at"):
        unvouched(ANN, BOB, later=HOUR)
    with pytest.raises(Refused, match="nobody accepted split-brain"):
        unvouched(ANN, BOB, accepted=(SPLIT,))


def test_the_probes_that_a_standing_approval_waits_for_are_seen_and_not_claimed() -> None:
    ours = scene.standing("failover", ["ann", "bob"], {"app-east": 15.0}, [LOSS])
    with pytest.raises(Refused, match="waits for its conditions: app-east"):
        unvouched(standing=(ours,), fails=14.9)
    assert unvouched(standing=(ours,), fails=15.0) == Resume()


def test_a_drill_needs_nobody_and_accepts_nothing() -> None:
    drill = plan("drill")
    assert unvouched(of=drill, derived=drill, by=("policy",)) == Resume()
    assert resumed(scene.begun(by=("policy",)), of=drill) == ""
    assert "hazards of scratch" in resumed(scene.begun(by=("policy",), accepted=(SPLIT,)), of=drill)


# What a record says


def record(of: Plan = PLAN, kind: str = "run.begun", **facts: Any) -> Record:
    consent: dict[str, JsonValue] = {"by": ["ann"], "spends": ["a"], "standing": "", "accepted": [{"klass": "stale"}]}
    said = {"purpose": of.purpose, "arguments": of.arguments, "consent": consent, "hazards": ["data-loss 4.2 s", "x"]}
    return Record(
        run=of.run, sequence=0, previous=GENESIS, kind=kind, subject="core", digest=of.digest, begin=scene.NOW,
        who="engine", facts={**said, **facts},
    )  # fmt: skip


def test_a_record_is_read_as_a_claim() -> None:
    assert begun(PLAN, record(), vouched=True) == Begun(
        at=scene.NOW,
        by=("ann",),
        spends=("a",),
        accepted=(Acceptance(klass="stale"),),
        hazards=(
            Hazard(id="data-loss", klass="data-loss", figure=4.2, unit="s"),
            Hazard(id="x", klass="x"),
        ),
        vouched=True,
    )
    assert begun(PLAN, record(hazards=["share 3"])).hazards == (Hazard(id="share", klass="share", figure=3.0),)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (record(kind="step.begun"), "not the beginning of this plan's run"),
        (record(plan(later=HOUR)), "not the beginning of this plan's run"),
        (record().but(digest="f" * 64), "not the beginning of this plan's run"),
        (record(purpose="drill"), "another purpose or of other arguments"),
        (record(arguments={"to": "east"}), "another purpose or of other arguments"),
        (record(consent="ann"), "names nobody who consented"),
        (record(consent={"by": "ann"}), "of no known form"),
        (record(consent={"by": [], "spends": [], "accepted": [{"limit": 3}]}), "of no known form"),
        (record(hazards=["data-loss much"]), "of no known form"),
        (record(hazards=None), "of no known form"),
    ],
)
def test_what_is_no_beginning_of_this_plan_is_told(wrong: Record, why: str) -> None:
    assert why in begun(PLAN, wrong, vouched=True).trouble
    assert not begun(PLAN, wrong, vouched=True).vouched


def test_what_an_engine_signs_covers_all_that_a_beginning_is_judged_by() -> None:
    true = record()
    bodies = {
        vouched_bytes(each.run, each.begin, each.facts)
        for each in (
            true,
            true.but(run="f" * 64),
            true.but(begin=scene.NOW + HOUR),
            *(record(**{name: None}) for name in ("purpose", "arguments", "consent", "hazards")),
            record(outage_since="2026-11-24T02:00:00.000000Z"),
        )
    }
    assert len(bodies) == 8
    assert vouched_bytes(true.run, true.begin, record(door="dr").facts) in bodies
    assert voucher(true) is None
    sign = scene.signature("engine")
    assert voucher(record(**{SIGNED: sign.model_dump(mode="json")})) == sign
