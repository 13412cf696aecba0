"""Whose data is asked for what was lost: a neighbour of the old primary that follows already says nothing of it."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from recovery.catalog import Member
from tasks.postgres.place import Place
from tasks.postgres.roles import losses
from tasks.postgres.roles.servers import Server, Silent


def following(member: str, timeline: int) -> Server:
    place = Place(
        system_id="7", in_recovery=True, lsn=9, timeline=timeline, committed_at=datetime(2026, 11, 24, tzinfo=UTC),
        server_version=180000, segment_bytes=1 << 20,
    )  # fmt: skip
    return Server(
        member=member, place=place, received_lsn=9, receiver="streaming", conninfo="", slot="", restore_command="",
        synchronous="", read_only=False, host="h", port="5432", paused=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("said", "served", "expected"),
    [
        ({"east": "silent", "east-2": 2}, {"east", "east-2"}, ("east", False)),
        ({"east-2": 2, "east": "silent"}, {"east", "east-2"}, ("east", False)),
        ({"east": 2, "east-2": "silent"}, {"east", "east-2"}, ("east-2", False)),
        ({"east": 2, "east-2": "silent"}, {"east"}, ("east", True)),
        ({"east": 2, "east-2": 1}, {"east", "east-2"}, ("east-2", False)),
        ({"east": 2, "east-2": 2}, set(), ("east", True)),
        ({"east": "silent", "east-2": 2}, set(), ("east", False)),
    ],
)
def test_the_old_primary_is_one_that_does_not_follow_yet(
    monkeypatch: pytest.MonkeyPatch, said: dict[str, Any], served: set[str], expected: tuple[str, bool]
) -> None:
    members = {
        name: Member(
            dsn=f"host={name}", data_dir="/d", bin_dir="/b", agent=f"http://{name}" if name in served else None
        )
        for name in said
    }
    answers = {
        name: Silent(member=name, why="gone") if each == "silent" else following(name, each)
        for name, each in said.items()
    }
    monkeypatch.setattr(losses, "ask_all", lambda those: answers)
    stage = cast(Any, SimpleNamespace(members=lambda name, site: tuple(members.items())))
    primary = cast(Any, SimpleNamespace(place=SimpleNamespace(timeline=2)))
    chosen, follows = losses._old(stage, "db", "east", primary)
    assert (chosen, follows) == (members[expected[0]], expected[1])
