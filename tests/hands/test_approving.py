"""Consent as documents: signed, found, counted; and every approval that is not one. Orders taken in once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from recovery.admission import RunState, Start, admit
from recovery.approval import Approval, StandingApproval, approval_key
from recovery.catalog import LedgerPlace
from recovery.check import Outcome
from recovery.doors import Approver, Consent, StandingTerms
from recovery.epoch import Change
from recovery.errors import BadInput, Refused
from recovery.evidence import Record, Signature
from recovery.failover import Asked, Proposal, propose
from recovery.hazard import Acceptance
from recovery.journal import history
from recovery.observation import FenceSeen
from recovery.orders import Order, Word, order_key
from recovery.plan import Plan
from recovery.step import Mode
from recovery.value import canonical
from tasks import approving, keys
from tasks.endorsements import publish
from tasks.engine import keep_plan
from tasks.evidence import run_names, verify
from tasks.home import Home
from tasks.journal import Journal, read_records
from tasks.orders_of_people import Desk, Now, fate, give, taking
from tasks.signed import keep_signed, verified
from tests.thought.failover_scene import NOW, catalog, runbook, seen

LASTS = timedelta(hours=1)
LOSS = (Acceptance(klass="data-loss", limit=10, unit="s"),)
TERMS = StandingTerms(
    runbook="failover",
    service="core",
    to="west",
    conditions={"app-east": timedelta(seconds=15)},
    accept={"data-loss": "10 s"},
)


class World:
    """A home with people's keys, and a clock that stands still."""

    def __init__(self, folder: Path, n_of_m: int = 1) -> None:
        self.at = NOW
        for name in ("ann", "bob", "eve", "mallory"):
            keys.make(folder / "keys", name, "approver")
        keys.make(folder / "keys", "engine", "engine")
        prints = {each.name: each.fingerprint for each in keys.cards(folder / "keys")}
        listed = {name: Approver(key=prints[name]) for name in ("ann", "bob", "eve")}
        consent = Consent(approvers=listed, n_of_m=n_of_m, standing={"east-is-out": TERMS})
        changes = {"ledger": LedgerPlace(home="directory:ledger"), "consent": consent}
        self.home = Home(folder=folder, catalog=catalog().model_copy(update=changes), now=lambda: self.at)
        self.plan = self.planned()

    def planned(
        self, book: str = "failover", *, epoch: int = 0, at: datetime = NOW, to: str = "west", primary: str = "east"
    ) -> Plan:
        asked = Asked(service="core", to=to, asked_at=at)
        made = propose(asked, runbook(book), catalog(), seen(epoch=epoch, primary=primary))
        assert isinstance(made, Proposal)
        return made.plan

    def approve(self, who: str = "ann", plan: Plan | None = None, accepted: tuple[Acceptance, ...] = LOSS) -> str:
        return approving.approve(self.home, plan or self.plan, who=who, accepted=accepted, lasts=LASTS).id

    def admitted(
        self,
        plan: Plan | None = None,
        *,
        epoch: int = 0,
        fails: float = 20.0,
        lag: float = 4.2,
        primary: str = "east",
    ) -> Start:
        plan = plan or self.plan
        look = seen(epoch=epoch, failing_seconds=fails, behind_seconds=lag, primary=primary)
        asked = Asked(service="core", to=str(plan.pinned["to"]), asked_at=plan.asked_at)
        made = propose(asked, runbook(plan.runbook), catalog(), look)
        assert isinstance(made, Proposal)
        consents = approving.consents(self.home, plan)
        answer = admit(
            plan, made.plan, look, made.hazards, state=RunState(), consents=consents, now=self.at
        )  # fmt: skip
        assert isinstance(answer, Start)
        return answer

    def refusal(self, plan: Plan | None = None, **world: Any) -> str:
        with pytest.raises(Refused) as caught:
            self.admitted(plan, **world)
        return caught.value.fact

    def journal(self) -> Journal:
        return Journal(
            self.home.ledger(), self.plan.run, who="engine", generation=1, clock=self.home.now, digest=self.plan.digest
        )


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def two(tmp_path: Path) -> World:
    return World(tmp_path, n_of_m=2)


