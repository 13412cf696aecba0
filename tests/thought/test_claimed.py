"""Claimed beside observed: the outage that belongs to the change, differences, and unproven where nobody knows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from deployments.lab.claimed import outage_of, rows, unlisted
from recovery.losses import Losses, Lost, Row
from recovery.outcome import Changed
from recovery.step import Mode

START = datetime(2026, 11, 24, 20, 0, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def changed(**more: Any) -> Changed:
    base: dict[str, Any] = {
        "run": "ab" * 32, "runbook": "failover", "service": "platform", "source": "east", "target": "west",
        "mode": Mode.UNGRACEFUL, "outcome": "met", "rto_seconds": 8.0, "rto_segments": {}, "rto_steps": (),
        "rpo_seconds": 0.5, "lost_commits": "unproven", "timeline_id": 2, "epoch": 1, "databases": (),
        "outage_began_at": at(10), "served_at": at(18), "consent": ("ann",),
    }  # fmt: skip
    return Changed(**{**base, **more})


def outage(begin: float, end: float | None, seconds: float) -> dict[str, Any]:
    return {"begin": at(begin).isoformat(), "end": None if end is None else at(end).isoformat(), "seconds": seconds}


def seen(*outages: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"outages": list(outages), "missing_count": 3, "loss_seconds": 0.3, **more}


def test_each_figure_has_both_sides_and_its_difference() -> None:
    rto, rpo, lost = rows(changed(), seen(outage(9.9, 17.6, 7.7)), listed=5)
    assert (rto.claimed, rto.observed, rto.difference) == (8.0, 7.7, 0.3)
    assert (rpo.claimed, rpo.observed, rpo.difference) == (0.5, 0.3, 0.2)
    assert (lost.claimed, lost.observed, lost.difference) == (5, 3, 2)


def test_what_nobody_knows_is_unproven_and_has_no_difference() -> None:
    unknown = seen(missing_count="unproven", loss_seconds="unproven")
    assert [(each.claimed, each.observed, each.difference) for each in rows(changed(rto_seconds=None), unknown)] == [
        ("unproven", "unproven", None), (0.5, "unproven", None), ("unproven", "unproven", None),
    ]  # fmt: skip


def test_the_outage_is_the_longest_of_those_that_touch_the_change() -> None:
    blip, this, after = outage(1, 1.2, 0.2), outage(9.9, 17.6, 7.7), outage(30, 60, 30.0)
    touching = outage(17.9, 18.1, 0.2)
    assert outage_of(changed(), [blip, this, touching, after]) == this
    assert outage_of(changed(), [blip, after]) is None
    assert outage_of(changed(), [outage(9.9, None, 40.0)]) == outage(9.9, None, 40.0)
    assert outage_of(changed(outage_began_at=None, served_at=None), [blip, after]) == after


def test_a_missing_row_that_no_list_of_losses_holds_is_told() -> None:
    def lost(seq: int, relation: str = "postgres.public.rows") -> Lost:
        row = Row(relation=relation, xid=seq, row={"seq": seq, "payload": "x"})
        return Lost(xid=seq, lsn=seq, at=at(seq), klass="rows", rows=(row,))

    kept = Losses(
        resource="orders-db", site="east", system_id="7", timeline=1, from_lsn=1, to_lsn=9,
        transactions=(lost(5), lost(6), lost(7, "postgres.public.outbox")),
    )  # fmt: skip
    assert unlisted([5, 6], [kept]) == []
    assert unlisted([5, 7, 8], [kept]) == [7, 8]
    assert unlisted([5], []) == [5]
