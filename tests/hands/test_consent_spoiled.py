"""Documents of consent that somebody spoiled, or a copy of the ledger that falls silent at the wrong moment: neither
stops a run, and neither makes a true order count for nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from recovery.approval import standing_key
from recovery.errors import BadInput, Failed
from recovery.orders import Order, Word, order_key
from recovery.value import canonical
from tasks import approving, keys
from tasks.engine import keep_plan
from tasks.evidence import verify
from tasks.ledger import Ledger
from tasks.ledger_dir import DirectoryLedger
from tasks.ledger_mirrored import MirroredLedger
from tasks.orders_of_people import give
from tasks.pasted import approvals_in
from tasks.signed import keep_signed
from tests.hands.test_approving import LOSS, World, desk, kinds
from tests.thought.failover_scene import NOW

NO_NUMBER = pytest.mark.parametrize("limit", ["NaN", "Infinity", "-Infinity", "1e999"])


@NO_NUMBER
def test_an_approval_with_a_figure_that_is_no_number_is_told_and_stops_nobody(tmp_path: Path, limit: str) -> None:
    world = World(tmp_path)
    mine = world.approve()
    whole = canonical(approving.consents(world.home, world.plan).given[0].approval)
    spoiled = whole.replace(b'"limit":10.0', f'"limit":{limit}'.encode())
    world.home.ledger().put(f"approvals/{world.plan.digest}/{'a' * 64}.json", spoiled)
    assert world.admitted().spends == (mine,)
    assert "cannot be read" in approving.consents(world.home, world.plan).troubles[0]
    with pytest.raises(BadInput, match="is no signed approval"):
        list(approvals_in(spoiled.decode()))


def test_a_pasted_key_that_has_no_bytes_is_said(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.approve()
    whole = canonical(approving.consents(world.home, world.plan).given[0].approval).decode()
    with pytest.raises(BadInput, match="is no signed approval"):
        list(approvals_in(f'{{"signed": {whole}, "public_key": "\\ud800"}}'))


@NO_NUMBER
def test_an_order_with_a_figure_that_is_no_number_is_refused_and_the_next_one_counts(
    tmp_path: Path, limit: str
) -> None:
    world = World(tmp_path)
    spoiled = (
        f'{{"run":"{world.plan.run}","word":"skip","step":"fence","who":"ann","made_at":"2026-11-24T03:00:00Z",'
        f'"accepted":[{{"klass":"split-brain","limit":{limit}}}]}}'
    )
    world.home.ledger().put(f"orders/{world.plan.run}/0-spoiled.json", spoiled.encode())
    give(world.home, world.plan, Word.PAUSE, who="ann")
    journal = world.journal()
    here = desk(world, journal)
    here.look_once()
    here.take_in()
    assert kinds(journal) == ["order.refused", "order.paused"]


class Copy(DirectoryLedger):
    """A copy of the ledger that may fall silent, or lack what has not been carried to it yet."""

    silent = False
    lacks = ""

    def get(self, key: str) -> bytes | None:
        if self.silent:
            raise Failed("it does not answer", hint="")
        return None if self.lacks and key.startswith(self.lacks) else super().get(key)

    def list(self, prefix: str, after: str = "") -> Iterator[str]:
        if self.silent:
            raise Failed("it does not answer", hint="")
        return super().list(prefix, after)


def mirrored(world: World, folder: Path) -> tuple[Copy, Copy]:
    home, mirror = Copy(folder / "home"), Copy(folder / "mirror")
    ledger: Ledger = MirroredLedger(home, [mirror])
    world.home._opened["ledger"] = ledger
    return home, mirror


def test_a_copy_that_falls_silent_after_an_order_was_found_stops_nobody(tmp_path: Path) -> None:
    world = World(tmp_path / "world")
    home, mirror = mirrored(world, tmp_path)
    give(world.home, world.plan, Word.PAUSE, who="ann")
    journal = world.journal()
    here = desk(world, journal)
    here.look_once()
    home.silent = True
    here.take_in()
    assert kinds(journal) == ["order.paused"]
    assert not mirror.silent


def test_an_order_that_came_to_a_copy_before_its_key_is_not_called_forged(tmp_path: Path) -> None:
    world = World(tmp_path / "world")
    home, _ = mirrored(world, tmp_path)
    give(world.home, world.plan, Word.PAUSE, who="ann")
    home.lacks = "keys/"
    journal = world.journal()
    here = desk(world, journal)
    here.look_once()
    here.take_in()
    assert kinds(journal) == ["order.paused"]


def test_an_order_that_could_not_be_verified_is_asked_again(tmp_path: Path) -> None:
    world = World(tmp_path / "world")
    home, mirror = mirrored(world, tmp_path)
    sign = keys.signer(world.home.folder / "keys", "ann")
    draft = Order(run=world.plan.run, word=Word.PAUSE, who="ann", made_at=world.at)
    made = draft.but(signature=sign(draft.signed_bytes()))
    home.put(order_key(made), canonical(made))  # its key lies in the mirror alone, which says nothing for a moment
    mirror.put(f"keys/{sign.fingerprint}.pem", sign.public_pem)
    journal = world.journal()
    here = desk(world, journal)
    mirror.silent = True
    here.look_once()
    here.take_in()
    assert kinds(journal) == []
    mirror.silent = False
    here.look_once()
    here.take_in()
    assert kinds(journal) == ["order.paused"]


def begun(world: World, consent: object) -> str:
    """Who is told to have begun the plan's run without having signed for it; nothing when all have."""
    ledger = world.home.ledger()
    keep_plan(ledger, world.plan)
    world.journal().append("run.begun", "core", facts={"purpose": "failover", "consent": consent})
    report = verify(ledger, trusted=keys.engine_fingerprints(world.home.folder / "keys"))
    return " | ".join(each.fact.partition("was begun in the name of ")[2] for each in report.troubles)


