"""What a failover gave up is listed exactly: every transaction beyond the promotion, and the rows that they left."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import psycopg
import pytest
from pydantic import JsonValue

from deployments.lab.postgres import server
from recovery.catalog import Member
from recovery.drive import Move, Truth
from recovery.errors import Refused, Unproven
from recovery.losses import losses_key
from recovery.order import Order
from recovery.point import lsn_number, segment_name
from recovery.step import Step
from tasks.home import Home
from tasks.kind import Facts, Scene
from tasks.postgres.agent_config import AgentConfig
from tasks.postgres.orders import Work
from tasks.postgres.reading import Deadline
from tasks.postgres.roles import losses
from tasks.postgres.roles.losing import Losing
from tasks.postgres.roles.losses import Losses
from tasks.postgres.roles.promote import Promote
from tasks.postgres.stopping import servers_in
from tasks.store_place import StorePlace
from tests.hands.memory_store import MemoryStore
from tests.hands.role_scene import DB, STEPS, Pair, caught_up, one, pair, perform, run, scene_of, wait_for

STEPS_HERE = (*STEPS[1:], Step(id="losses", verb="losses", resource=DB, arguments={"site": "east"}))


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Pair]:
    with pair(tmp_path, max_prepared_transactions="5") as found:
        yield found


class AgentOfTest:
    """Carries orders out as the agent at east does."""

    def __init__(self, two: Pair, folder: Path) -> None:
        self.two, self.folder, self.store = two, folder, MemoryStore()
        place = StorePlace(site="east", bucket="b")
        self.config = AgentConfig(
            site="east", resource=DB, dsn=two.east.dsn, data_dir=two.east.data_dir, bin_dir=two.east.bin_dir,
            socket=folder / "socket", local=place, state_dir=folder / "agent",
        )  # fmt: skip

    def __call__(
        self, member: Member, what: str, move: Move, scene: Scene, arguments: Mapping[str, JsonValue],
        deadline: Deadline,
    ) -> Facts:  # fmt: skip
        order = Order(
            id=f"{scene.name(move.step, move.attempt)}-{what}", what=what, resource=DB, site="east", generation=1,
            run=scene.plan.run, arguments=dict(arguments), expires_at=datetime.now(UTC) + timedelta(minutes=1),
        )  # fmt: skip
        return Losing(config=self.config)(Work(order=order, say=lambda text, share: None))


@pytest.fixture
def agent(two: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AgentOfTest:
    made = AgentOfTest(two, tmp_path)
    monkeypatch.setattr(StorePlace, "open", lambda self, patience_seconds: made.store)
    return made


def stage_of(two: Pair, agent: AgentOfTest, plan: Any) -> Any:
    stage = two.stage(plan)
    home = cast(Any, stage.home)
    home.stores["east"] = agent.store
    return stage


def test_every_transaction_beyond_the_promotion_is_listed_with_its_rows_and_class(
    two: Pair, agent: AgentOfTest
) -> None:
    plan = two.plan(steps=STEPS_HERE)
    stage = stage_of(two, agent, plan)
    before = psycopg.connect(two.east.dsn)
    before.execute("insert into rows values (150)")  # begun before, committed beyond the promotion
    run(two.east.dsn, "select pg_logical_emit_message(false, 'a', 'flushed', true)")
    promoted = perform(Promote(stage=stage), plan, "promote")
    # the old primary was not fenced, and goes on: all of this is lost
    before.commit()
    before.close()
    run(two.east.dsn, "insert into rows values (101), (102)")
    run(
        two.east.dsn,
        "begin; savepoint a; insert into rows values (103); release a; insert into rows values (104); commit",
    )
    run(two.east.dsn, "update rows set seq = 1001 where seq = 1")
    run(two.east.dsn, "delete from rows where seq = 2")
    run(two.east.dsn, "insert into standfast.beat default values")
    run(two.east.dsn, "begin; insert into rows values (105); rollback")
    run(two.east.dsn, "create table later (a int)")
    run(two.east.dsn, "analyze rows")
    with psycopg.connect(two.east.dsn, autocommit=True) as connection:
        connection.execute("begin; insert into rows values (106); prepare transaction 'p'")
        connection.execute("commit prepared 'p'")
    expected = {row[0] for row in psycopg.connect(two.east.dsn).execute("select seq from rows")}
    kept = {row[0] for row in psycopg.connect(two.west.dsn).execute("select seq from rows")}
    two.east.kill()
    verb = Losses(stage=stage, send=agent)
    facts = perform(verb, plan, "losses")
    (found,) = losses.read(cast(Home, stage.home), plan.run)
    assert facts["kept"] == losses_key(plan.run, DB) == found.key
    assert found.losses.from_lsn == promoted["lsn"]
    rows = {row.row["seq"] for each in found.losses.transactions for row in each.rows}
    assert rows == expected - kept == {101, 102, 103, 104, 106, 150, 1001}
    classes = [each.klass for each in found.losses.transactions]
    assert sorted(classes) == sorted(["rows"] * 6 + ["heartbeat", "schema", "maintenance"])
    assert facts["lost_commits"] == 7
    deleted = [each for each in found.losses.transactions if {"delete": 1} in each.changes.values()]
    assert len(deleted) == 1
    assert deleted[0].changes == {"postgres.public.rows": {"delete": 1}}
    assert verb.observe(plan.step("losses"), scene_of(plan, {"losses": facts})).truth is Truth.HOLDS
    # again (a killed engine or agent): the same bytes, the same names; the old data was only read
    again = perform(verb, plan, "losses", attempt=2)
    assert [again[each] for each in ("kept", "sha256")] == [facts[each] for each in ("kept", "sha256")]
    assert list((agent.folder / "agent" / "copies").iterdir()) == []


def test_an_old_primary_that_wrote_nothing_more_lost_nothing(two: Pair, agent: AgentOfTest) -> None:
    plan = two.plan(steps=STEPS_HERE)
    stage = stage_of(two, agent, plan)
    two.east.stop()
    perform(Promote(stage=stage), plan, "promote")
    facts = perform(Losses(stage=stage, send=agent), plan, "losses")
    assert (facts["lost_commits"], facts["classes"]) == (0, {})


def test_data_that_is_in_use_or_of_another_system_is_not_listed(two: Pair, agent: AgentOfTest) -> None:
    plan = two.plan(steps=STEPS_HERE)
    stage = stage_of(two, agent, plan)
    scene, move = scene_of(plan), Move(step=plan.step("losses"), attempt=1)
    arguments: dict[str, JsonValue] = {"system_id": "7", "timeline": 2, "switches": [[1, 1]]}
    with pytest.raises(Refused, match="of system"):
        agent(two.member(two.east), "losses", move, scene, arguments, Deadline(5))
    system = str(one(two.east.dsn, "select system_identifier::text from pg_control_system()")[0])
    with pytest.raises(Refused, match="Postgres runs on the old data"):
        agent(two.member(two.east), "losses", move, scene, {**arguments, "system_id": system}, Deadline(5))
    assert stage is not None


def busy(two: Pair, megabytes: int) -> None:
    """So much WAL of nobody's."""
    for _ in range(megabytes * 5 // 2):
        run(two.east.dsn, "select pg_logical_emit_message(false, 'a', repeat('x', 400000), true)")


def lost(two: Pair, agent: AgentOfTest) -> tuple[Facts, Any]:
    plan = two.plan(steps=STEPS_HERE)
    stage = stage_of(two, agent, plan)
    facts = perform(Losses(stage=stage, send=agent), plan, "losses")
    (found,) = losses.read(cast(Home, stage.home), plan.run)
    return facts, found.losses


def spoil(two: Pair, lsn: str) -> None:
    """Break what stands at an LSN of the old primary's WAL: a bad block of its disk."""
    number = lsn_number(lsn)
    path = two.east.data_dir / "pg_wal" / segment_name(1, number, 1 << 20)
    with path.open("r+b") as file:
        file.seek(number % (1 << 20))
        file.write(b"\xff" * 64)


@pytest.mark.parametrize("checkpointed", [False, True])
def test_a_broken_place_in_the_old_wal_is_not_its_end(two: Pair, agent: AgentOfTest, checkpointed: bool) -> None:
    perform(Promote(stage=stage_of(two, agent, two.plan())), two.plan(), "promote")
    run(two.east.dsn, "insert into rows values (101)")
    at = str(one(two.east.dsn, "select pg_current_wal_insert_lsn()::text")[0])
    run(two.east.dsn, "insert into rows values (102)")
    if checkpointed:
        run(two.east.dsn, "checkpoint")
    else:
        busy(two, 3)
    run(two.east.dsn, "insert into rows values (103)")
    two.east.kill()
    spoil(two, at)
    with pytest.raises(Unproven, match="last checkpoint is at" if checkpointed else "behind it holds records"):
        lost(two, agent)


def test_records_behind_a_broken_place_of_the_last_file_are_told_of(two: Pair, agent: AgentOfTest) -> None:
    perform(Promote(stage=stage_of(two, agent, two.plan())), two.plan(), "promote")
    run(two.east.dsn, "select pg_switch_wal()")
    run(two.east.dsn, "insert into rows values (101)")
    at = str(one(two.east.dsn, "select pg_current_wal_insert_lsn()::text")[0])
    run(two.east.dsn, "insert into rows select generate_series(102, 800)")
    two.east.kill()
    spoil(two, at)
    _, found = lost(two, agent)
    assert "can't be read" in found.unread["WAL"]


def test_a_transaction_that_was_not_read_whole_is_never_taken_for_maintenance(two: Pair, agent: AgentOfTest) -> None:
    """A load with its ANALYZE in one transaction: its rows lie further back than is read."""
    load = psycopg.connect(two.east.dsn)
    load.execute("insert into rows select generate_series(1000, 1020)")
    busy(two, 6)
    run(two.east.dsn, "checkpoint")
    busy(two, 6)
    caught_up(two)
    perform(Promote(stage=stage_of(two, agent, two.plan())), two.plan(), "promote")
    load.execute("analyze rows")
    load.commit()
    load.close()
    run(two.east.dsn, "analyze rows")
    two.east.kill()
    facts, found = lost(two, agent)
    assert [each.klass for each in found.transactions] == ["other", "maintenance"]
    assert facts["lost_commits"] == 1


def test_old_data_whose_wal_lies_on_a_disk_of_its_own_is_only_read(two: Pair, agent: AgentOfTest) -> None:
    two.east.stop()
    wal, elsewhere = two.east.data_dir / "pg_wal", two.east.data_dir.with_name("wal-disk")
    wal.rename(elsewhere)
    wal.symlink_to(elsewhere)
    process = server.start(two.east.bin_dir, two.east.data_dir, log=two.east.log)
    wait_for("east again", lambda: server.status(two.east.data_dir) == "ready")
    perform(Promote(stage=stage_of(two, agent, two.plan())), two.plan(), "promote")
    run(two.east.dsn, "insert into rows values (101)")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    wait_for("the end of its backends", lambda: not servers_in(two.east.data_dir))
    before = {path: path.read_bytes() for path in elsewhere.rglob("*") if path.is_file()}
    facts, _ = lost(two, agent)
    assert facts["rows"] == 1
    assert {path: path.read_bytes() for path in elsewhere.rglob("*") if path.is_file()} == before