def test_an_approval_is_found_verified_and_counted_by_another_home_of_the_same_ledger(
    world: World, tmp_path: Path
) -> None:
    mine = world.approve()
    for path in (tmp_path / "keys").glob("ann*"):
        path.unlink()
    answer = world.admitted()
    assert (answer.by, answer.spends) == (("ann",), (mine,))


def test_without_any_approval_the_plan_is_refused_with_the_command_to_write(world: World) -> None:
    assert "0 of 1 approvals" in world.refusal()


def forged(world: World) -> None:
    """Mallory signs as ann, naming ann's key."""
    approval = approving.approve(world.home, world.plan, who="ann", accepted=LOSS, lasts=timedelta(seconds=1))
    false = keys.signer(world.home.folder / "keys", "mallory")(approval.signed_bytes())
    assert approval.signature is not None
    signature = Signature(who="ann", key=approval.signature.key, ed25519=false.ed25519)
    put(world, approval.but(expires_at=world.at + LASTS, signature=signature))


def swapped(world: World) -> None:
    """Ann's signature below other words: the loss that she accepted is raised."""
    approval = approving.approve(world.home, world.plan, who="ann", accepted=(), lasts=LASTS)
    put(world, approval.but(accepted=LOSS))


def stranger(world: World) -> None:
    """Mallory signs as herself: valid, and not listed."""
    approval = approving.approve(world.home, world.plan, who="ann", accepted=LOSS, lasts=timedelta(seconds=1))
    sign = keys.signer(world.home.folder / "keys", "mallory")
    draft = approval.but(who="mallory", expires_at=world.at + LASTS, signature=None)
    keep_signed(world.home.ledger(), approval_key(draft), draft.but(signature=sign(draft.signed_bytes())), sign)


def somebody_elses(world: World) -> None:
    """Eve signs in bob's name with her own listed key."""
    approval = approving.approve(world.home, world.plan, who="ann", accepted=LOSS, lasts=timedelta(seconds=1))
    sign = keys.signer(world.home.folder / "keys", "eve")
    draft = approval.but(who="bob", expires_at=world.at + LASTS, signature=None)
    keep_signed(world.home.ledger(), approval_key(draft), draft.but(signature=sign(draft.signed_bytes())), sign)


def expired(world: World) -> None:
    world.approve()
    world.at += LASTS


def too_little(world: World) -> None:
    world.approve(accepted=(Acceptance(klass="data-loss", limit=4, unit="s"),))


def taken_back(world: World) -> None:
    approving.cancel(world.home, world.approve()[:8], who="bob")


def spent_elsewhere(world: World) -> None:
    approving.spend(world.home, world.planned(at=NOW + timedelta(seconds=1)), [world.approve()])


def other_plans(world: World) -> None:
    other = world.planned(at=NOW + timedelta(seconds=1))
    world.approve(plan=other)
    moved = approving.approve(world.home, other, who="bob", accepted=LOSS, lasts=LASTS)
    world.home.ledger().put(f"approvals/{world.plan.digest}/{moved.id}.json", canonical(moved))


def unreadable(world: World) -> None:
    world.home.ledger().put(f"approvals/{world.plan.digest}/{'a' * 64}.json", b"{}")


def put(world: World, approval: Approval) -> None:
    world.home.ledger().put(approval_key(approval), canonical(approval))


@pytest.mark.parametrize(
    ("break_", "why"),
    [
        (forged, "carries no valid signature"),
        (swapped, "carries no valid signature"),
        (stranger, "with a key that is not listed"),
        (somebody_elses, "is signed with somebody else's key"),
        (expired, "expired at 2026-11-24T04:00:00"),
        (too_little, "does not accept data-loss 4.2 s"),
        (taken_back, "was cancelled"),
        (spent_elsewhere, "was spent by run"),
        (other_plans, "is for another plan"),
        (unreadable, "cannot be read and counts for nothing"),
    ],
)
def test_an_approval_that_is_none_is_refused_and_says_why(
    world: World, break_: Callable[[World], None], why: str
) -> None:
    break_(world)
    if break_ in (forged, stranger, somebody_elses):
        world.at += timedelta(seconds=2)  # the true one that the false one was made from is over
    said = world.refusal()
    assert "0 of 1 approvals" in said
    assert why in said


