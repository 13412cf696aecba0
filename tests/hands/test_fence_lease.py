"""A lapsed lease as a fence: only while its leash's word stands, and only what that word is believed to say."""

from __future__ import annotations

import json
import socket
import tempfile
import threading
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from recovery.epoch import Change, change_key
from recovery.errors import Failed
from recovery.plan import Plan
from recovery.policy import FencePolicy
from recovery.term import Leashed, Term, leashed_key
from recovery.value import canonical
from tasks.home import Home
from tasks.ledger_dir import DirectoryLedger
from tasks.postgres import agent_config, leash_config
from tasks.postgres.agent_memory import Alerts
from tasks.postgres.leash_watch import LeashWatch
from tasks.postgres.roles import look, servers, witness
from tasks.postgres.roles.fence import Fence
from tasks.postgres.roles.fence_ways import Ground, Proof, by_lease
from tasks.postgres.roles.posting import Posted
from tasks.postgres.terms import Asking, OwnTerm
from tasks.store_place import StorePlace
from tests.hands.faulty_s3 import faulty_s3

NOW = datetime.now(UTC)
LEDGER = "ledger-of-test"


def word(**more: Any) -> Leashed:
    told = {
        "resource": "orders-db", "site": "east", "member": "east", "lease_seconds": 0.1, "clock_bound_seconds": 0.05,
        "asks": ("witness",), "at": NOW, "generation": 3, "system_id": "7",
    }  # fmt: skip
    return Leashed.model_validate({**told, **more})


def changed(folder: Path, *databases: str) -> DirectoryLedger:
    """A ledger by which east became the primary of these databases in epoch 3."""
    ledger = DirectoryLedger(folder / LEDGER)
    change = Change(
        service="platform", epoch=3, primary="east", run="r" * 64, runbook="failover", at=NOW,
        databases={name: {} for name in databases},
    )  # fmt: skip
    ledger.put(change_key("platform", 3), canonical(change))
    return ledger


def proved(
    monkeypatch: pytest.MonkeyPatch, ledger: DirectoryLedger, *said: Leashed | None, last_commit: datetime | None = NOW
) -> Proof:
    """What the lease proves: `said`, the word at each look."""
    words = iter([() if each is None else (each,) for each in said])
    monkeypatch.setattr(witness, "witness_site", lambda home: "witness")
    monkeypatch.setattr(witness, "words", lambda *asked, **more: next(words))
    monkeypatch.setattr(servers, "ask_all", lambda members: {})
    monkeypatch.setattr(servers, "committed_at", lambda said: last_commit)
    resource = SimpleNamespace(fence=FencePolicy(lease=timedelta(seconds=0.1), clock_bound=timedelta(seconds=0.05)))
    plan = SimpleNamespace(
        service="platform", epoch=3, pinned={"databases": {"orders-db": {"system_id": "7", "timeline": 1}}}
    )  # fmt: skip
    ground = SimpleNamespace(
        name="orders-db", suspects=(), over=threading.Event(), scene=SimpleNamespace(say=lambda *_: None, plan=plan),
        stage=SimpleNamespace(
            home=SimpleNamespace(ledger=lambda: ledger), source="east", target="west", resource=lambda _: resource,
            members=lambda *_: (),
        ),
    )  # fmt: skip
    posted = SimpleNamespace(at_mono=time.monotonic(), lacking=lambda asks, site: {})
    return by_lease(cast(Ground, ground), cast(Posted, posted))


@pytest.mark.parametrize(
    ("said", "why_not"),
    [
        ((word(), word()), ""),
        ((word(), None), "taken back meanwhile"),
        ((None,), "not known to run under a leash"),
        ((word(asks=("witness", "east")),), "its own site"),
        ((word(system_id="8"),), "of system 8"),
        ((word(generation=2),), "unconfirmed"),
        ((word(at=NOW - timedelta(hours=1)),), "may run without it"),
    ],
)
def test_a_lapsed_lease_is_a_fence_only_while_a_word_stands_that_can_be_believed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: tuple[Leashed | None, ...], why_not: str
):
    """The word is read before the wait, and what was started beside the leash meanwhile has it taken back."""
    proof = proved(monkeypatch, changed(tmp_path, "orders-db"), *said)
    assert why_not in proof.why_not
    assert bool(proof.why_not) == bool(why_not)


