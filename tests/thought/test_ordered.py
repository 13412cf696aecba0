"""Records of people's orders, when a run is taken up: each is decided once more, in its place, by what was signed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from pydantic import JsonValue

from recovery.approval import ConsentPolicy
from recovery.begun import SIGNED
from recovery.errors import Refused
from recovery.evidence import GENESIS, Record
from recovery.hazard import Acceptance, Hazard
from recovery.journal import CANCELLED, PAUSED, RESUMED, RUN_BEGUN, SKIPPED, UNGRACEFUL, history
from recovery.ordered import HAZARDS, by_id, refuse_unfounded, rights_of_signers, unfounded, vouched_bytes
from recovery.orders import REFUSED, Rights, Said, Taken, Word, decide
from recovery.plan import Plan
from recovery.step import Mode
from tests.thought.failover_scene import NOW, approval
from tests.thought.test_orders_of_people import LOSS, PEOPLE, SPLIT, plan, said

ACCEPTS = (Acceptance(klass="data-loss", limit=10, unit="s"),)
SPLITS = (Acceptance(klass="split-brain"),)


def rights(n: int = 1, **more: Any) -> Rights:
    return Rights(policy=ConsentPolicy(n_of_m=n, listed=PEOPLE), engine={"kengine"}, **more)


def chain(*told: tuple[str, dict[str, JsonValue]], of: Plan | None = None) -> list[Record]:
    run = (of or plan()).run
    return [
        Record(
            run=run, sequence=place, previous=GENESIS, kind=kind, subject="core", begin=NOW, who="engine", facts=facts
        )
        for place, (kind, facts) in enumerate(((RUN_BEGUN, {}), *told))
    ]  # fmt: skip


def taken(one: Said, *others: Said, of: Plan | None = None, n: int = 1, **more: Any) -> dict[str, JsonValue]:
    """What the engine writes of an order that counts."""
    past = history(more.pop("behind", ()))
    answer = decide(one, others, of or plan(), past, rights(n), **more)
    assert isinstance(answer, Taken), answer
    return dict(answer.facts)


def asked(
    records: Sequence[Record], *found: Said, of: Plan | None = None, n: int = 1, before: Any = None, **more: Any
) -> str:
    return unfounded(of or plan(), records, by_id(found), rights(n, before=before), **more)


ANN = said(Word.SKIP, step="fence", accepted=SPLITS)
BOB = said(Word.SKIP, "kb", step="fence", accepted=SPLITS)


def test_what_was_signed_is_believed_and_a_run_without_orders_too() -> None:
    both = taken(ANN, BOB, n=2)
    assert asked(chain(("step.begun", {"step": "fence"}), (SKIPPED, both), ("run.halted", {})), ANN, BOB, n=2) == ""
    assert asked(chain()) == ""


def test_the_engine_s_own_pause_and_a_person_s_resumption_are_believed() -> None:
    pause, resume = said(Word.PAUSE, "kengine", who="engine"), said(Word.RESUME)
    assert asked(chain((PAUSED, taken(pause)), (RESUMED, taken(resume))), pause, resume) == ""


def test_a_variant_s_danger_is_that_of_the_place_in_the_chain() -> None:
    """A step that the ungraceful variant leaves out was skipped before the run was switched, and never behind it."""
    book = plan("switchover")
    left_out = next(each.id for each in book.steps if each.omitted_in(Mode.UNGRACEFUL))
    skip = said(Word.SKIP, of=book, step=left_out, accepted=(Acceptance(klass="data-loss-unknown"),))
    switch = said(Word.UNGRACEFUL, of=book)
    first, second = (SKIPPED, taken(skip, of=book)), (UNGRACEFUL, taken(switch, of=book))
    assert asked(chain(first, second, of=book), skip, switch, of=book) == ""
    assert "nothing to skip" in asked(chain(second, first, of=book), skip, switch, of=book)


def switched(hazards: Sequence[Hazard]) -> tuple[Plan, Said, list[Record]]:
    """A switch that accepts up to ten seconds of loss; the record tells these hazards."""
    book = plan("switchover")
    one = said(Word.UNGRACEFUL, of=book, accepted=ACCEPTS)
    told: list[JsonValue] = [each.model_dump(mode="json") for each in hazards]
    facts = taken(one, of=book, hazards=(LOSS,))
    return book, one, chain((UNGRACEFUL, {**facts, HAZARDS: told}), of=book)


def test_a_switch_that_an_engine_vouches_for_had_the_hazards_that_it_tells() -> None:
    later = (LOSS.model_copy(update={"figure": 300.0}), SPLIT)
    book, one, records = switched((LOSS,))
    assert asked(records, one, of=book, hazards=later, vouched={1}) == ""
    assert "needs its hazards accepted: data-loss 300 s" in asked(records, one, of=book, hazards=later)
    assert asked(records, one, of=book, hazards=(LOSS,)) == "", "whoever wrote it: it would count now"
    book, one, records = switched(later)
    assert "needs its hazards accepted" in asked(records, one, of=book, hazards=(LOSS,), vouched={1})


@pytest.mark.parametrize("told", ["split-brain", [{"klass": 7}]])
def test_hazards_in_no_known_form_are_none_that_anybody_accepted(told: JsonValue) -> None:
    book, one, records = switched((LOSS,))
    records[1] = records[1].but(facts={**records[1].facts, HAZARDS: told})
    assert "is of no known form" in asked(records, one, of=book, vouched={1})


WRONG: list[tuple[str, dict[str, JsonValue], str]] = [
    (SKIPPED, {"order": "f" * 64}, "names an order that nobody put into the ledger"),
    (SKIPPED, {"order": None}, "names an order that nobody put into the ledger"),
    (SKIPPED, {"with": ["f" * 64]}, "names an order that nobody put into the ledger"),
    (SKIPPED, {"with": []}, "consent of 1 of 2 persons"),
    (SKIPPED, {"with": "nobody"}, "consent of 1 of 2 persons"),
    (SKIPPED, {"step": "promote"}, "says another step than the order"),
    (SKIPPED, {"who": "eve", "step": None}, "says another who, step than the order"),
    (CANCELLED, {}, "names an order that says something else (order.skipped)"),
    (SKIPPED, {"by": ["ann", "bob", "eve"]}, "says that eve consented"),
    (
        SKIPPED,
        {"accepted": [{"klass": "split-brain"}, {"klass": "data-loss", "limit": 1}]},
        "accepts data-loss further",
    ),
    (SKIPPED, {"accepted": "all"}, "accepts hazards in no known form"),
    (SKIPPED, {"accepted": [{"limit": 1}]}, "accepts hazards in no known form"),
    ("order.whatever", {}, "is of no known form"),
    (RUN_BEGUN, {}, "record 1 is a second beginning"),
]


@pytest.mark.parametrize(("kind", "change", "why"), WRONG)
def test_a_record_that_says_more_than_was_signed_is_named(kind: str, change: dict[str, JsonValue], why: str) -> None:
    records = chain((kind, {**taken(ANN, BOB, n=2), **change}))
    assert why in asked(records, ANN, BOB, n=2)


def test_a_record_that_accepts_nothing_of_what_was_accepted_is_no_forgery() -> None:
    records = chain((SKIPPED, {**taken(ANN), "accepted": None}))
    assert asked(records, ANN) == ""


def test_an_order_counts_once() -> None:
    facts = taken(said(Word.RETRY, step="fence"))
    twice = chain(("order.retried", facts), ("order.retried", facts))
    assert "record 2 (order.retried) names an order that is on record before it" in asked(
        twice, said(Word.RETRY, step="fence")
    )
    behind = chain((REFUSED, {"order": ANN.order.id}), (SKIPPED, taken(ANN)))
    assert "on record before it" in asked(behind, ANN, vouched={1})


def test_a_refusal_accepts_nothing_and_is_believed_of_what_does_not_count() -> None:
    assert "which no refusal does" in asked(chain((REFUSED, {"order": "x", "accepted": []})))
    assert asked(chain((REFUSED, {"order": "orders/junk.json"}))) == ""
    stranger = said(Word.CANCEL, "kx")
    assert asked(chain((REFUSED, {"order": stranger.order.id})), stranger) == ""
    true = said(Word.CANCEL)
    assert "and 'cancel' counts" in asked(chain((REFUSED, {"order": true.order.id})), true)
    assert asked(chain((REFUSED, {"order": true.order.id})), true, vouched={1}) == "", "as it was when it came"


def test_a_document_with_a_broken_signature_does_not_stand_for_the_whole_one() -> None:
    broken = Said(order=ANN.order, valid=False)
    assert by_id(("junk", broken, ANN)) == by_id((ANN, broken)) == {ANN.order.id: ANN}
    assert "no valid signature" in asked(chain((SKIPPED, taken(ANN))), broken)


def test_who_verifies_without_a_catalog_takes_each_signature_for_its_person() -> None:
    records = chain((SKIPPED, taken(ANN, BOB, n=2)))
    without = chain((SKIPPED, {**taken(ANN, BOB, n=2), "with": []}))
    bobs = approval(plan().digest, 0, "bob", ["split-brain"]).approval
    less = approval(plan().digest, 0, "bob", [], variant="graceful").approval
    nobody = rights_of_signers((ANN, Said(order=BOB.order, valid=False)), ())
    assert unfounded(plan(), records, by_id((ANN, BOB)), rights_of_signers((ANN, BOB), ())) == ""
    assert unfounded(plan(), without, by_id((ANN,)), rights_of_signers((ANN,), (bobs,))) == ""
    for both in ((bobs, less), (less, bobs)):
        assert rights_of_signers((), both).before == {"bob": (Mode.UNGRACEFUL, SPLITS)}
    assert "bob consented" in unfounded(plan(), without, by_id((ANN,)), nobody)


def test_a_silent_copy_is_named_beside_what_nobody_signed() -> None:
    with pytest.raises(Refused) as caught:
        refuse_unfounded(plan(), "record 3 names …", {"s3://ledger at hub": "timeout"})
    assert "the copy of the ledger at s3://ledger at hub does not answer" in caught.value.fact
    assert "once s3://ledger at hub answers" in caught.value.hint
    with pytest.raises(Refused) as caught:
        refuse_unfounded(plan(), "record 3 names …", {})
    assert caught.value.fact.endswith("people ordered: record 3 names …")
    assert "once" not in caught.value.hint


def test_an_engine_signs_all_that_a_record_of_an_order_says_but_its_own_signature() -> None:
    facts: dict[str, JsonValue] = {"order": "a", SIGNED: "x"}
    one = vouched_bytes("r", PAUSED, NOW, facts)
    assert one == vouched_bytes("r", PAUSED, NOW, {"order": "a"})
    others = (("q", PAUSED, facts), ("r", RESUMED, facts), ("r", PAUSED, {"order": "b"}))
    assert all(one != vouched_bytes(run, kind, NOW, more) for run, kind, more in others)
