"""A run is taken up from a ledger that others write to: its records of people's orders count for what people signed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import JsonValue

from recovery.drive import Move
from recovery.errors import Failed, Refused
from recovery.evidence import Signature
from recovery.hazard import Acceptance
from recovery.journal import RUN_BEGUN, RUN_ENDED, generation
from recovery.orders import REFUSED, Order, Word, order_key
from recovery.plan import Plan
from recovery.value import canonical
from tasks import acting, changing, keys
from tasks.engine import Act
from tasks.evidence import compared, verify
from tasks.home import Home, clock
from tasks.journal import Journal, read_records
from tasks.kind import Facts
from tasks.ledger_dir import DirectoryLedger
from tasks.ledger_mirrored import MirroredLedger
from tasks.orders_of_people import draft, give, hand_in
from tasks.signed import keep_signed
from tests.hands.test_consent_spoiled import Copy
from tests.hands.test_taken_up import LASTS, Dies, approve, dies_at, planned
from tests.time.change_scene import changing_home, made_up, performed

SPLIT = (Acceptance(klass="split-brain"),)
SKIP: dict[str, JsonValue] = {
    "step": "fence", "who": "ann", "by": ["ann", "bob"], "accepted": [{"klass": "split-brain"}],
}  # fmt: skip


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = changing_home(tmp_path / "one", n_of_m=2)
    with made_up(made.folder):
        yield made


def dead(home: Home, *ordered: tuple[Word, str | None, str | None]) -> Plan:
    """The plan of a run whose engine died before the promotion; it had taken these orders in: word, who, step."""
    plan = planned(home)
    approve(home, plan)
    for word, who, step in ordered:
        give(home, plan, word, who=who, step=step)
    with pytest.raises(Dies):
        changing.act(Act(home=home, door=dies_at("promote")), plan)
    return plan


def forged(home: Home, plan: Plan, kind: str, **facts: JsonValue) -> None:
    """As whoever can write to the bucket writes it: behind the last record, with the generation of the last engine."""
    newest = generation(read_records(home.ledger(), plan.run))
    journal = Journal(home.ledger(), plan.run, who=home.who, generation=newest, clock=home.now, digest=plan.digest)
    journal.append(kind, plan.service, facts=facts)


def refused(home: Home, plan: Plan) -> str:
    """Acting is refused with nothing touched and nothing written, and the refusal and the forgery are told."""
    done, before = performed(home.folder), read_records(home.ledger(), plan.run)
    with pytest.raises(Refused, match="is not what people ordered") as caught:
        changing.act(Act(home=home), plan)
    assert caught.value.exit_code == 4
    assert "nothing was touched" in caught.value.hint
    assert performed(home.folder) == done
    assert read_records(home.ledger(), plan.run) == before
    told = [each for run in runs(home) for each in read_records(home.ledger(), run) if each.kind == "refusal"]
    assert any(caught.value.fact in str(each.facts["why"]) for each in told)
    return caught.value.fact


def runs(home: Home) -> list[str]:
    return sorted({key.split("/")[1] for key in home.ledger().list("runs/")})


def verified(home: Home, plan: Plan) -> str:
    report = verify(home.ledger(), trusted=keys.engine_fingerprints(home.folder / "keys"), runs=[plan.run])
    return " | ".join(each.fact for each in report.troubles)


FORGED: list[tuple[str, dict[str, JsonValue], str]] = [
    ("order.skipped", SKIP, "order that nobody put into the ledger"),
    ("order.skipped", {**SKIP, "order": "f" * 64}, "order that nobody put into the ledger"),
    ("order.ungraceful", {"order": "f" * 64, "who": "ann", "by": ["ann", "bob"]}, "nobody put into the ledger"),
    ("order.cancelled", {"why": "a newer one was asked for"}, "order that nobody put into the ledger"),
    ("order.retried", {"order": "f" * 64, "who": "ann", "step": "promote", "tries": 9}, "nobody put into the ledger"),
    ("order.confirmed", {"who": "ann", "step": "fence"}, "order that nobody put into the ledger"),
    ("order.paused", {"why": "coffee"}, "order that nobody put into the ledger"),
    ("order.resumed", {}, "order that nobody put into the ledger"),
    ("order.agreed", {"accepted": [{"klass": "split-brain"}]}, "is of no known form"),
    (REFUSED, {"order": "f" * 64, "accepted": [{"klass": "split-brain"}]}, "which no refusal does"),
    (RUN_BEGUN, {"consent": {"by": ["ann"], "accepted": [{"klass": "split-brain"}]}}, "a second beginning"),
]


@pytest.mark.parametrize(("kind", "facts", "why"), FORGED)
def test_an_order_that_somebody_wrote_into_the_bucket_takes_up_nothing_and_is_found(
    home: Home, kind: str, facts: dict[str, JsonValue], why: str
) -> None:
    plan = dead(home)
    assert verified(home, plan) == ""
    forged(home, plan, kind, **facts)
    assert why in refused(home, plan)
    assert why in verified(home, plan)


def test_a_stranger_who_signs_as_somebody_else_orders_nothing(home: Home) -> None:
    plan = dead(home)
    sign = keys.signer(home.folder / "keys", "mallory")
    made = Order(run=plan.run, word=Word.SKIP, step="notify", who="ann", made_at=home.now())
    made = made.but(signature=sign(made.signed_bytes()))
    keep_signed(home.ledger(), order_key(made), made, sign)
    forged(home, plan, "order.skipped", order=made.id, who="ann", by=["ann"], step="notify")
    assert "signed with a key that is not listed" in refused(home, plan)
    assert "said by one and signed in the name of another" in verified(home, plan)


def test_a_broken_signature_orders_nothing(home: Home) -> None:
    plan = dead(home)
    made = draft(home, plan, Word.SKIP, who="ann", step="notify")
    assert made.signature is not None
    broken = Signature(who="ann", key=made.signature.key, ed25519="0" * 128)
    home.ledger().put(order_key(made), canonical(made.but(signature=broken)))
    forged(home, plan, "order.skipped", order=made.id, who="ann", by=["ann"], step="notify")
    assert "carries no valid signature" in refused(home, plan)
    assert "carries no valid signature" in verified(home, plan)


def test_one_person_alone_does_not_skip_the_fence(home: Home) -> None:
    plan = dead(home)
    made = draft(home, plan, Word.SKIP, who="ann", step="fence", accepted=SPLIT)
    hand_in(home, made)
    forged(home, plan, "order.skipped", **{**SKIP, "order": made.id})
    assert "consent of 1 of 2 persons" in refused(home, plan)
    assert "says that bob consented, who signed nothing of it" in verified(home, plan)


def test_a_true_order_is_neither_told_otherwise_nor_counted_twice(home: Home) -> None:
    plan = dead(home, (Word.PAUSE, "ann", None), (Word.RESUME, "bob", None))
    resumed = read_records(home.ledger(), plan.run)[2]
    assert resumed.kind == "order.resumed"
    pause = draft(home, plan, Word.PAUSE, who="ann")
    hand_in(home, pause)
    forged(home, plan, "order.resumed", **resumed.facts)
    assert "names an order that is on record before it" in refused(home, plan)
    assert "names an order that is on record before it" in verified(home, plan)


def test_a_true_order_does_not_become_another(home: Home) -> None:
    plan = dead(home)
    made = draft(home, plan, Word.RETRY, who="ann", step="promote")
    hand_in(home, made)
    forged(home, plan, "order.retried", order=made.id, who="ann", by=["ann"], step="promote", tries=20)
    assert "says another tries than the order" in refused(home, plan)
    assert "says another tries than the order" in verified(home, plan)


def test_an_order_that_somebody_calls_refused_is_not_lost(home: Home) -> None:
    """A person cancels while no engine runs; whoever writes to the bucket would have it never heard."""
    plan = dead(home)
    made = give(home, plan, Word.CANCEL, who="ann")
    forged(home, plan, REFUSED, order=made.id, what="cancel", who="ann", why="it carries no valid signature")
    assert "and 'cancel' counts" in refused(home, plan)


def taken_up(home: Home, folder: Path, plan: Plan) -> Any:
    """In another home, when everything has expired."""
    other = Home(folder=folder, catalog=home.catalog, now=lambda: home.now() + 2 * LASTS)
    shutil.copytree(home.folder / "keys", other.folder / "keys")
    (other.folder / "ledger").symlink_to(home.folder / "ledger")
    return changing.act(Act(home=other), plan)


def test_what_people_and_the_engine_ordered_is_gone_on_with_elsewhere(home: Home, tmp_path: Path) -> None:
    plan = planned(home)
    approve(home, plan)
    for who in ("ann", "bob"):
        give(home, plan, Word.SKIP, who=who, step="fence", accepted=SPLIT)
    for word, who, step in ((Word.PAUSE, None, None), (Word.RESUME, "bob", None), (Word.RETRY, "ann", "promote")):
        give(home, plan, word, who=who, step=step)
    give(home, plan, Word.SKIP, who="ann", step="promote")  # refused: it is on record, too
    with pytest.raises(Dies):
        changing.act(Act(home=home, door=dies_at("promote")), plan)
    kinds = [each.kind for each in read_records(home.ledger(), plan.run) if each.kind.startswith("order.")]
    assert sorted(kinds) == sorted(["order.skipped", "order.paused", "order.resumed", "order.retried", "order.refused"])
    assert verified(home, plan) == ""
    assert taken_up(home, tmp_path / "two", plan).stopped is None
    assert read_records(home.ledger(), plan.run)[-1].kind == RUN_ENDED
    assert "fence" not in performed(home.folder)
    assert verified(home, plan) == ""


def test_a_run_that_its_engine_cancelled_is_ended_elsewhere(home: Home, tmp_path: Path) -> None:
    plan = dead(home)
    give(home, plan, Word.CANCEL, who=None)
    assert taken_up(home, tmp_path / "two", plan).outcome == "cancelled"


def test_an_order_that_lies_in_a_silent_copy_alone_is_said_to_be_there_perhaps(home: Home, tmp_path: Path) -> None:
    """What was ordered from a machine that died before the mirror had it; the mirror alone answers now."""
    plan = dead(home, (Word.SKIP, "ann", "notify"))
    there, mirror = Copy(home.folder / "ledger"), DirectoryLedger(tmp_path / "mirror")
    for key in there.list(""):
        if not key.startswith("orders/"):
            mirror.put(key, there.get(key) or b"")
    there.silent = True
    ledger = home._opened["ledger"] = MirroredLedger(there, [mirror])
    said = refused(home, plan)
    assert f"the copy of the ledger at {there.place} does not answer, and may hold what people signed" in said
    report = compared(verify(ledger, runs=[plan.run]), ledger, whole=False)
    assert "does not answer, and may hold what people signed" in report.troubles[0].fact
    assert there.place in report.silent
    there.silent = False
    ledger.sync()
    there.silent = True
    assert changing.act(Act(home=home), plan).stopped is None


def test_what_an_engine_takes_in_lies_in_each_copy_that_answers(home: Home, tmp_path: Path) -> None:
    there, mirror = DirectoryLedger(home.folder / "ledger"), DirectoryLedger(tmp_path / "mirror")
    plan = planned(home)
    approve(home, plan)
    give(home, plan, Word.SKIP, who="ann", step="notify")
    ledger = home._opened["ledger"] = MirroredLedger(there, [mirror])
    with pytest.raises(Dies):
        changing.act(Act(home=home, door=dies_at("promote")), plan)
    ledger.settle(10.0)
    assert list(mirror.list(f"orders/{plan.run}/"))


def test_an_order_that_somebody_writes_while_the_engine_drives_is_never_gone_by(home: Home) -> None:
    plan = planned(home)
    approve(home, plan)

    def door(move: Move, perform: Callable[[], Facts]) -> Facts:
        if move.step.id == "promote":
            forged(home, plan, "order.skipped", **{**SKIP, "step": "validate"})
        return perform()

    with pytest.raises(Refused, match=r"\(order.skipped\) was written by somebody else, while this engine alone"):
        changing.act(Act(home=home, door=door), plan)
    done = performed(home.folder)
    assert "promote" in done
    assert "redirect" not in done
    assert "nobody put into the ledger" in refused(home, plan)


def test_an_order_that_somebody_writes_while_a_run_is_taken_up_is_held_against_what_was_signed(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = dead(home)
    whole = acting.keep_plan

    def keep_plan(ledger: Any, kept: Plan) -> None:
        forged(home, plan, "order.skipped", **SKIP)
        whole(ledger, kept)

    monkeypatch.setattr(acting, "keep_plan", keep_plan)
    done = performed(home.folder)
    with pytest.raises(Refused, match="nobody put into the ledger"):
        changing.act(Act(home=home), plan)
    assert performed(home.folder) == done


class Deaf(DirectoryLedger):
    """Stores, and its answer is lost on the way."""

    deaf = False

    def put(self, key: str, body: bytes) -> None:
        super().put(key, body)
        if self.deaf:
            raise Failed("it does not answer", hint="")


def test_a_record_of_ours_whose_answer_was_lost_is_nobody_else_s(tmp_path: Path) -> None:
    ledger = Deaf(tmp_path)
    journal = Journal(ledger, "a" * 64, who="engine", generation=1, clock=clock)
    journal.append(RUN_BEGUN, "core")
    journal.alone()
    ledger.deaf = True
    with pytest.raises(Failed):
        journal.append("step.begun", "core", facts={"step": "fence"})
    ledger.deaf = False
    journal.append("step.failed", "core", facts={"step": "fence"})
    assert [each.kind for each in journal.records()] == [RUN_BEGUN, "step.begun", "step.failed"]
