"""What was seen while the lease was taken may be acted on under it only if it is of a moment ago and of this epoch."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from recovery.errors import Refused
from recovery.observation import LedgerSeen, Observation
from tasks import acting
from tasks.acting import FRESH, Running, still

T0 = datetime(2026, 11, 28, 3, tzinfo=UTC)


def seen(epoch: int) -> Observation:
    return Observation(
        at=T0, service="platform", primary="east", epoch=epoch, running={}, probes={}, members={}, fences={}, dns={},
        ledger=LedgerSeen(home="answers", mirrors=()),
    )  # fmt: skip


def running() -> Running:
    act = SimpleNamespace(home=None)
    plan = SimpleNamespace(service="platform", run="ours")
    return Running(act=cast("Any", act), plan=cast("Any", plan), outage_since=None)


def change(epoch: int, run: str) -> Any:
    return SimpleNamespace(epoch=epoch, run=run)


@pytest.mark.parametrize(
    ("changes", "epoch", "holds"),
    [
        ((), 0, True),
        ((change(1, "a"), change(2, "b")), 2, True),
        ((change(1, "a"), change(2, "b")), 1, False),  # another engine was faster, and has given the lease back
        ((change(1, "a"), change(2, "ours")), 1, True),  # our own change does not count when we resume
    ],
)
def test_roles_that_changed_before_the_lease_was_ours_are_seen(
    monkeypatch: pytest.MonkeyPatch, changes: tuple[Any, ...], epoch: int, holds: bool
) -> None:
    monkeypatch.setattr(acting, "changes", lambda home, service: changes)
    assert still(seen(epoch), T0 + timedelta(seconds=0.5), running().epoch()) is holds


def test_an_old_look_is_none() -> None:
    assert still(seen(0), T0 + FRESH, 0)
    assert not still(seen(0), T0 + FRESH + timedelta(seconds=0.1), 0)


def test_nothing_is_given_back_behind_a_lost_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that was stopped between two things to give back: the old primary may be another run's to fence now."""
    undone: list[str] = []

    def undo(stage: object, step: Any, told: object, result: object) -> dict[str, str]:
        undone.append(step.id)
        return {"why": "given back"}

    def may_act() -> None:
        if undone:
            raise Refused("the lease is lost", hint="act again")

    steps = [SimpleNamespace(id=name, resource="db") for name in ("fence", "quarantine")]
    plan = SimpleNamespace(service="platform", run="ours", steps=steps)
    begun = [
        SimpleNamespace(kind="step.begun", facts={"step": each.id, "attempt": 1}, begin=T0, end=None) for each in steps
    ]
    journal = SimpleNamespace(records=lambda: begun, append=lambda *words, **more: None)
    monkeypatch.setattr(acting.kinds, "undo", undo)
    act = SimpleNamespace(home=SimpleNamespace(now=lambda: T0))
    stopped = Running(act=cast("Any", act), plan=cast("Any", plan), outage_since=None)
    with pytest.raises(Refused, match="the lease is lost"):
        stopped.give_back(cast("Any", None), cast("Any", journal), may_act)
    assert undone == ["quarantine"]
