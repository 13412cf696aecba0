"""An old primary comes back: it follows, is rewound if it went on by itself, or is rebuilt; the unlisted stays."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import psycopg
import pytest
from pydantic import JsonValue

from deployments.lab.postgres import server
from recovery.catalog import Member
from recovery.drive import Move, Truth
from recovery.errors import Refused
from recovery.order import Order
from recovery.step import Step
from tasks.kind import Facts, Scene
from tasks.postgres.agent_config import AgentConfig
from tasks.postgres.orders import Work
from tasks.postgres.reading import Deadline
from tasks.postgres.roles.at_home import handlers
from tasks.postgres.roles.losses import Losses
from tasks.postgres.roles.promote import Promote
from tasks.postgres.roles.sync import Sync
from tasks.store_place import StorePlace
from tests.hands.memory_store import MemoryStore
from tests.hands.role_scene import DB, STEPS, Pair, caught_up, one, pair, perform, run, scene_of, wait_for

SITE: dict[str, JsonValue] = {"site": "east"}
STEPS_HERE = (
    *STEPS[1:],
    Step(id="losses", verb="losses", resource=DB, arguments=SITE),
    Step(id="follow", verb="sync", resource=DB, arguments={**SITE, "how": "follow"}, patience_seconds=60),
    Step(id="rebuild", verb="sync", resource=DB, arguments={**SITE, "how": "rebuild"}, patience_seconds=60),
)


class HomeOfTest:
    """East's home: its agent's handlers act on it, and it stops and starts the server as a leash does."""

    def __init__(self, two: Pair, folder: Path, stack: ExitStack) -> None:
        self.two, self.stack, self.store, self.running = two, stack, MemoryStore(), two.east.process
        self.config = AgentConfig(
            site="east", resource=DB, dsn=two.east.dsn, data_dir=two.east.data_dir, bin_dir=two.east.bin_dir,
            socket=folder / "socket", local=StorePlace(site="east", bucket="b"), state_dir=folder / "agent",
            upstreams={"west": two.west.dsn},
        )  # fmt: skip
        self.killed_in: str = ""

    def __call__(
        self, member: Member, what: str, move: Move, scene: Scene, arguments: Mapping[str, JsonValue],
        deadline: Deadline,
    ) -> Facts:  # fmt: skip
        order = Order(
            id=f"{scene.name(move.step, move.attempt)}-{what}", what=what, resource=DB, site="east", generation=1,
            run=scene.plan.run, arguments=dict(arguments), expires_at=datetime.now(UTC) + timedelta(minutes=1),
        )  # fmt: skip
        return handlers(cast(Any, self))[what](Work(order=order, say=lambda text, share: None))

    def stop(self, work: Work) -> Facts:
        server.stop(self.running)
        return {}

    def start(self, work: Work) -> Facts:
        if self.killed_in == "start":
            self.killed_in = ""
            raise KeyboardInterrupt
        self.running = server.start(self.two.east.bin_dir, self.two.east.data_dir, log=self.two.east.log)
        self.stack.callback(end, self.running)
        return {}


def end(process: subprocess.Popen[bytes]) -> None:
    server.stop(process)


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Pair]:
    with pair(tmp_path) as found:
        yield found


@pytest.fixture
def east(two: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HomeOfTest]:
    with ExitStack() as stack:
        made = HomeOfTest(two, tmp_path, stack)
        monkeypatch.setattr(StorePlace, "open", lambda self, patience_seconds: made.store)
        yield made


def stage_of(two: Pair, east: HomeOfTest, plan: Any) -> Any:
    stage = two.stage(plan)
    cast(Any, stage.home).stores["east"] = east.store
    return stage


def rows(dsn: str) -> set[int]:
    with psycopg.connect(dsn) as connection:
        return {row[0] for row in connection.execute("select seq from rows")}


def follows(two: Pair) -> None:
    run(two.west.dsn, "insert into rows values (5000)")
    wait_for("the row at east", lambda: 5000 in rows(two.east.dsn))
    assert one(two.east.dsn, "select pg_is_in_recovery(), current_setting('port')") == (True, "5432")
    assert rows(two.east.dsn) == rows(two.west.dsn)


def diverge(two: Pair, stage: Any, plan: Any) -> None:
    perform(Promote(stage=stage), plan, "promote")
    run(two.east.dsn, "insert into rows values (101), (102)")
    run(two.west.dsn, "insert into rows values (201)")
    two.east.kill()


def test_an_old_primary_that_ended_cleanly_follows_without_a_rewind(two: Pair, east: HomeOfTest) -> None:
    plan = two.plan(steps=STEPS_HERE)
    stage = stage_of(two, east, plan)
    run(two.east.dsn, "alter system set default_transaction_read_only = on")
    run(two.east.dsn, "select pg_reload_conf()")
    caught_up(two)
    two.east.stop()
    perform(Promote(stage=stage), plan, "promote")
    verb = Sync(stage=stage, send=east)
    facts = perform(verb, plan, "follow")
    assert facts["east"]["rewound"] is False  # type: ignore[call-overload, index]
    follows(two)
    assert one(two.east.dsn, "show default_transaction_read_only") == ("off",)
    assert verb.observe(plan.step("follow"), scene_of(plan, {"follow": facts})).truth is Truth.HOLDS
    assert perform(verb, plan, "follow", attempt=2)["east"]["already"] is True  # type: ignore[call-overload, index]
    listed = perform(Losses(stage=stage, send=east), plan, "losses")
    assert (listed["lost_commits"], listed["why"]) == (0, "east follows the primary: it holds nothing of its own")


def test_one_that_went_on_by_itself_is_rewound_but_only_after_its_losses_are_listed(
    two: Pair, east: HomeOfTest
) -> None:
    plan = two.plan(steps=STEPS_HERE)
    stage = stage_of(two, east, plan)
    with (two.west.data_dir / "postgresql.conf").open("a") as out:
        out.write("synchronous_standby_names = 'east'\n")
    run(two.west.dsn, "select pg_reload_conf()")
    diverge(two, stage, plan)
    assert one(two.west.dsn, "show synchronous_standby_names") == ("",)
    verb = Sync(stage=stage, send=east)
    with pytest.raises(Refused, match="rule 12"):
        perform(verb, plan, "follow")
    assert perform(Losses(stage=stage, send=east), plan, "losses")["lost_commits"] == 1
    facts = perform(verb, plan, "follow", attempt=2)
    assert facts["east"]["rewound"] is True  # type: ignore[call-overload, index]
    assert facts["east"]["synchronous"] == "east"  # type: ignore[call-overload, index]
    wait_for("confirmation", lambda: one(two.west.dsn, "show synchronous_standby_names") == ("east",))
    follows(two)
    assert rows(two.east.dsn).isdisjoint({101, 102})
    assert verb.observe(plan.step("follow"), scene_of(plan, {"follow": facts})).truth is Truth.HOLDS


def test_a_rebuild_goes_on_after_a_kill_and_keeps_the_old_data_until_the_new_streams(
    two: Pair, east: HomeOfTest
) -> None:
    plan = two.plan(steps=STEPS_HERE)
    stage = stage_of(two, east, plan)
    diverge(two, stage, plan)
    verb = Sync(stage=stage, send=east)
    with pytest.raises(Refused, match="rule 12"):
        perform(verb, plan, "rebuild")
    perform(Losses(stage=stage, send=east), plan, "losses")
    east.killed_in = "start"
    with pytest.raises(KeyboardInterrupt):
        perform(verb, plan, "rebuild", attempt=2)
    aside = two.east.data_dir.with_name("data.old-1")
    assert (aside / "PG_VERSION").exists()
    facts = perform(verb, plan, "rebuild", attempt=3)
    follows(two)
    assert not aside.exists()
    assert verb.observe(plan.step("rebuild"), scene_of(plan, {"rebuild": facts})).truth is Truth.HOLDS


def test_a_primary_is_never_made_anew_over_itself(two: Pair, east: HomeOfTest) -> None:
    plan = two.plan(steps=STEPS_HERE)
    with pytest.raises(Refused, match="is the primary"):
        perform(Sync(stage=stage_of(two, east, plan), send=east), plan, "rebuild")
