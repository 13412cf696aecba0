"""Demotion of a real primary: nothing is lost, proved by the LSN at which it stopped; before the stop all is undone."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Self

import psycopg
import pytest
from pydantic import JsonValue

from recovery.catalog import Member
from recovery.drive import Move, Truth
from recovery.errors import Failed, Refused, Unproven
from recovery.step import Mode
from tasks.kind import Facts, Scene
from tasks.postgres import control
from tasks.postgres.reading import Deadline
from tasks.postgres.roles import demote
from tasks.postgres.roles.demote import Demote
from tasks.postgres.roles.promote import Promote
from tests.hands.role_scene import DB, STEPS, Pair, one, pair, perform, run, scene_of, wait_for


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Pair]:
    with pair(tmp_path) as found:
        yield found


class AgentOfTest:
    """Stops east as its agent would."""

    def __init__(self, two: Pair, trouble: Exception | None = None) -> None:
        self.two, self.trouble, self.orders = two, trouble, list[str]()
        self.told: Facts = {}

    def __call__(
        self, member: Member, what: str, move: Move, scene: Scene, arguments: Mapping[str, JsonValue],
        deadline: Deadline,
    ) -> Facts:  # fmt: skip
        self.orders.append(what)
        if self.trouble is not None:
            raise self.trouble
        self.two.east.stop()
        return {"server": "east", **control.facts(self.two.east.data_dir), **self.told}


class Writer:
    """Writes rows as fast as it can and remembers which were acknowledged."""

    def __init__(self, dsn: str) -> None:
        self.dsn, self.acknowledged, self.stop = dsn, list[int](), threading.Event()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        seq = 1000
        while not self.stop.is_set():
            try:
                with psycopg.connect(self.dsn, autocommit=True) as connection:
                    while not self.stop.is_set():
                        seq += 1
                        connection.execute("insert into rows values (%s)", [seq])
                        self.acknowledged.append(seq)
            except psycopg.Error:
                self.stop.wait(0.02)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join()


def test_what_was_acknowledged_is_at_the_new_primary_and_the_lsns_are_equal(two: Pair) -> None:
    plan = two.plan(Mode.GRACEFUL, STEPS)
    verb = Demote(stage=two.stage(plan), send=AgentOfTest(two))
    with Writer(two.east.dsn) as writer:
        wait_for("some rows", lambda: len(writer.acknowledged) > 20)
        facts = perform(verb, plan, "demote")
    assert facts["lsn"] == one(two.west.dsn, "select (pg_last_wal_replay_lsn() - '0/0')::bigint")[0]
    assert verb.observe(plan.steps[0], scene_of(plan, {"demote": facts})).truth is Truth.HOLDS
    promoted = perform(Promote(stage=two.stage(plan)), plan, "promote", {"demote": facts})
    assert promoted["lsn"] == facts["lsn"]
    assert promoted["recovered_until"] == facts["at"]
    with psycopg.connect(two.west.dsn) as connection:
        there = {row[0] for row in connection.execute("select seq from rows")}
    assert set(writer.acknowledged) <= there


def test_a_demotion_that_was_killed_after_the_stop_goes_on(two: Pair) -> None:
    plan = two.plan(Mode.GRACEFUL, STEPS)
    agent = AgentOfTest(two)
    two.east.stop()
    facts = perform(Demote(stage=two.stage(plan), send=agent), plan, "demote")
    assert agent.orders == ["stop"]
    assert facts["lsn"] == one(two.west.dsn, "select (pg_last_wal_replay_lsn() - '0/0')::bigint")[0]


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"system_id": "8"}, "east is of system 8, the plan is for"),
        ({"server": "east2"}, "speaks of east2"),
        ({"timeline": 9}, "ended on timeline 9, the plan pinned 1"),
    ],
)
def test_a_server_that_is_not_the_plan_s_proves_nothing_however_cleanly_it_ended(
    two: Pair, told: Facts, why: str
) -> None:
    """Nobody answered as the primary, so that the one that was stopped is known by its agent's words alone."""
    plan = two.plan(Mode.GRACEFUL, STEPS)
    agent = AgentOfTest(two)
    agent.told = told
    two.east.stop()
    with pytest.raises(Refused, match=why):
        perform(Demote(stage=two.stage(plan), send=agent), plan, "demote")