def test_a_word_of_an_hour_ago_fences_a_site_that_was_lost_an_hour_ago(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    old = word(at=NOW - timedelta(hours=1))
    ledger = changed(tmp_path, "orders-db")
    assert proved(monkeypatch, ledger, old, old, last_commit=NOW - timedelta(minutes=59)).why_not == ""


def test_a_database_that_came_later_than_the_last_change_of_roles_needs_no_newer_word(tmp_path: Path):
    ledger = changed(tmp_path, "billing-db")
    home = cast(Home, SimpleNamespace(ledger=lambda: ledger))

    def since(epoch: int, name: str) -> int:
        return witness.since(home, cast(Plan, SimpleNamespace(service="platform", epoch=epoch)), name)

    assert (since(3, "billing-db"), since(3, "orders-db"), since(0, "orders-db")) == (3, 0, 0)
    assert since(4, "orders-db") == 4, "what cannot be read counts as a change"


def test_a_plan_shows_a_leash_whose_word_is_not_believed_as_none(monkeypatch: pytest.MonkeyPatch):
    home = SimpleNamespace(resource=lambda _: SimpleNamespace(fence=FencePolicy(), at=lambda site: ()))
    monkeypatch.setattr(witness, "witness_site", lambda home: "witness")
    monkeypatch.setattr(look, "_agents", lambda members: True)
    monkeypatch.setattr(servers, "ask_all", lambda members, patience_seconds: {})
    monkeypatch.setattr(servers, "committed_at", lambda said: NOW)
    for at, seen in ((NOW, "kept"), (NOW - timedelta(hours=1), "absent")):
        monkeypatch.setattr(witness, "words", lambda *asked, at=at, **more: (word(at=at),))
        assert look._lease(cast(Home, home), "orders-db", (), "east", "west") == seen


@pytest.mark.parametrize(
    ("silent", "wanted"),
    [("", ["posted", "taken back at west", "unconfirmed"]), ("it is silent", ["posted", "unconfirmed"])],
)
def test_before_a_site_may_run_unconfirmed_its_leashes_words_are_taken_back(
    monkeypatch: pytest.MonkeyPatch, silent: str, wanted: list[str]
):
    """By its word such a server would count as bound, which it is not: nothing ends it when its lease lapses."""
    done: list[str] = []
    stage = SimpleNamespace(
        home=None, source="east", target="west", accepted=lambda klass: True, members=lambda name, site: site
    )
    fence = Fence(stage=cast(Any, stage))
    term = Term(resource="orders-db", generation=1, primary="west", run="r" * 64, at=NOW)
    posted = Posted(term=term, at_mono=0.0, witness=silent, agents={})

    def post(self: Fence, ground: Ground, *, unconfirmed: bool = False) -> Posted:
        done.append("unconfirmed" if unconfirmed else "posted")
        return posted

    def take_back(home: object, name: str, members: str, *, timeout_seconds: float) -> None:
        done.append(f"taken back at {members}")
        raise Failed("the witness is silent again", hint="wait")

    ground = SimpleNamespace(
        name="orders-db", signed=True, over=threading.Event(), deadline=SimpleNamespace(left_seconds=0), suspects=()
    )
    monkeypatch.setattr(Fence, "_ground", lambda *_: ground)
    monkeypatch.setattr(Fence, "_post", post)
    monkeypatch.setattr(Fence, "_leashed", lambda *_: False)
    monkeypatch.setattr(witness, "take_back", take_back)
    scene = SimpleNamespace(say=lambda *_: None, now=lambda: NOW, arguments=lambda step: {"by": []})
    facts = fence.perform(cast(Any, SimpleNamespace(step=None)), cast(Any, scene))
    assert done == wanted
    assert facts["by"] == "hazard"


def test_words_are_taken_back_at_the_witness(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FAULTY_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("FAULTY_SECRET_ACCESS_KEY", "b")
    with faulty_s3() as (endpoint, faults):
        site = SimpleNamespace(s3=endpoint, region="us-east-1", role="witness")
        home = SimpleNamespace(
            catalog=SimpleNamespace(ledger=SimpleNamespace(home="witness", leases="leases"), sites={"witness": site})
        )
        members = cast(Any, (("east", None), ("east2", None)))
        assert witness.words(cast(Home, home), "orders-db", members, timeout_seconds=2) == ()
        for name, _ in members:
            faults.objects[f"/leases/{leashed_key('orders-db', name)}"] = canonical(word(member=name))
        found = witness.words(cast(Home, home), "orders-db", members, timeout_seconds=2)
        assert [each.member for each in found] == ["east", "east2"]
        witness.take_back(cast(Home, home), "orders-db", members[:1], timeout_seconds=2)
        assert witness.words(cast(Home, home), "orders-db", members, timeout_seconds=2) == ()
        assert witness.leashed(cast(Home, home), "orders-db", members[1:], timeout_seconds=2) == word(member="east2")


def test_a_leash_remembers_where_its_agent_looks_for_it(tmp_path: Path):
    """An order to stop that a sleeping leash does not hear is written there by its agent."""
    place = {"site": "witness", "bucket": "b"}
    data = tmp_path / "18" / "main"
    leash = {
        "resource": "orders-db", "site": "east", "data_dir": str(data), "control": "/run/leash", "witness": place,
    }  # fmt: skip
    agent = {
        "resource": "orders-db", "site": "east", "data_dir": str(data), "bin_dir": "/b", "socket": "/s",
        "dsn": "host=x", "local": place,
    }  # fmt: skip
    (tmp_path / "leash.json").write_text(json.dumps(leash))
    (tmp_path / "agent.json").write_text(json.dumps(agent))
    there = leash_config.load(tmp_path / "leash.json").state_dir
    assert there == agent_config.load(tmp_path / "agent.json").leash_dir == data.parent


def test_a_leash_that_remembers_elsewhere_is_told(tmp_path: Path):
    place = StorePlace(site="witness", bucket="b")
    with tempfile.TemporaryDirectory() as short, closing(socket.socket(socket.AF_UNIX)) as listener:
        control = Path(short) / "leash"
        config = agent_config.AgentConfig(
            site="east", resource="orders-db", dsn="host=x", data_dir=tmp_path / "data", bin_dir=tmp_path,
            socket=tmp_path, local=place, leash=control, leash_dir=tmp_path / "nothing",
        )  # fmt: skip
        asking = Asking(own=OwnTerm(path=tmp_path / "term"), resource="orders-db", witness=None)
        watch = LeashWatch(config=config, asking=asking, alerts=Alerts(tmp_path / "agent"))
        watch.look()
        assert watch.alerts.standing() == [], "no leash, no trouble of this sort"
        listener.bind(str(control))
        listener.listen()
        watch.look()
        assert "nothing of it lies in" in str(watch.alerts.standing())
