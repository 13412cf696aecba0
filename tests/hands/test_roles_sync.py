"""An old primary comes back: it follows, is rewound if it went on by itself, or is rebuilt; the unlisted stays."""

from __future__ import annotations

import os
import shutil
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
from recovery.plan import Plan
from recovery.step import Step
from tasks.kind import Facts, Scene
from tasks.postgres.agent_config import AgentConfig
from tasks.postgres.orders import Work
from tasks.postgres.reading import Deadline
from tasks.postgres.roles import remaking, returning
from tasks.postgres.roles.at_home import handlers
from tasks.postgres.roles.losses import Losses
from tasks.postgres.roles.promote import Promote
from tasks.postgres.roles.sync import Sync
from tasks.postgres.stopping import Stopped, stopped
from tasks.stage import Stage
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

    def kill_in(self, where: str) -> None:
        if self.killed_in == where:
            self.killed_in = ""
            raise KeyboardInterrupt

    def halt(self, work: Work) -> Stopped:
        server.stop(self.running)
        return stopped(self.config, self.running.pid, leashed=False)

    def start(self, work: Work) -> Facts:
        self.kill_in("start")
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
        monkeypatch.setattr(returning, "STREAMS_SECONDS", 60.0)
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


def test_a_primary_that_became_a_standby_keeps_no_wal_for_the_one_that_it_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing bounds it, its slot for the old standby would fill its disk: nobody reads there any more."""
    with pair(tmp_path, max_slot_wal_keep_size="-1") as two, ExitStack() as stack:
        east = HomeOfTest(two, tmp_path, stack)
        monkeypatch.setattr(StorePlace, "open", lambda self, patience_seconds: east.store)
        held = "select array_agg(slot_name::text) from pg_replication_slots where restart_lsn is not null"
        assert one(two.east.dsn, held) == (["standby"],)
        plan = two.plan(steps=STEPS_HERE)
        stage = stage_of(two, east, plan)
        caught_up(two)
        two.east.stop()
        perform(Promote(stage=stage), plan, "promote")
        facts = perform(Sync(stage=stage, send=east), plan, "follow")
        assert facts["east"]["released"] == ["standby"]  # type: ignore[call-overload, index]
        assert one(two.east.dsn, held) == (None,)
        assert one(two.east.dsn, "select slot_name::text from pg_replication_slots") == ("standby",)
        follows(two)


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


def diverged_and_listed(two: Pair, east: HomeOfTest) -> tuple[Plan, Stage]:
    """West was promoted, east has commits of its own, and those are in the loss list."""
    plan = two.plan(steps=STEPS_HERE)
    stage = stage_of(two, east, plan)
    diverge(two, stage, plan)
    perform(Losses(stage=stage, send=east), plan, "losses")
    return plan, stage


def test_a_rebuild_that_was_killed_between_its_two_renames_goes_on_with_the_second(
    two: Pair, east: HomeOfTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no data directory at that moment, so that nothing can be asked of it."""
    plan, stage = diverged_and_listed(two, east)
    really = Path.rename

    def rename(path: Path, target: Path) -> Path:
        if path.name.startswith("data.rebuild"):
            east.kill_in("the swap")
        return really(path, target)

    monkeypatch.setattr(Path, "rename", rename)
    verb = Sync(stage=stage, send=east)
    east.killed_in = "the swap"
    with pytest.raises(KeyboardInterrupt):
        perform(verb, plan, "rebuild")
    assert not two.east.data_dir.exists()
    perform(verb, plan, "rebuild", attempt=2)
    follows(two)


def test_a_machine_that_was_made_anew_and_holds_no_data_becomes_a_standby_and_never_a_primary(
    two: Pair, east: HomeOfTest
) -> None:
    plan, stage = diverged_and_listed(two, east)
    own = {each.name: each.read_bytes() for each in two.east.data_dir.glob("*.conf") if "auto" not in each.name}
    shutil.rmtree(two.east.data_dir)
    verb = Sync(stage=stage, send=east)
    east.killed_in = "start"
    with pytest.raises(KeyboardInterrupt):
        perform(verb, plan, "rebuild")
    assert (two.east.data_dir / "standby.signal").exists()
    for name, body in own.items():  # as whoever makes such machines does
        (two.east.data_dir / name).write_bytes(body)
    perform(verb, plan, "rebuild", attempt=2)
    follows(two)