def test_when_the_stop_fails_the_primary_writes_again(two: Pair) -> None:
    plan = two.plan(Mode.GRACEFUL, STEPS)
    verb = Demote(stage=two.stage(plan), send=AgentOfTest(two, Failed("the agent is silent", hint="start it")))
    with pytest.raises(Failed, match="the agent is silent"):
        perform(verb, plan, "demote")
    wait_for("writes", lambda: one(two.east.dsn, "show default_transaction_read_only") == ("off",))
    run(two.east.dsn, "insert into rows values (101)")
    run(two.east.dsn, "alter system set default_transaction_read_only = on")
    run(two.east.dsn, "select pg_reload_conf()")
    wait_for("read-only", lambda: one(two.east.dsn, "show default_transaction_read_only") == ("on",))
    assert demote.undo(two.stage(plan), DB)
    wait_for("writes", lambda: one(two.east.dsn, "show default_transaction_read_only") == ("off",))
    assert not demote.undo(two.stage(plan), DB)


def test_while_it_waits_for_the_standby_it_hears_that_nobody_wants_it_that_the_lease_and_that_the_primary_is_gone(
    two: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demote, "EQUAL_SECONDS", 3600.0)
    plan = two.plan(Mode.GRACEFUL, STEPS)
    run(two.west.dsn, "select pg_wal_replay_pause()")
    wanted, lease = [True], ["held"]

    def may_act() -> None:
        if lease != ["held"]:
            raise Refused("the lease is lost", hint="act again")

    scene = replace(scene_of(plan), wanted=lambda: wanted[0], may_act=may_act)

    def read_only() -> bool:
        with suppress(psycopg.OperationalError):  # our own session is one of those that a demotion ends
            return one(two.east.dsn, "show default_transaction_read_only") == ("on",)
        return False

    with ThreadPoolExecutor() as pool, ExitStack() as at_the_end:
        at_the_end.callback(wanted.__setitem__, 0, False)  # a test that fails leaves no demotion that waits an hour
        for end in (
            lambda: wanted.__setitem__(0, False),
            lambda: lease.__setitem__(0, "lost"),
            two.east.kill,
        ):
            run(two.east.dsn, "insert into rows select coalesce(max(seq), 0) + 1 from rows")
            move = Move(step=plan.step("demote"), attempt=1)
            demoting = pool.submit(Demote(stage=two.stage(plan), send=AgentOfTest(two)).perform, move, scene)
            wait_for("read-only", read_only)
            end()
            with pytest.raises((Failed, Refused), match=r"ordered otherwise|lease is lost|broke off"):
                demoting.result(30)
            if not wanted[0] or lease != ["held"]:
                wait_for("writes", lambda: one(two.east.dsn, "show default_transaction_read_only") == ("off",))
                wanted[0], lease[0] = True, "held"


def test_a_stop_that_was_not_clean_proves_nothing(two: Pair) -> None:
    plan = two.plan(Mode.GRACEFUL, STEPS)

    def killed(*_: object) -> Facts:
        two.east.kill()
        assert control.shutdown_end(two.east.data_dir) is None
        return {"server": "east", **control.facts(two.east.data_dir)}

    with pytest.raises(Unproven, match="not by a clean shutdown"):
        perform(Demote(stage=two.stage(plan), send=killed), plan, "demote")


def test_a_primary_on_another_timeline_than_pinned_is_left_alone(two: Pair) -> None:
    plan = two.plan(Mode.GRACEFUL, STEPS)
    system = plan.pinned["databases"][DB]["system_id"]  # type: ignore[index, call-overload]
    two.east.stop()
    run(two.west.dsn, "select pg_promote()")
    swapped = plan.model_copy(update={"pinned": {**plan.pinned, "from": "west", "to": "east"}})
    with pytest.raises((Refused, Failed)):
        perform(Demote(stage=two.stage(swapped), send=AgentOfTest(two)), swapped, "demote")
    assert one(two.west.dsn, "show default_transaction_read_only") == ("off",), system