def test_an_approval_of_another_epoch_is_refused(world: World) -> None:
    approval = approving.approve(world.home, world.plan, who="ann", accepted=LOSS, lasts=LASTS)
    now = world.planned(epoch=1)
    world.home.ledger().put(
        f"approvals/{now.digest}/{approval.id}.json", canonical(approval)
    )  # moved there by somebody
    sign = keys.signer(world.home.folder / "keys", "ann")
    old = approval.but(digest=now.digest, signature=None)
    put(world, old.but(signature=sign(old.signed_bytes())))
    said = world.refusal(now, epoch=1)
    assert "is for epoch 0; the service is in epoch 1" in said
    assert "rule 8" in world.refusal(epoch=1), "and the old plan itself belongs to no epoch that is"


def test_a_key_that_is_not_the_one_it_is_named_for_verifies_nothing(world: World) -> None:
    ann = keys.signer(world.home.folder / "keys", "ann")
    mallory = keys.signer(world.home.folder / "keys", "mallory")
    ledger = world.home.ledger()
    body = b"words"
    ledger.put(f"keys/{ann.fingerprint}.pem", mallory.public_pem)
    assert not verified(ledger, body, ann(body))
    lie = Signature(who="ann", key=ann.fingerprint, ed25519=mallory(body).ed25519)
    assert not verified(ledger, body, lie)


def test_two_persons_are_two_and_one_twice_is_one(two: World) -> None:
    two.approve("ann")
    two.at += timedelta(seconds=1)
    two.approve("ann")
    assert "1 of 2" in two.refusal()
    two.approve("eve")
    assert two.admitted().by == ("ann", "eve")


def test_whose_key_counts_for_nothing_cannot_even_sign(world: World) -> None:
    with pytest.raises(Refused, match="counts for nothing here: the catalog does not list it"):
        world.approve("mallory")
    with pytest.raises(BadInput, match="no private key of zoe"):
        world.approve("zoe")
    assert not list(world.home.ledger().list("approvals/"))


def test_lag_that_grew_beyond_what_was_accepted_refuses(world: World) -> None:
    world.approve()
    assert "data-loss 12 s" in world.refusal(lag=12)
    world.admitted(lag=9.9)


def test_an_approval_is_spent_once_also_by_two_at_the_same_moment(world: World) -> None:
    mine = world.approve()
    plans = [world.plan, world.planned(at=NOW + timedelta(seconds=1))]
    lost: list[Refused] = []

    def spend(plan: Plan) -> None:
        try:
            approving.spend(world.home, plan, [mine])
        except Refused as refused:
            lost.append(refused)

    both = [threading.Thread(target=spend, args=(each,)) for each in plans]
    for each in both:
        each.start()
    for each in both:
        each.join()
    assert len(lost) == 1
    won = next(p for p in plans if approving.consents(world.home, world.plan).spent == {mine: p.run})
    approving.spend(world.home, won, [mine])  # the same run again is fine


def test_what_is_spent_cannot_be_taken_back_and_the_run_is_named(world: World) -> None:
    mine = world.approve()
    approving.spend(world.home, world.plan, [mine])
    with pytest.raises(Refused, match="was spent by run") as caught:
        approving.cancel(world.home, mine, who="ann")
    assert f"dr run cancel {world.plan.run[:12]}" in caught.value.hint


def test_a_cancellation_by_a_stranger_cancels_nothing_and_bars_no_true_one(world: World) -> None:
    mine = world.approve()
    sign = keys.signer(world.home.folder / "keys", "mallory")
    false = approving.Cancellation(approval=mine, who="ann", at=world.at)
    signed = false.but(signature=sign(false.signed_bytes()))
    keep_signed(world.home.ledger(), f"cancelled/{mine}/{'0' * 16}.json", signed, sign)
    world.admitted()
    approving.cancel(world.home, mine, who="ann")
    assert "was cancelled" in world.refusal()