def test_a_run_is_verified_to_have_been_begun_by_those_who_signed(tmp_path: Path) -> None:
    world = World(tmp_path, n_of_m=2)
    spends: list[object] = [world.approve("ann"), world.approve("bob")]
    assert begun(world, {"by": ["ann", "bob"], "spends": spends, "standing": "", "accepted": []}) == ""


def test_a_run_is_verified_to_have_been_begun_by_those_who_signed_in_advance(tmp_path: Path) -> None:
    world = World(tmp_path, n_of_m=2)
    for name in ("ann", "bob"):
        made = approving.approve_standing(world.home, "east-is-out", who=name)
    assert begun(world, {"by": ["ann", "bob"], "spends": [], "standing": made.id, "accepted": []}) == ""


@pytest.mark.parametrize("consent", [None, {}, {"by": []}, {"by": ["policy"], "spends": [], "standing": ""}])
def test_a_live_run_that_nobody_consented_to_is_found(tmp_path: Path, consent: object) -> None:
    """Whoever can write to a bucket can write a run's first record, and its resumption asks nobody again."""
    assert ": no signed approval of it says so" in begun(World(tmp_path), consent)


def test_a_run_that_names_others_than_those_who_signed_is_found(tmp_path: Path) -> None:
    world = World(tmp_path, n_of_m=2)
    ann, other = world.approve("ann"), world.planned(at=NOW + timedelta(seconds=1))
    elsewhere = approving.approve(world.home, other, who="bob", accepted=LOSS, lasts=timedelta(hours=1)).id
    told = {"by": ["ann", "bob"], "spends": [ann, elsewhere, "f" * 64], "standing": "e" * 64}
    assert begun(world, told) == "bob: no signed approval of it says so"


@pytest.mark.parametrize("body", [b"junk", b"[]", b"{}"])
def test_a_document_that_is_no_plan_is_found_whatever_its_name(tmp_path: Path, body: bytes) -> None:
    ledger = World(tmp_path).home.ledger()
    ledger.put(f"plans/{hashlib.sha256(body).hexdigest()}.json", body)
    (trouble,) = verify(ledger).troubles
    assert trouble.fact.endswith("is no plan of a known schema")


def test_who_is_not_listed_does_not_choose_the_days_of_a_standing_approval(tmp_path: Path) -> None:
    """A stranger laid the same terms into the bucket, for days that begin in two months."""
    world = World(tmp_path)
    sign, later = keys.signer(world.home.folder / "keys", "mallory"), world.at + timedelta(days=60)
    mine = approving.approve_standing(world.home, "east-is-out", who="ann")
    approving.cancel(world.home, mine.id, who="ann")
    draft = mine.but(made_at=later, expires_at=later + timedelta(days=90), signatures=())
    keep_signed(world.home.ledger(), standing_key(draft), draft.but(signatures=(sign(draft.signed_bytes()),)), sign)
    world.at += timedelta(seconds=1)
    made = approving.approve_standing(world.home, "east-is-out", who="bob")
    assert (made.made_at, [each.who for each in made.signatures]) == (world.at, ["bob"])
