"""What past restores took is read from the runs under their leases, the newest first; silence costs the figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from recovery.errors import Failed
from recovery.lease import Terms
from tasks import keys, rated
from tasks.dir_store import DirStore
from tasks.home import Home, open_home
from tasks.journal import Journal
from tasks.leases import Leases
from tasks.ledger_dir import DirectoryLedger
from tests.thought.ledger_scene import CATALOG, NOON, proof_facts

GB = 1_000_000_000


@pytest.fixture
def opened(home: Path) -> Home:
    (home / "catalog.yaml").write_text(json.dumps({**CATALOG, "ledger": {"home": "directory:ledger"}}))
    keys.make(home / "keys", "engine", "engine")
    return open_home(home)


def proved(home: Home, run: str, seconds: float, *, before: str = "", site: str = "west", sort: str = "latest") -> None:
    """A proof's run under its lease, as the engine leaves it. 2 GB, whose usual time is 10 s."""
    journal = Journal(DirectoryLedger(home.folder / "ledger"), run, who="me", generation=1, clock=lambda: NOON)
    arguments = {"resource": "orders", "sort": sort}
    after: dict[str, Any] = {"after": {"run": before, "head": "0" * 64}} if before else {}
    journal.append("run.begun", "orders", facts={"purpose": "prove", "arguments": arguments, **after})
    speed = {"site": site, "full_bytes": 2 * GB, "incremental_bytes": 0, "data_seconds": seconds, "wal_files": 3}
    journal.append("proof", "orders", facts=proof_facts(NOON, run=run, sort=sort, speed=speed), end=NOON)
    journal.end("met", keys.signer(home.folder / "keys", "engine"))
    with Leases(DirStore(home.folder / "leases"), Terms()).hold(f"orders-prove-{sort}", run):
        pass


def test_without_any_restore_the_usual_rates_are_taken(opened: Home) -> None:
    assert rated.rates_at(opened, "orders", "west").why == "from usual rates, no restore at west measured yet"


def test_runs_of_every_sort_are_followed_back_from_their_leases(opened: Home) -> None:
    proved(opened, "a1" * 32, 20.0)
    proved(opened, "b2" * 32, 20.0, before="a1" * 32)
    proved(opened, "c3" * 32, 5.0, sort="mark")
    proved(opened, "d4" * 32, 1.0, sort="random", site="east")
    found = rated.rates_at(opened, "orders", "west")
    assert found.why == "from 3 restores at west, WAL at the usual rate"
    assert found.restore_bytes_per_second == 100e6
    assert rated.rates_at(opened, "orders", "east").why.startswith("from 1 restore at east")


def test_it_goes_back_a_few_runs_only_and_ends_where_one_is_lost(opened: Home) -> None:
    names = [f"{number:02d}" * 32 for number in range(10, 20)]
    for name, before in zip(names, ["", *names], strict=False):
        proved(opened, name, 20.0, before=before)
    assert rated.rates_at(opened, "orders", "west").why.startswith(f"from {rated.MOST_RUNS} restores")
    for each in (opened.folder / "ledger" / "runs" / names[-2]).iterdir():
        each.chmod(0o600)
        each.unlink()
    assert rated.rates_at(opened, "orders", "west").why.startswith("from 1 restore at")


def test_a_silent_ledger_costs_only_the_figures(opened: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(*given: object) -> None:
        raise Failed("no copy of the ledger can be reached", hint="mend the way")

    monkeypatch.setattr(rated, "_under", silent)
    found = rated.rates_at(opened, "orders", "west")
    assert found.why == "from usual rates: what is on record of past restores could not be read"
