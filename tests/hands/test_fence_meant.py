"""Whose end is proved: the server of that name, of that system. Two servers of a site have the same system, and a
machine that was made anew has the same name."""

from __future__ import annotations

import struct
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from recovery.catalog import Member
from recovery.errors import Failed, Refused
from recovery.order import Order
from recovery.step import Mode
from tasks.kind import Facts
from tasks.postgres.agent_config import AgentConfig
from tasks.postgres.agent_http import Door
from tasks.postgres.order_client import Done
from tasks.postgres.orders import Work
from tasks.postgres.reading import Deadline
from tasks.postgres.roles import look
from tasks.postgres.roles.fence_ways import Ground, by_agent
from tasks.postgres.stopping import Home
from tasks.postgres.terms import OwnTerm
from tasks.store_place import StorePlace

SYSTEM = 7000000000000000001
IN_PRODUCTION = 6


def home_of(folder: Path, *, system: int | None = SYSTEM) -> Home:
    """The home of `east2`, whose server is stopped."""
    data = folder / "data"
    (data / "global").mkdir(parents=True)
    if system is not None:
        body = struct.pack("=QIIi4xqQQI", system, 1700, 0, IN_PRODUCTION, 0, 0, 0, 3)
        (data / "global" / "pg_control").write_bytes(body)
    config = AgentConfig(
        site="east", member="east2", resource="orders-db", dsn=f"host={folder}", data_dir=data, bin_dir=folder,
        socket=folder / "s", local=StorePlace(site="east", bucket="b"), state_dir=folder / "state",
    )  # fmt: skip
    return Home(config=config, own=OwnTerm(path=folder / "term.json"), leash=None)


def work_of(**arguments: Any) -> Work:
    order = Order(
        id="a-1", what="stop", resource="orders-db", site="east", generation=1, run="r" * 64, arguments=arguments,
        expires_at=datetime.now(UTC) + timedelta(minutes=1),
    )  # fmt: skip
    return Work(order=order, say=lambda text, share: None)


def test_an_agent_tells_whose_end_it_saw(tmp_path: Path):
    said = home_of(tmp_path).stop(work_of(server="east2", system_id=str(SYSTEM)))
    assert (said["server"], said["system_id"], said["timeline"]) == ("east2", str(SYSTEM), 3)


@pytest.mark.parametrize(
    ("meant", "why"),
    [
        ({"server": "east", "system_id": str(SYSTEM)}, "is for the server east, this agent is of east2"),
        ({"server": "east2", "system_id": "8"}, f"of system {SYSTEM}, the plan is for 8"),
    ],
)
def test_an_order_that_means_another_server_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, meant: dict[str, str], why: str
):
    stops: list[Work] = []
    monkeypatch.setattr(Home, "halt", lambda self, work: stops.append(work))
    with pytest.raises(Refused, match=why) as refusal:
        home_of(tmp_path).stop(work_of(**meant))
    assert stops == []
    assert "nothing was stopped" in refusal.value.hint


def test_a_server_whose_data_cannot_be_read_is_stopped_and_proves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    stops: list[Work] = []
    monkeypatch.setattr(Home, "halt", lambda self, work: stops.append(work))
    with pytest.raises(Failed, match="can't be read"):
        home_of(tmp_path, system=None).stop(work_of(server="east2", system_id=str(SYSTEM)))
    assert len(stops) == 1


def fenced_by(facts: Facts, orders: list[dict[str, Any]]) -> Any:
    """What the fence takes an agent's word for, with a plan for system 7 and the server east."""
    stopped = {
        "pid": None, "process_gone": True, "port_closed": True, "control": "shut down", "leashed": True,
        "at": "2026-11-28T03:00:00Z",
    }  # fmt: skip
    agent = SimpleNamespace(
        order=lambda *words, **more: (orders.append(more), Done(facts={"stopped": stopped, **facts}))[1]
    )
    pinned = {"databases": {"orders-db": {"system_id": "7", "timeline": 3}}}
    east = Member(dsn="host=x", data_dir="/d", bin_dir="/b", agent="http://a")
    ground = SimpleNamespace(
        name="orders-db", order_id="a-1", suspects=(("east", east),), signed=False,
        agent=lambda url: agent, over=threading.Event(), deadline=Deadline(5),
        stage=SimpleNamespace(source="east", term=1),
        scene=SimpleNamespace(mode=Mode.UNGRACEFUL, plan=SimpleNamespace(run="r", pinned=pinned)),
    )  # fmt: skip
    return by_agent(cast(Ground, ground))


@pytest.mark.parametrize(
    ("facts", "why_not"),
    [
        ({"server": "east", "system_id": "7"}, ""),
        ({"server": "east2", "system_id": "7"}, "speaks of east2"),
        ({"system_id": "7"}, "does not name"),
        ({"server": "east", "system_id": "8"}, "of system 8, the plan is for 7"),
        ({"server": "east"}, "of system None"),
    ],
)
def test_an_agent_s_word_about_another_server_or_another_system_is_no_fence(facts: Facts, why_not: str):
    orders: list[dict[str, Any]] = []
    proof = fenced_by(facts, orders)
    assert why_not in proof.why_not
    assert bool(proof.why_not) == bool(why_not)
    assert (orders[0]["arguments"]["server"], orders[0]["arguments"]["system_id"]) == ("east", "7")


@pytest.mark.parametrize(
    ("said", "able"),
    [({"ok": True, "server": "east"}, True), ({"ok": True, "server": "east2"}, False), ({}, True), ([], False)],
)
def test_a_plan_does_not_count_on_an_agent_that_bears_another_server_s_name(said: Any, able: bool):
    """Told before the event: at the fence it would refuse."""
    door = Door("127.0.0.1", 0)
    door.add("GET", "/health", lambda _query, _body: said)
    thread = threading.Thread(target=door.serve_forever, args=(0.02,))
    thread.start()
    try:
        east = Member(dsn="host=x", data_dir="/d", bin_dir="/b", agent=f"http://127.0.0.1:{door.server_port}")
        assert look._agents((("east", east),)) is able
    finally:
        door.shutdown()
        thread.join()
        door.server_close()