def test_an_approval_is_named_by_eight_digits_at_least(world: World) -> None:
    with pytest.raises(BadInput, match="too short"):
        approving.cancel(world.home, "abc", who="ann")
    with pytest.raises(BadInput, match="no approval begins with"):
        approving.cancel(world.home, "a" * 64, who="ann")


def stand(world: World, *names: str) -> StandingApproval:
    for name in names:
        made = approving.approve_standing(world.home, "east-is-out", who=name)
        world.at += timedelta(minutes=1)
    return made


def test_a_standing_approval_is_signed_by_each_and_then_admits_alone(two: World) -> None:
    stand(two, "ann")
    assert "carries 1 of 2" in two.refusal()
    made = stand(two, "bob")
    answer = two.admitted()
    assert (answer.standing, answer.by, answer.spends) == (made.id, ("ann", "bob"), ())
    assert stand(two, "eve").id == made.id, "who comes later signs the same document"


def test_signatures_that_were_given_at_the_same_moment_are_joined(two: World) -> None:
    first = stand(two, "ann")
    for name in ("bob", "eve"):
        sign = keys.signer(two.home.folder / "keys", name)
        alone = first.model_copy(update={"signatures": (sign(first.signed_bytes()),)})
        two.home.ledger().put(f"standing/core/{name}.json", canonical(alone))
        publish(two.home.ledger(), sign.public_pem)
    assert two.admitted().by == ("ann", "bob", "eve")


def test_a_standing_approval_waits_for_its_conditions_and_ends(two: World) -> None:
    made = stand(two, "ann", "bob")
    assert "waits for its conditions: app-east" in two.refusal(fails=14.9)
    assert "data-loss 11 s" in two.refusal(lag=11)
    approving.cancel(two.home, made.id[:12], who="eve")
    assert "was cancelled" in two.refusal()
    assert stand(two, "ann").id != made.id, "after it was taken back a new one is begun"


def test_a_standing_approval_expires_and_a_forged_signature_is_none(two: World) -> None:
    made = stand(two, "ann")
    false = keys.signer(two.home.folder / "keys", "mallory")(made.signed_bytes())
    listed = {each.name: each.fingerprint for each in keys.cards(two.home.folder / "keys")}
    lie = Signature(who="bob", key=listed["bob"], ed25519=false.ed25519)
    two.home.ledger().put("standing/core/x.json", canonical(made.but(signatures=(*made.signatures, lie))))
    assert "carries 1 of 2" in two.refusal()
    stand(two, "bob")
    two.at += timedelta(days=90)
    assert "expired" in two.refusal()


def test_a_standing_approval_goes_one_way(two: World) -> None:
    made = stand(two, "ann", "bob")
    assert made.to == "west"
    home = two.planned("failover", epoch=1, primary="west", to="east")
    assert "is for west to take over" in two.refusal(home, epoch=1, primary="west")
    terms = two.home.catalog.consent.but(standing={"east-is-out": TERMS.but(to=None)})
    two.home = replace(two.home, catalog=two.home.catalog.model_copy(update={"consent": terms}))
    with pytest.raises(BadInput, match="names no site that takes over") as caught:
        approving.approve_standing(two.home, "east-is-out", who="eve")
    assert "`to: SITE` below consent.standing.east-is-out" in caught.value.hint


def test_a_standing_approval_that_the_catalog_does_not_know_is_bad_input(world: World) -> None:
    with pytest.raises(BadInput, match="no standing approval 'west-is-out'") as caught:
        approving.approve_standing(world.home, "west-is-out", who="ann")
    assert "east-is-out" in caught.value.hint


