"""A run that never ended is cancelled by the next of its lease, also when a silent copy of the ledger made one wait."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import JsonValue

from recovery import planners
from recovery.errors import Failed
from recovery.evidence import record_key
from recovery.journal import generation, outcome
from recovery.plan import Plan
from tasks import keys
from tasks.engine import Act, keep_plan
from tasks.home import Home, open_home
from tasks.journal import Journal, read_records
from tasks.kind import Verbs
from tasks.ledger_dir import DirectoryLedger
from tasks.ledger_mirrored import MirroredLedger
from tasks.sweeping import _Once
from tests.hands.test_ledger_silent import Place
from tests.thought.ledger_scene import CATALOG

LEASE = "orders-sweep"


def never() -> dict[str, JsonValue]:
    raise AssertionError("a cancelled sweep performs nothing")


VERBS: Verbs = {name: _Once(act=never) for name in ("clear-scratch", "retain")}


@pytest.fixture
def mirrored(home: Path) -> tuple[Home, Place]:
    """A home whose ledger has one mirror, which can fall silent."""
    (home / "catalog.yaml").write_text(json.dumps({**CATALOG, "ledger": {"home": "directory:ledger"}}))
    keys.make(home / "keys", "engine", "engine")
    opened, mirror = open_home(home), Place(home / "mirror")
    opened._opened["ledger"] = MirroredLedger(DirectoryLedger(home / "ledger"), [mirror], rest_seconds=3600)
    return opened, mirror


def planned(home: Home) -> Plan:
    return planners.sweep(service="platform", resource="orders", now=home.now())


def die(home: Home) -> str:
    """A run whose engine was killed behind its first record; gives the run."""
    act, plan = Act(home=home), planned(home)
    before = act.before(LEASE, plan.run)
    with act.holding(LEASE, plan.run) as held:
        keep_plan(home.ledger(), plan)
        journal = Journal(home.ledger(), plan.run, who="other", generation=held.generation, clock=home.now)
        journal.append("run.begun", "orders", facts={"purpose": "sweep", **before})
    return plan.run


def outcomes(home: Home, *runs: str) -> list[str | None]:
    return [outcome(read_records(home.ledger(), run)) for run in runs]


def test_one_left_unfinished_behind_a_silent_copy_is_cancelled_once_it_is_heard(mirrored: tuple[Home, Place]) -> None:
    home, mirror = mirrored
    first = die(home)
    mirror.silent()
    home.ledger().put("plans/any.json", b"{}")
    told = Act(home=home).discard_unfinished(LEASE, "", lambda old: VERBS)
    assert "it is left so, since" in told
    second = die(home)
    assert outcomes(home, first, second) == [None, None]
    mirror.answers()
    told = Act(home=home).discard_unfinished(LEASE, "", lambda old: VERBS)
    assert told.index(first[:8]) < told.index(second[:8])
    assert outcomes(home, first, second) == ["cancelled", "cancelled"]
    assert Act(home=home).discard_unfinished(LEASE, "", lambda old: VERBS) == ""


def test_a_copy_that_was_silent_a_moment_ago_is_asked_once_more_before_a_run_is_left(
    mirrored: tuple[Home, Place],
) -> None:
    home, mirror = mirrored
    first = die(home)
    mirror.silent()
    home.ledger().put("plans/any.json", b"{}")
    mirror.answers()
    assert home.ledger().silent, "it rests"  # type: ignore[attr-defined]
    assert "is discarded" in Act(home=home).discard_unfinished(LEASE, "", lambda old: VERBS)
    assert outcomes(home, first) == ["cancelled"]


def fork(home: Home, mirror: Place, run: str) -> None:
    """Another driver of the run wrote to the mirror alone: its records differ from the home's, and there are more."""
    first = (home.folder / "ledger" / record_key(run, 0)).read_bytes()
    alone = DirectoryLedger(home.folder / "alone")
    alone.put(record_key(run, 0), first)
    newer = generation(read_records(home.ledger(), run)) + 1
    other = Journal(alone, run, who="elsewhere", generation=newer, clock=home.now)
    for _ in range(2):
        other.append("step.begun", "orders", facts={"step": "retain"})
    for key in list(alone.list(""))[1:]:
        mirror.under.put(key, alone.get(key) or b"")
    here = Journal(DirectoryLedger(home.folder / "ledger"), run, who="here", generation=newer, clock=home.now)
    here.append("step.begun", "orders", facts={"step": "clear-scratch"})


def test_a_run_whose_records_were_forked_is_left_so_and_does_not_stop_those_behind_it(
    mirrored: tuple[Home, Place],
) -> None:
    """Nobody can cancel it: nothing can be written behind it. It is named, and the next run begins."""
    home, mirror = mirrored
    first = die(home)
    fork(home, mirror, first)
    with pytest.raises(Failed, match="not whole"):
        read_records(home.ledger(), first)
    told = Act(home=home).discard_unfinished(LEASE, "", lambda old: VERBS)
    assert f"run {first[:8]} is left as it is" in told
    assert "not whole" in told
    second = die(home)
    told = Act(home=home).discard_unfinished(LEASE, "", lambda old: VERBS)
    assert f"run {second[:8]}" in told
    assert outcomes(home, second) == ["cancelled"]
