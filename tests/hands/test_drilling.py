"""A drill that people held goes on record as the signed word of one of them, and counts from then on."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deployments.cli.main import app
from recovery.catalog import Catalog, LedgerPlace
from recovery.check import Outcome, Verdict
from recovery.doors import Approver, Consent
from recovery.drilled import Held, drills
from recovery.errors import BadInput, Refused
from recovery.exercise import Drill
from recovery.policy import Schedule
from tasks import drilling, keys
from tasks import home as homes
from tasks.evidence import verify
from tasks.home import Home
from tasks.journal import read_records
from tasks.scoring import pasts
from tasks.signed import verified
from tests.thought.ledger_scene import catalog

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
YEARLY = Schedule(cron="0 9 15 2 *", late_after="30 days")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    for name, role in (("ann", "approver"), ("mallory", "approver"), ("engine", "engine")):
        keys.make(tmp_path / "keys", name, role)
    prints = {each.name: each.fingerprint for each in keys.cards(tmp_path / "keys")}
    written: Catalog = catalog()
    made = written.but(
        ledger=LedgerPlace(home="directory:ledger"),
        consent=Consent(approvers={"ann": Approver(key=prints["ann"])}, n_of_m=1),
        operations=written.operations.but(
            drills={
                "table-top": Drill(what="people talk", schedule=YEARLY),
                "full": Drill(what="all of it", schedule=YEARLY, runbook="drill"),
            }
        ),
    )
    return Home(folder=tmp_path, catalog=made, now=lambda: NOW)


def test_it_is_a_signed_run_of_that_person_and_the_drill_is_kept_by_it(home: Home) -> None:
    at = NOW - timedelta(days=2)
    told, run = drilling.hold(home, "table-top", who="ann", verdict=Verdict.MET, held_at=at, why="nobody had the keys")
    (record, _) = read_records(home.ledger(), run)
    kept = Held.model_validate({name: record.facts[name] for name in Held.model_fields})
    assert kept == told
    assert kept.signature is not None
    assert verified(home.ledger(), kept.signed_bytes(), kept.signature)
    assert not verified(home.ledger(), kept.but(why="all went well").signed_bytes(), kept.signature)
    trusted = keys.engine_fingerprints(home.folder / "keys")
    assert [each.outcome for each in verify(home.ledger(), trusted=trusted, runs=[run]).runs] == [Outcome.PASSED]
    found = {each.drill: each for each in drills(home.catalog.operations.drills, pasts(home.ledger()).runs, now=NOW)}
    assert (found["table-top"].state, found["table-top"].last_who, found["table-top"].last_at) == ("kept", "ann", at)


@pytest.mark.parametrize(
    ("name", "who", "later", "trouble", "fact"),
    [
        ("nothing", "ann", 0, BadInput, "has no drill"),
        ("full", "ann", 0, BadInput, "the engine runs full"),
        ("table-top", "ann", 1, BadInput, "before it was held"),
        ("table-top", "mallory", 0, Refused, "counts for nothing"),
        ("table-top", "nobody", 0, BadInput, "nobody"),
    ],
)
def test_what_would_not_be_evidence_is_not_written(
    home: Home, name: str, who: str, later: int, trouble: type[Exception], fact: str
) -> None:
    with pytest.raises(trouble, match=fact):
        drilling.hold(home, name, who=who, verdict=Verdict.MET, held_at=NOW + timedelta(hours=later))
    assert not list(home.ledger().list("runs/"))


def test_the_command_tells_what_it_wants_and_then_what_it_kept(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    (home.folder / "catalog.yaml").touch()
    monkeypatch.setattr(homes, "open_home", lambda folder: home)
    asked = ["drill", "--home", str(home.folder), "--json", "--held", "table-top", "--as", "ann"]
    wrong = CliRunner().invoke(app, asked)
    assert isinstance(wrong.exception, BadInput)
    assert "--verdict met|missed|unproven" in wrong.exception.hint
    said = CliRunner().invoke(app, [*asked, "--verdict", "missed", "--on", "3 h ago", "--why", "no keys"])
    assert said.exit_code == 0, said.output
    document = json.loads(said.stdout)
    assert (document["verdict"], document["why"]) == ("missed", "no keys")
    assert document["held_at"].startswith("2026-11-24T09:00:00")
    assert read_records(home.ledger(), document["run"])