def test_a_refusal_is_a_signed_run_of_its_own_and_breaks_no_verification(world: World) -> None:
    run = approving.refused(world.home, world.plan.digest, ["0 of 1 approvals"], subject="core")
    again = approving.refused(world.home, world.plan.digest, ["something else"], subject="core")
    assert run != again
    assert set(run_names(world.home.ledger())) == {run, again}
    told = read_records(world.home.ledger(), run)
    assert [each.kind for each in told] == ["refusal", "run.ended"]
    assert told[0].facts == {"purpose": "refusal", "plan": world.plan.digest, "why": ["0 of 1 approvals"]}
    trusted = keys.engine_fingerprints(world.home.folder / "keys")
    assert verify(world.home.ledger(), trusted=trusted).outcome is Outcome.PASSED


# Orders


def desk(world: World, journal: Journal) -> Desk:
    look = seen(fence=FenceSeen(lease="kept"))

    def now(mode: Mode) -> Now:
        from recovery.hazards import hazards as found

        return Now(hazards=found(world.plan, look, rpo_seconds={}, mode=mode))

    return Desk(home=world.home, plan=world.plan, journal=journal, look=now)


def kinds(journal: Journal) -> list[str]:
    return [each.kind for each in journal.records()]


def test_an_order_is_taken_in_once_whoever_drives_and_however_often(world: World) -> None:
    order = give(world.home, world.plan, Word.PAUSE, who="ann", why="coffee")
    journal = world.journal()
    first = desk(world, journal)
    for _ in range(3):
        first.look_once()
        first.take_in()
    other = desk(world, world.journal())  # the next engine reads the same documents
    other.look_once()
    other.take_in()
    assert kinds(world.journal()) == ["order.paused"]
    taken = world.journal().records()[0]
    assert (taken.facts["order"], taken.facts["who"], taken.facts["why"]) == (order.id, "ann", "coffee")
    assert fate(world.journal().records(), order.id) == "taken"
    assert history(world.journal().records()).paused == "coffee"


def test_orders_are_taken_in_the_order_in_which_they_were_given(world: World) -> None:
    for word in (Word.PAUSE, Word.RESUME):
        give(world.home, world.plan, word, who="ann")
        world.at += timedelta(seconds=1)
    journal = world.journal()
    here = desk(world, journal)
    here.look_once()
    here.take_in()
    assert kinds(journal) == ["order.paused", "order.resumed"]


def test_a_false_order_leaves_a_refusal_once_and_changes_nothing(world: World) -> None:
    sign = keys.signer(world.home.folder / "keys", "mallory")
    draft = Order(run=world.plan.run, word=Word.CANCEL, who="ann", made_at=world.at)
    ledger = world.home.ledger()
    made = draft.but(signature=sign(draft.signed_bytes()))
    keep_signed(ledger, order_key(made), made, sign)
    ledger.put(f"orders/{world.plan.run}/junk.json", b"{}")
    journal = world.journal()
    for _ in range(2):
        here = desk(world, journal)
        here.look_once()
        here.take_in()
    assert kinds(journal) == ["order.refused", "order.refused"]
    whys = [str(each.facts["why"]) for each in journal.records()]
    assert any("not listed" in each for each in whys)
    assert any("no order of a known schema" in each for each in whys)
    assert history(journal.records()).cancelled == ""
    assert "not listed" in (fate(journal.records(), made.id) or "")


def test_a_skip_that_two_must_sign_waits_for_the_second(two: World) -> None:
    split = (Acceptance(klass="split-brain"),)
    journal = two.journal()
    here = desk(two, journal)
    first = give(two.home, two.plan, Word.SKIP, who="ann", step="fence", accepted=split)
    here.look_once()
    here.take_in()
    assert kinds(journal) == []
    second = give(two.home, two.plan, Word.SKIP, who="bob", step="fence", accepted=split)
    here.look_once()
    here.take_in()
    assert kinds(journal) == ["order.skipped"]
    assert {fate(journal.records(), each.id) for each in (first, second)} == {"taken"}
    assert history(journal.records()).of("fence").skipped