def test_a_rebuild_after_a_rewind_that_was_killed_keeps_its_own_configuration_and_not_the_other_server_s(
    two: Pair, east: HomeOfTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rewind brings the other server's postgresql.conf before ours is put back."""
    plan, stage = diverged_and_listed(two, east)
    mine = (two.east.data_dir / "postgresql.conf").read_text()
    really = remaking.keep_configuration

    def keep(source: Path, into: Path) -> None:
        if into == two.east.data_dir:
            raise KeyboardInterrupt
        really(source, into)

    verb = Sync(stage=stage, send=east)
    with monkeypatch.context() as patched:
        patched.setattr(remaking, "keep_configuration", keep)
        with pytest.raises(KeyboardInterrupt):
            perform(verb, plan, "follow")
    (two.east.data_dir / "postgresql.conf").write_text("port = 1\n")
    with pytest.raises(Refused, match="rebuild it"):
        perform(verb, plan, "follow", attempt=2)
    perform(verb, plan, "rebuild", attempt=3)
    assert (two.east.data_dir / "postgresql.conf").read_text() == mine
    follows(two)


def test_what_a_power_cut_must_not_take_away_is_on_the_disk_before_anything_relies_on_it(
    two: Pair, east: HomeOfTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mark that a rewind has begun and the configuration that it overwrites, before it begins; that the server is a
    standby and of whom, before it is started."""
    plan, stage = diverged_and_listed(two, east)
    durable: set[str] = set()
    really = os.fsync

    def fsync(number: int) -> None:
        durable.add(str(Path(f"/proc/self/fd/{number}").readlink()))
        really(number)

    monkeypatch.setattr(os, "fsync", fsync)
    state, data = east.config.state_dir, two.east.data_dir
    east.killed_in = "rewind"
    with monkeypatch.context() as patched:
        patched.setattr(remaking, "_run", lambda *_, **__: east.kill_in("rewind"))
        with pytest.raises(KeyboardInterrupt):
            perform(Sync(stage=stage, send=east), plan, "follow")
    assert {str(state), str(state / "configuration"), str(state / "configuration" / "postgresql.conf")} <= durable
    durable.clear()
    east.killed_in = "start"
    with pytest.raises(KeyboardInterrupt):
        perform(Sync(stage=stage, send=east), plan, "rebuild", attempt=2)
    fresh = data.with_name("data.rebuild-1")
    assert {str(fresh), str(fresh / "standby.signal"), str(data.parent)} <= durable
    assert (data / "standby.signal").exists()


def test_a_primary_is_never_made_anew_over_itself(two: Pair, east: HomeOfTest) -> None:
    plan = two.plan(steps=STEPS_HERE)
    with pytest.raises(Refused, match="is the primary"):
        perform(Sync(stage=stage_of(two, east, plan), send=east), plan, "rebuild")


def test_data_that_was_promoted_by_itself_to_a_timeline_of_the_same_number_is_nobody_s_follower(
    two: Pair, east: HomeOfTest
) -> None:
    """Somebody opened the old primary's data by hand after its losses were listed: both servers are on timeline 2."""
    plan = two.plan(steps=STEPS_HERE)
    stage = stage_of(two, east, plan)
    run(two.east.dsn, "insert into rows values (101), (102)")
    caught_up(two)
    two.east.kill()
    perform(Promote(stage=stage), plan, "promote")
    perform(Losses(stage=stage, send=east), plan, "losses")
    with (two.east.data_dir / "postgresql.conf").open("a") as out:
        out.write("restore_command = 'false'\n")
    (two.east.data_dir / "recovery.signal").touch()
    east.start(cast(Any, None))
    wait_for("east's own promotion", lambda: alone(two.east.dsn))
    run(two.east.dsn, "insert into rows values (103), (104)")
    run(two.west.dsn, "insert into rows select generate_series(201, 300)")
    server.stop(east.running)
    verb = Sync(stage=stage, send=east)
    with pytest.raises(Refused, match=r"another branch: .* by itself"):
        perform(Losses(stage=stage, send=east), plan, "losses", attempt=2)
    for how in ("rebuild", "follow"):
        with pytest.raises(Refused, match="rule 12"):
            perform(verb, plan, how)
    east.start(cast(Any, None))
    wait_for("east again", lambda: alone(two.east.dsn))
    assert {103, 104} <= rows(two.east.dsn)


def test_what_was_written_after_the_losses_were_listed_is_listed_too_before_anything_is_rewound(
    two: Pair, east: HomeOfTest
) -> None:
    """Somebody started the old primary once more, behind the back of all."""
    plan, stage = diverged_and_listed(two, east)
    east.start(cast(Any, None))
    wait_for("east again", lambda: alone(two.east.dsn))
    run(two.east.dsn, "insert into rows values (103)")
    server.stop(east.running)
    verb = Sync(stage=stage, send=east)
    for how in ("follow", "rebuild"):
        with pytest.raises(Refused, match=r"rule 12.*before its last checkpoint"):
            perform(verb, plan, how)
    assert perform(Losses(stage=stage, send=east), plan, "losses", attempt=2)["lost_commits"] == 2
    perform(verb, plan, "follow", attempt=2)
    follows(two)


def alone(dsn: str) -> bool:
    try:
        return one(dsn, "select pg_is_in_recovery()") == (False,)
    except psycopg.OperationalError:
        return False
