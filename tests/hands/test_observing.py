"""What is read of the past before roles change: once, since it never changes; which there is, each time."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from deployments.cli.act import expected
from deployments.schedules import lab_catalog
from recovery.epoch import Change, change_key
from recovery.errors import Failed
from recovery.plan import Plan
from recovery.step import Step
from recovery.value import canonical
from tasks.home import Home
from tasks.ledger_dir import DirectoryLedger
from tasks.observing import changes

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