def test_what_was_accepted_by_the_approval_that_the_run_spent_need_not_be_said_again(two: World) -> None:
    split = (Acceptance(klass="split-brain"),)
    approving.spend(two.home, two.plan, [two.approve("bob", accepted=(*LOSS, *split))])
    journal = two.journal()
    give(two.home, two.plan, Word.SKIP, who="ann", step="fence", accepted=split)
    here = desk(two, journal)
    here.look_once()
    here.take_in()
    assert [each.facts["by"] for each in journal.records()] == [["ann", "bob"]]


def test_while_a_run_is_driven_its_orders_are_watched_for(world: World) -> None:
    world.home.ledger()
    journal = world.journal()
    with taking(world.home, world.plan, journal, look=lambda mode: Now()) as take_in:
        take_in()
        give(world.home, world.plan, Word.CANCEL, who=None)
        ends = datetime.now(UTC) + timedelta(seconds=10)
        while not journal.records() and datetime.now(UTC) < ends:
            take_in()
    assert kinds(journal) == ["order.cancelled"]
    assert _who(journal.records()) == ["engine"]


def _who(records: tuple[Record, ...]) -> list[object]:
    return [each.facts["who"] for each in records]


# Verification of what lies beside the chains


def judged(world: World) -> tuple[Outcome, str]:
    trusted = keys.engine_fingerprints(world.home.folder / "keys")
    report = verify(world.home.ledger(), trusted=trusted)
    return report.outcome, " | ".join(each.fact for each in report.troubles)


def test_plans_consent_and_orders_that_are_whole_pass(two: World) -> None:
    keep_plan(two.home.ledger(), two.plan)
    approving.spend(two.home, two.plan, [two.approve("ann"), two.approve("bob")])
    two.at += timedelta(seconds=1)
    approving.cancel(two.home, two.approve("eve"), who="eve")
    stand(two, "ann", "bob")
    give(two.home, two.plan, Word.SKIP, who="ann", step="notify")
    assert judged(two) == (Outcome.UNPROVEN, ""), "only since there is no run"


def alter(world: World, key: str, old: str, new: str) -> None:
    path = world.home.folder / "ledger" / key
    path.chmod(0o644)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("folder", "old", "new", "fact"),
    [
        ("plans", '"to":"west"', '"to":"east"', "is not the plan that its name says"),
        ("approvals", '"limit":10.0', '"limit":99.0', "a signature that does not match its content"),
        ("approvals", '"limit":10.0', '"limit": 10.0', "is not in canonical form"),
        ("standing", '"app-east":15.0', '"app-east":1.0', "a signature that does not match its content"),
        ("cancelled", '"who":"eve"', '"who":"ann"', "is said by one and signed in the name of another"),
        ("spent", '"schema_version":1', '"schema_version":2', "no document of a known schema"),
        ("orders", '"step":"notify"', '"step":"verify"', "is not the order that its name says"),
    ],
)
def test_a_document_that_was_changed_is_found(world: World, folder: str, old: str, new: str, fact: str) -> None:
    keep_plan(world.home.ledger(), world.plan)
    approving.spend(world.home, world.plan, [world.approve("ann")])
    world.at += timedelta(seconds=1)
    approving.cancel(world.home, world.approve("eve"), who="eve")
    stand(world, "ann")
    give(world.home, world.plan, Word.SKIP, who="ann", step="notify")
    for key in list(world.home.ledger().list(f"{folder}/"))[:1]:
        alter(world, key, old, new)
    outcome, facts = judged(world)
    assert outcome is Outcome.FAILED
    assert fact in facts


def test_what_was_forged_or_stands_in_no_record_is_found(world: World) -> None:
    forged(world)
    change = Change(service="core", epoch=1, primary="west", run="a" * 64, runbook="failover", at=world.at)
    world.home.ledger().put("epochs/core/00000001.json", canonical(change))
    outcome, facts = judged(world)
    assert outcome is Outcome.FAILED
    assert "a signature that does not match its content" in facts
    assert "epochs/core/00000001.json stands in no record of run aaaaaaaaaaaa" in facts
