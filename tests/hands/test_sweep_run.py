"""A sweep is a run: on record, under a lease, and what a run underway restores from stays."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from recovery import planners
from recovery.choose import Point, Target
from recovery.point import SEGMENT_BYTES, Backup
from recovery.value import canonical
from tasks import keys, routine
from tasks.dir_store import DirStore
from tasks.engine import Act, keep_plan
from tasks.evidence import compared, verify
from tasks.home import Home, open_home
from tasks.journal import Journal
from tasks.scoring import pasts
from tests.thought.ledger_scene import CATALOG

NOW = datetime.now(UTC)


@pytest.fixture
def installed(home: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home whose two sites hold a full backup of 60, of 40 and of 1 days ago, each."""

    def folder(endpoint: object, bucket: str, prefix: str = "", **more: object) -> DirStore:
        return DirStore(home / f"bucket-{more['region']}")

    monkeypatch.setattr("tasks.s3_store.open_store", folder)
    (home / "catalog.yaml").write_text(json.dumps({**CATALOG, "ledger": {"home": "directory:ledger"}}))
    keys.make(home / "keys", "engine", "engine")
    for site in "ab":
        for days in (60, 40, 1):
            made = backup(days)
            for name, body in (("base.tar.zst", b"data"), ("backup.json", canonical(made))):
                DirStore(home / f"bucket-{site}").put(f"base/7/{made.id}/{name}", body)
    return open_home(home)


def backup(days: int) -> Backup:
    at = NOW - timedelta(days=days)
    lsn = (100 - days) * SEGMENT_BYTES
    return Backup(
        id=f"{at:%Y%m%dT%H%M%SZ}-full", resource="orders", system_id="7", timeline=1, kind="full", begin_lsn=lsn,
        end_lsn=lsn + 100, begun_at=at, ended_at=at, server_version=180006, size_bytes=4, stored_bytes=4,
    )  # fmt: skip


def left(home: Home) -> set[str]:
    return {each.key.split("/")[2] for site in "ab" for each in DirStore(home.folder / f"bucket-{site}").list("base/")}


def proof_underway(home: Home, days: int) -> str:
    """A proof that another process is in the middle of: planned, begun, not ended."""
    point = Point(
        backups=(backup(days).id,), system_id="7", timeline=1, target=Target(kind="latest"), segments=(),
        forecast_seconds=1,
    )  # fmt: skip
    plan = planners.prove(
        service="platform", resource="orders", site="west", point=point, sort="latest", now=home.now()
    )
    keep_plan(home.ledger(), plan)
    journal = Journal(home.ledger(), plan.run, who="other", generation=1, clock=home.now)
    journal.append("run.begun", "orders", facts={"purpose": "prove", "arguments": plan.arguments})
    return plan.run


def test_a_sweep_is_on_record_with_what_it_removed_and_one_that_looks_is_not(installed: Home) -> None:
    assert routine.sweep(Act(home=installed), really=False).held
    assert pasts(installed.ledger()).runs == ()
    assert len(left(installed)) == 3
    told = routine.sweep(Act(home=installed), really=True)
    assert told.held, told.text
    (run,) = pasts(installed.ledger()).runs
    assert (run.purpose, run.resource, run.outcome, run.sealed) == ("sweep", "orders", "met", "signed")
    assert run.said is not None
    assert (run.said.facts["removed"], run.said.facts["kept"]) == (2, 4)
    assert left(installed) == {backup(1).id, backup(40).id}, "the window of 7 days begins on that of 40 days ago"


def test_what_a_run_underway_restores_from_stays_until_it_has_ended(installed: Home) -> None:
    run = proof_underway(installed, 60)
    told = routine.sweep(Act(home=installed), really=True)
    assert "a run underway restores from it" in json.dumps(told.documents)
    assert backup(60).id in left(installed)
    Journal(installed.ledger(), run, who="other", generation=1, clock=installed.now).end("met", installed.signer())
    routine.sweep(Act(home=installed), really=True)
    assert backup(60).id not in left(installed)


def test_two_sweeps_never_delete_side_by_side(installed: Home) -> None:
    act = Act(home=installed)
    with act.leases().hold("orders-sweep", "f" * 64):
        told = routine.sweep(act, really=True)
    assert not told.held
    assert "is being driven by" in told.text
    assert len(left(installed)) == 3


def test_a_trouble_at_a_site_is_told_and_on_record_and_nothing_is_removed(
    installed: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    from recovery.errors import Failed

    def silent(store: DirStore, prefix: str, after: str = "") -> Callable[[], object]:
        raise Failed("the bucket is silent", hint="wait")

    with monkeypatch.context() as broken:
        broken.setattr(DirStore, "list", silent)
        told = routine.sweep(Act(home=installed), really=True)
    assert not told.held
    assert "the bucket is silent" in told.text
    assert [each.outcome for each in pasts(installed.ledger()).runs] == ["missed"]
    assert len(left(installed)) == 3


def test_a_run_that_is_removed_whole_is_missed_by_the_next_one(installed: Home) -> None:
    for _ in range(3):
        routine.sweep(Act(home=installed), really=True)
    ledger = installed.ledger()
    assert compared(verify(ledger), ledger).troubles == ()
    middle = pasts(ledger).runs[1].run
    shutil.rmtree(installed.folder / "ledger" / "runs" / middle)
    (trouble,) = compared(verify(ledger), ledger).troubles
    assert (trouble.run, "is absent" in trouble.fact) == (middle, True)
    assert compared(verify(ledger, runs=[]), ledger, whole=False).troubles == ()
