"""Which standby a mark is taken on: the most advanced one, whatever the order of the catalog."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from recovery.errors import Unproven
from tasks import marking
from tasks.postgres import looking
from tasks.postgres.looking import Asked
from tasks.postgres.place import Place

HOME = SimpleNamespace(
    resource=lambda name: SimpleNamespace(site_of=lambda member: member[:4]),
    service_of=lambda name: "shop",
    now=lambda: datetime(2026, 11, 24, 3, tzinfo=UTC),
)


def asked(site: str, timeline: int, lsn: int, *, primary: bool = False) -> Asked:
    place = Place(
        system_id="7", in_recovery=not primary, lsn=lsn, timeline=timeline, committed_at=None, server_version=180000,
        segment_bytes=1 << 20,
    )  # fmt: skip
    return Asked(site=site, place=place)


@pytest.mark.parametrize(
    ("said", "member"),
    [
        ((asked("west", 1, 90), asked("west-2", 2, 50)), "west-2"),
        ((asked("west", 2, 40), asked("east", 2, 99, primary=True), asked("west-2", 2, 50)), "west-2"),
        ((asked("west", 2, 50), asked("west-2", 2, 50)), "west"),
        ((Asked(site="west", place=None), asked("west-2", 1, 1)), "west-2"),
    ],
)
def test_a_standby_that_was_left_behind_is_not_asked_for_marks(
    monkeypatch: pytest.MonkeyPatch, said: tuple[Asked, ...], member: str
) -> None:
    monkeypatch.setattr(looking, "members", lambda resource: said)
    pinned = marking.plan_mark(cast(Any, HOME), "db").pinned
    assert pinned.get("member", pinned["site"]) == member


def test_without_a_standby_there_is_no_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "members", lambda resource: (asked("east", 2, 9, primary=True),))
    with pytest.raises(Unproven, match="no standby of db answers"):
        marking.plan_mark(cast(Any, HOME), "db")
