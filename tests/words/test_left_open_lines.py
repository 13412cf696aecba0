"""A run that was left open: what people are told of it, and how it comes to an end."""

from __future__ import annotations

from pathlib import Path

import pytest

from recovery.check import Outcome
from tasks import keys
from tasks.evidence import verify
from tasks.ledger_dir import DirectoryLedger
from tests.words.consent_home import House


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> House:
    return House(tmp_path, monkeypatch, capsys)


def test_a_run_that_was_left_open_while_the_roles_changed_can_only_be_ended(house: House) -> None:
    digest = house.plan()
    for name in ("ann", "bob"):
        house.dr("approve", digest, "--as", name, "--accept", "all")
    house.hands.breaks = {"promote"}
    house.dr("act", digest, code=1)
    house.seen["epoch"] = 1
    said = house.refused("act", digest)
    assert "rule 8" in said
    assert f"end this run with 'dr run cancel {digest[:12]} --as NAME' and then 'dr act {digest[:12]}'" in said
    assert house.dr("run", "cancel", digest, "--as", "ann")["outcome"] == "stored"
    house.hands.done.clear()
    told = house.dr("act", digest, code=1)
    assert (told["outcome"], told["stopped"]) == ("cancelled", None)
    assert "have changed since (epoch 1): nothing more was done and nothing taken back" in told["findings"][-1]
    assert house.hands.done == set()
    assert house.dr("act", digest, code=1) == told, "it has ended"
    ledger = DirectoryLedger(house.folder / "ledger")
    report = verify(ledger, trusted=keys.engine_fingerprints(house.folder / "keys"))
    assert report.outcome is Outcome.PASSED


def test_before_any_promotion_nobody_is_sent_to_a_list_of_losses(house: House) -> None:
    digest = house.plan()
    for name in ("ann", "bob"):
        house.dr("approve", digest, "--as", name, "--accept", "all")
    house.hands.breaks = {"fence"}
    shown = house.people("act", digest, code=1)
    assert "no promotion is on record as done" in shown
    assert "dr losses" not in shown
    assert f"dr run retry {digest[:12]} fence --as NAME" in shown
