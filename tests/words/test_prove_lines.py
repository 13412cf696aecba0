"""`dr prove` of several resources tells of each; what could not be begun is on record. `dr keys make` keeps its key."""

from __future__ import annotations

from pathlib import Path

import pytest

from recovery.check import Outcome
from recovery.errors import Failed, Refused
from recovery.proof import Proof, not_made
from tasks import keys, proving
from tasks.evidence import verify
from tasks.home import Home
from tasks.ledger_dir import DirectoryLedger
from tasks.proving import Wanted
from tests.words.consent_home import House


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> House:
    return House(tmp_path, monkeypatch, capsys)


def silent(home: Home, wanted: Wanted) -> object:
    raise Failed("the bucket does not answer", hint="mend the way to it")


def test_what_could_not_be_begun_is_unproven_told_and_on_record(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proving, "plan_proof", silent)
    told = house.dr("prove", code=1)
    assert told["proofs"] == []
    assert [each["sort"] for each in told["errors"]] == ["mark", "latest"]
    assert "the bucket does not answer | mend" in house.refused("prove", "--mark", code=1)
    runs = house.dr("runs")["runs"]
    assert {(each["purpose"], each["resource"], each["outcome"]) for each in runs} == {
        ("prove", "validation-db", "unproven")
    }
    assert len(runs) == 3
    assert "the bucket does not answer" in house.people("show", runs[0]["run"][:8])
    trusted = keys.engine_fingerprints(house.folder / "keys")
    assert verify(DirectoryLedger(house.folder / "ledger"), trusted=trusted).outcome is Outcome.PASSED


def test_a_resource_that_is_named_twice_is_proven_once(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proving, "plan_proof", silent)
    told = house.dr("prove", "validation-db", "validation-db", code=1)
    assert [(each["resource"], each["sort"]) for each in told["errors"]] == [
        ("validation-db", "mark"),
        ("validation-db", "latest"),
    ]


def test_one_that_is_refused_ends_the_line_only_where_it_is_the_only_one(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prove(act: object, wanted: Wanted) -> Proof:
        if wanted.sort == "mark":
            raise Refused("another proof runs", hint="wait for it")
        kind = "postgres"
        now = house.observe(None, "core").at
        return not_made(resource=wanted.resource, kind=kind, sort=wanted.sort, fact="no", hint="no", now=now)

    monkeypatch.setattr(proving, "prove", prove)
    told = house.dr("prove", code=4)
    assert [each["sort"] for each in told["proofs"]] == ["latest"]
    assert told["errors"] == [
        {"resource": "validation-db", "sort": "mark", "fact": "another proof runs", "hint": "wait for it"}
    ]
    assert "hint: wait for it" in house.people("prove", code=4)
    assert "another proof runs" in house.refused("prove", "--mark")


def test_a_key_is_made_also_where_the_ledger_is_silent(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(home: Home) -> object:
        raise Failed("no copy of the ledger can be reached", hint="mend the way to one")

    monkeypatch.setattr(Home, "ledger", away)
    told = house.dr("keys", "make", "zoe")
    assert (told["public_half"], told["keys"][0]["name"]) == ("not yet", "zoe")
    shown = house.people("keys", "make", "zara")
    assert "the key is made; its public half is not in the ledger yet: no copy" in shown
    assert (house.folder / "keys" / "zara.ed25519").is_file()
    monkeypatch.undo()
