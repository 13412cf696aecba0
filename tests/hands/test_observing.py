"""What is read of the past before roles change: once, since it never changes; which there is, each time."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from deployments.cli.act import expected
from deployments.schedules import lab_catalog
from recovery.epoch import Change, change_key
from recovery.errors import Failed
from recovery.observation import DnsSeen, FenceSeen, LedgerSeen
from recovery.plan import Plan
from recovery.step import Step
from recovery.value import canonical
from tasks import observing
from tasks.home import Home
from tasks.ledger_dir import DirectoryLedger
from tasks.observing import changes, observe

T0 = datetime(2026, 11, 28, 3, tzinfo=UTC)


class Counted(DirectoryLedger):
    """Remembers what was read."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.read: list[str] = []

    def get(self, key: str) -> bytes | None:
        self.read.append(key)
        return super().get(key)


def change(epoch: int, runbook: str = "failover", seconds: float = 1.0) -> Change:
    run, steps = f"{epoch:064x}", {"fence": seconds, "gone": 9.0}
    return Change(service="core", epoch=epoch, primary="west", run=run, runbook=runbook, at=T0, steps=steps)


@pytest.fixture
def scene(tmp_path: Path) -> tuple[Home, Counted]:
    ledger = Counted(tmp_path / "ledger")
    home = Home(folder=tmp_path, catalog=lab_catalog())
    home._opened["ledger"] = ledger
    return home, ledger


def test_each_change_of_roles_is_read_once_and_a_new_one_is_seen_at_the_next_look(scene: tuple[Home, Counted]) -> None:
    home, ledger = scene
    assert changes(home, "core") == ()
    ledger.put(change_key("core", 1), canonical(change(1)))
    assert [each.epoch for each in changes(home, "core")] == [1]
    ledger.put(change_key("core", 2), canonical(change(2)))
    ledger.put(change_key("other", 1), canonical(change(1).but(service="other")))
    assert [each.epoch for each in changes(home, "core")] == [1, 2]
    assert [each.epoch for each in changes(home, "core")] == [1, 2]
    assert ledger.read == [change_key("core", 1), change_key("core", 2)]


def test_one_that_cannot_be_read_is_told_each_time(scene: tuple[Home, Counted]) -> None:
    home, ledger = scene
    ledger.put(change_key("core", 1), b"{}")
    for _ in range(2):
        with pytest.raises(Failed, match="cannot be read"):
            changes(home, "core")


@pytest.mark.parametrize(
    ("target", "epochs", "ends", "asked"),
    [
        ("west", ["west", "east"], ("east", "west"), 1),
        ("east", ["west"], ("west", "east"), 1),
        (None, [], ("east", "west"), 1),
        (None, ["west"], ("west", "east"), 2),  # it had been taken for the other way round
        ("west", ["west"], ("west", "west"), 2),
    ],
)
def test_by_what_the_old_primary_could_be_fenced_is_asked_at_once_and_anew_where_the_ledger_tells_of_another(
    scene: tuple[Home, Counted],
    monkeypatch: pytest.MonkeyPatch,
    target: str | None,
    epochs: list[str],
    ends: tuple[str, str],
    asked: int,
) -> None:
    home, ledger = scene
    service = next(iter(home.catalog.services))
    for number, primary in enumerate(epochs, 1):
        body = canonical(change(number).but(service=service, primary=primary))
        ledger.put(change_key(service, number), body)
    fenced: list[tuple[str, str]] = []

    def fence(home: Home, name: str, source: str, to: str) -> FenceSeen:
        fenced.append((source, to))
        return FenceSeen(agent="answers" if (source, to) == ends else "silent", cloud="silent", lease="absent")

    monkeypatch.setattr(observing, "_fence", fence)
    for name, nothing in (("_probes", {}), ("_members", ()), ("_lease", ({}, None)), ("_capacity", {})):
        monkeypatch.setattr(observing, name, lambda *_, nothing=nothing: nothing)
    monkeypatch.setattr(observing, "_dns", lambda *_: DnsSeen(ttl_seconds=1.0))
    monkeypatch.setattr(observing, "_ledger", lambda *_: LedgerSeen(home="answers", mirrors=()))
    seen = observe(home, service, target=target)
    assert seen.primary == (epochs[-1] if epochs else "east")
    assert {each.agent for each in seen.fences.values()} == {"answers"}
    assert len(fenced) == asked * len(seen.fences)


def test_elapsed_time_is_shown_against_what_the_look_has_read_and_nothing_is_asked_for_it(
    scene: tuple[Home, Counted],
) -> None:
    home, ledger = scene
    plan = Plan(
        purpose="failover", runbook="failover", runbook_version="1", service="core", asked_at=T0,
        steps=(Step(id="fence", verb="fence", resource="db"),),
    )  # fmt: skip
    assert expected(home, plan) == {}
    for epoch, (runbook, seconds) in enumerate([("failover", 1.0), ("failover", 3.0), ("failback", 99.0)], 1):
        ledger.put(change_key("core", epoch), canonical(change(epoch, runbook, seconds)))
    changes(home, "core")
    ledger.read.clear()
    assert expected(home, plan) == {"fence": 2.0}
    assert not ledger.read
