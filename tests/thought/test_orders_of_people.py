"""Orders to a run that is underway: who may give them, which need several persons, and what nobody may skip."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from functools import cache
from typing import Any

import pytest

from recovery.accepting import acceptances, limits_of, refuse_uncovered, terms, words
from recovery.approval import FORM, ConsentPolicy
from recovery.drive import History
from recovery.errors import BadInput, Refused
from recovery.evidence import GENESIS, Record, Signature
from recovery.failover import Asked, Proposal, propose
from recovery.guards import skip_hazards
from recovery.hazard import Acceptance, Hazard
from recovery.journal import history
from recovery.orders import (
    KINDS,
    Answer,
    NotTaken,
    Order,
    Rights,
    Said,
    Taken,
    Waiting,
    Word,
    decide,
    known,
    order_key,
)
from recovery.plan import Plan
from recovery.step import Mode, Step
from tests.thought.failover_scene import NOW, catalog, runbook, seen

PEOPLE = {"ka": "ann", "kb": "bob", "ke": "eve", "kf": FORM}
SPLIT = Hazard(id="split-brain-db", klass="split-brain")
LOSS = Hazard(id="loss", klass="data-loss", figure=4.2, unit="s")


@cache
def plan(name: str = "failover") -> Plan:
    asked = Asked(service="core", to="west", asked_at=NOW)
    made = propose(asked, runbook(name), catalog(), seen())
    assert isinstance(made, Proposal)
    return made.plan


def said(word: Word, key: str = "ka", *, valid: bool = True, of: Plan | None = None, **changes: Any) -> Said:
    who = changes.pop("who", PEOPLE.get(key, "mallory"))
    signature = Signature(who=who, key=key, ed25519="0" * 128)
    run = changes.pop("run", (of or plan()).run)
    order = Order(**{"run": run, "word": word, "who": who, "made_at": NOW, "signature": signature, **changes})
    return Said(order=order, valid=valid)


def judge(
    one: Said,
    *others: Said,
    n: int = 1,
    of: Plan | None = None,
    past: History | None = None,
    before: dict[str, tuple[Mode, tuple[Acceptance, ...]]] | None = None,
    hazards: Sequence[Hazard] = (),
    ended: str | None = None,
) -> Answer:
    rights = Rights(policy=ConsentPolicy(n_of_m=n, listed=PEOPLE), engine={"kengine"}, before=before)
    return decide(one, others, of or plan(), past or History(), rights, hazards=hazards, ended=ended)


def refusal(answer: Answer) -> str:
    assert isinstance(answer, NotTaken), answer
    return answer.why


def accept(*classes: str) -> tuple[Acceptance, ...]:
    return tuple(Acceptance(klass=each) for each in classes)


def test_a_listed_person_pauses_resumes_cancels_and_grants_another_try() -> None:
    for word in (Word.PAUSE, Word.RESUME, Word.CANCEL):
        answer = judge(said(word))
        assert isinstance(answer, Taken)
        assert (answer.kind, answer.facts["who"]) == (KINDS[word], "ann")
    again = judge(said(Word.RETRY, step="promote", tries=2))
    assert isinstance(again, Taken)
    assert (again.facts["step"], again.facts["tries"]) == ("promote", 2)


@pytest.mark.parametrize(
    ("one", "why"),
    [
        (said(Word.PAUSE, valid=False), "no valid signature"),
        (said(Word.PAUSE, run="e" * 64), "for another run (eeeeeeeeeeee)"),
        (said(Word.PAUSE, "kx"), "not listed (kx)"),
        (said(Word.PAUSE, "kb", who="ann"), "somebody else's key"),
        (said(Word.SKIP, step="no-such"), "no step no-such"),
        (said(Word.RETRY), "no step (none was named)"),
        (said(Word.SKIP, step="approve"), "cannot be skipped: Every live step comes after the approval."),
        (said(Word.SKIP, step="promote"), "cannot be skipped: A live name is moved"),
        (said(Word.CONFIRM, step="fence"), "no step of a person"),
        (said(Word.UNGRACEFUL), "ungraceful already"),
        (said(Word.RESUME, "kengine", who="engine"), "needs the signature of a person"),
        (said(Word.SKIP, "kengine", who="engine", step="notify"), "needs the signature of a person"),
    ],
)
def test_an_order_that_does_not_count_says_why(one: Said, why: str) -> None:
    assert why in refusal(judge(one))


def test_the_engines_key_pauses_and_cancels_and_orders_scratch_about() -> None:
    assert isinstance(judge(said(Word.PAUSE, "kengine", who="engine")), Taken)
    assert isinstance(judge(said(Word.CANCEL, "kengine", who="engine")), Taken)
    drill = plan("drill")
    assert isinstance(judge(said(Word.SKIP, "kengine", who="engine", step="notify", of=drill), of=drill), Taken)
    assert isinstance(judge(said(Word.SKIP, "kengine", who="engine", step="promote", of=drill), of=drill), Taken)


def test_nothing_is_ordered_of_a_run_that_has_ended() -> None:
    assert refusal(judge(said(Word.RETRY, step="fence"), ended="held")) == "the run has ended (held)"


def test_a_step_that_guards_nothing_is_skipped_by_one_person_even_where_two_must_approve() -> None:
    assert isinstance(judge(said(Word.SKIP, step="notify"), n=2), Taken)


@pytest.mark.parametrize(
    ("step", "klass"),
    [
        ("quarantine", "side-effects"),
        ("validate", "unvalidated"),
        ("protect", "unprotected"),
        ("declare", "undeclared"),
        ("scale", "undersized"),
    ],
)
def test_a_guard_is_skipped_only_with_its_hazard_accepted(step: str, klass: str) -> None:
    assert klass in refusal(judge(said(Word.SKIP, step=step)))
    taken = judge(said(Word.SKIP, step=step, accepted=accept(klass)))
    assert isinstance(taken, Taken)
    assert taken.facts["accepted"] == [{"klass": klass, "limit": None, "unit": ""}]
    assert taken.rule.startswith("rule ")


def test_skipping_the_fence_takes_as_many_persons_as_a_start() -> None:
    def skip(key: str, *classes: str) -> Said:
        return said(Word.SKIP, key, step="fence", accepted=accept(*classes))

    first, second = skip("ka", "split-brain"), skip("kb", "split-brain")
    assert isinstance(judge(first, n=2), Waiting)
    assert isinstance(judge(first, skip("ka", "split-brain"), n=2), Waiting), "the same person twice is one"
    assert isinstance(judge(first, skip("kf", "split-brain"), n=2), Waiting), "the form is no person"
    assert isinstance(judge(first, skip("kx", "split-brain"), n=2), Waiting), "a stranger is nobody"
    assert "split-brain" in refusal(judge(skip("kb"), first, n=2)), "each accepts for himself"
    both = judge(first, second, n=2)
    assert isinstance(both, Taken)
    assert (both.facts["by"], both.facts["with"]) == (["ann", "bob"], [second.order.id])
    assert both.rule == "rule 1 (fence before promote)"


def test_the_skip_of_another_step_is_another_order() -> None:
    fence = said(Word.SKIP, step="fence", accepted=accept("split-brain"))
    other = said(Word.SKIP, "kb", step="validate", accepted=accept("split-brain", "unvalidated"))
    assert isinstance(judge(fence, other, n=2), Waiting)


def test_the_ungraceful_variant_needs_its_hazards_accepted_beforehand_or_then() -> None:
    graceful = plan("switchover")
    found = (LOSS, SPLIT)
    bare = said(Word.UNGRACEFUL, of=graceful)
    enough = (Acceptance(klass="data-loss", limit=10, unit="s"), *accept("split-brain"))

    def order(word: Said, **more: Any) -> Answer:
        return judge(word, of=graceful, hazards=found, **more)

    assert "data-loss 4.2 s, split-brain" in refusal(order(bare))
    little = (Acceptance(klass="data-loss", limit=4, unit="s"), *accept("split-brain"))
    assert "data-loss 4.2 s" in refusal(order(said(Word.UNGRACEFUL, of=graceful, accepted=little)))
    assert isinstance(order(said(Word.UNGRACEFUL, of=graceful, accepted=enough)), Taken)
    beforehand = {"ann": (Mode.GRACEFUL, enough)}
    assert isinstance(order(bare, before=beforehand), Taken), "who accepted the hazards then orders the variant now"
    absent = {"bob": (Mode.GRACEFUL, enough)}
    good = said(Word.UNGRACEFUL, of=graceful, accepted=enough)
    assert isinstance(order(good, n=2, before=absent), Waiting), "consent to the graceful variant is none to this"
    allowed = {"bob": (Mode.UNGRACEFUL, enough)}
    assert isinstance(order(good, n=2, before=allowed), Taken)
    assert "ungraceful already" in refusal(order(good, past=History(ungraceful=True)))


def test_a_runbook_without_an_ungraceful_variant_has_none() -> None:
    drill = plan("drill")
    assert "no ungraceful variant" in refusal(judge(said(Word.UNGRACEFUL, of=drill), of=drill))


def test_a_person_confirms_a_persons_step() -> None:
    steps = (Step(id="call", verb="person", resource="core"), Step(id="end", verb="notify", resource="core"))
    by_hand = plan().but(steps=steps)
    answer = judge(said(Word.CONFIRM, step="call", of=by_hand), of=by_hand)
    assert isinstance(answer, Taken)
    assert history([record(answer)]).of("call").confirmed == "ann"


def record(taken: Taken, sequence: int = 0) -> Record:
    return Record(
        run=plan().run, sequence=sequence, previous=GENESIS, kind=taken.kind, subject="core", begin=NOW, who="engine",
        facts=dict(taken.facts),
    )  # fmt: skip


def test_what_is_on_record_is_known_with_all_that_it_was_taken_with() -> None:
    first = said(Word.SKIP, step="fence", accepted=accept("split-brain"))
    second = said(Word.SKIP, "kb", step="fence", accepted=accept("split-brain"))
    taken = judge(first, second, n=2)
    assert isinstance(taken, Taken)
    assert known([record(taken)]) == {first.order.id, second.order.id}
    assert history([record(taken)]).of("fence").skipped


def test_orders_lie_in_the_order_of_their_instants() -> None:
    early = said(Word.PAUSE).order
    late = said(Word.RESUME, made_at=NOW + timedelta(seconds=1)).order
    assert sorted([order_key(late), order_key(early)]) == [order_key(early), order_key(late)]
    assert (early.words, said(Word.SKIP, step="fence").order.words) == ("pause", "skip fence")


def test_skipping_what_is_scratch_or_left_out_has_no_hazard() -> None:
    step = Step(id="validate", verb="validate", resource="core", arguments={"scratch": True})
    assert skip_hazards(step, Mode.GRACEFUL) == ()
    out = Step(id="demote", verb="demote", resource="db", ungraceful={"omitted": "the site is gone"})
    assert skip_hazards(out, Mode.UNGRACEFUL) == ()
    assert skip_hazards(out, Mode.GRACEFUL)[0].klass == "data-loss-unknown"
    none = Step(id="scale", verb="scale", resource="core", arguments={"site": "to"})
    assert skip_hazards(none, Mode.GRACEFUL) == (), "the catalog has no instances that would carry users"


# What a person writes after --accept

LIMITS = {"data-loss": 900.0}


@pytest.mark.parametrize(
    ("written", "consent"),
    [
        (["data-loss<=10s"], ["data-loss <= 10 s"]),
        (["data-loss <= 1 min"], ["data-loss <= 60 s"]),
        (["loss"], ["data-loss <= 900 s"]),
        (["data-loss"], ["data-loss <= 900 s"]),
        (["split-brain"], ["split-brain"]),
        (["all"], ["data-loss <= 900 s", "split-brain"]),
        (["data-loss<=5s", "data-loss<=8s"], ["data-loss <= 8 s"]),
        ([], []),
    ],
)
def test_what_is_written_becomes_consent(written: list[str], consent: list[str]) -> None:
    assert [words(each) for each in acceptances(written, (LOSS, SPLIT), LIMITS)] == consent


def test_without_a_limit_of_the_plan_consent_goes_up_to_what_was_shown() -> None:
    ttl = Hazard(id="ttl-app", klass="ttl", figure=300, unit="s")
    assert [words(each) for each in acceptances(["all"], (ttl,), LIMITS)] == ["ttl <= 300 s"]
    ratio = Hazard(id="load", klass="load", figure=3, unit="%")
    assert [words(each) for each in acceptances(["load<=5%"], (ratio,), LIMITS)] == ["load <= 5 %"]


@pytest.mark.parametrize(
    ("written", "fact"),
    [
        ("data-los", "is no hazard of this plan"),
        ("data-loss<=ten", "is not a duration"),
        ("data-loss<=10", "is not a duration"),
        (f"data-loss<={'9' * 400} s", "is longer than any duration"),
        (f"load<={'9' * 400}%", "is no figure of load"),
        ("load<=5s", "is no figure of load"),
        ("<=5s", "is no hazard of this plan"),
    ],
)
def test_what_names_no_hazard_is_bad_input(written: str, fact: str) -> None:
    ratio = Hazard(id="load", klass="load", figure=3, unit="%")
    with pytest.raises(BadInput, match=fact):
        acceptances([written], (LOSS, ratio), LIMITS)
    with pytest.raises(BadInput) as caught:
        acceptances(["data-loss"], (), LIMITS)
    assert "has no hazards" in caught.value.hint


def test_consent_that_leaves_a_hazard_out_is_refused_with_the_words_to_write() -> None:
    with pytest.raises(Refused, match="not accepted: split-brain") as caught:
        refuse_uncovered((LOSS, SPLIT), acceptances(["data-loss"], (LOSS, SPLIT), LIMITS), command="dr approve d")
    assert caught.value.hint.endswith("dr approve d --accept split-brain")
    refuse_uncovered((), (), command="")


def test_the_plans_own_limit_and_the_catalogs_terms() -> None:
    assert limits_of(plan()) == {"data-loss": 900.0}
    assert limits_of(plan().but(pinned={})) == {}
    assert [words(each) for each in terms({"data-loss": "10 s", "split-brain": ""})] == [
        "data-loss <= 10 s",
        "split-brain",
    ]
