"""Promotion of a real standby: what the archive holds beyond it comes back, and a killed engine goes on."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import pytest

from recovery.drive import Truth
from recovery.errors import Failed, Refused
from recovery.step import Mode
from recovery.term import Term
from tasks.postgres.roles import beyond, servers
from tasks.postgres.roles.promote import Promote
from tests.hands.role_scene import (
    DB,
    STEPS,
    Pair,
    caught_up,
    one,
    pair,
    perform,
    run,
    scene_of,
    second_standby,
    wait_for,
)


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Pair]:
    with pair(tmp_path) as found:
        yield found


def cut_off(two: Pair) -> None:
    """The standby receives nothing any more."""
    run(two.west.dsn, "alter system set primary_conninfo = 'host=/nowhere port=1 user=postgres'")
    run(two.west.dsn, "select pg_reload_conf()")
    wait_for(
        "the receiver's end",
        lambda: one(two.west.dsn, "select count(*) from pg_stat_wal_receiver where status = 'streaming'")[0] == 0,
    )


def archived(two: Pair, *, of: str) -> list[Path]:
    """Close the segment and put all that east archived since `of` into west's bucket."""
    name = str(one(two.east.dsn, "select pg_walfile_name(pg_switch_wal())")[0])
    assert two.east.archive_dir is not None
    folder = two.east.archive_dir
    wait_for(
        "archiving",
        lambda: one(two.east.dsn, "select coalesce(last_archived_wal, '') from pg_stat_archiver")[0] >= name,
    )
    files = sorted(path for path in folder.iterdir() if path.name >= of and len(path.name) == 24)
    for path in files:
        two.keep(path)
    return files


def here(two: Pair) -> str:
    return str(one(two.east.dsn, "select pg_walfile_name(pg_current_wal_lsn())")[0])


def test_a_standby_first_replays_what_the_archive_holds_beyond_it_and_is_promoted_once(two: Pair) -> None:
    begin = here(two)
    cut_off(two)
    for seq in (101, 102, 103):
        run(two.east.dsn, "select pg_switch_wal()")
        run(two.east.dsn, f"insert into rows values ({seq})")
    last_commit = one(two.east.dsn, "select pg_xact_commit_timestamp(xmin) from rows where seq = 103")[0]
    files = archived(two, of=begin)
    two.archive.put("wal/7/00000002/00000002.history.zst", b"somebody else's")
    two.east.kill()
    plan = two.plan()
    verb = Promote(stage=two.stage(plan))
    assert verb.observe(plan.steps[0], scene_of(plan)).truth is Truth.ABSENT
    before = one(two.west.dsn, "select current_setting('restore_command')")
    clock = time.monotonic()
    facts = perform(verb, plan, "promote")
    took = time.monotonic() - clock
    assert one(two.west.dsn, "select count(*) from rows") == (103,)
    assert facts["replayed_from_archive_segments"] == len(files)
    assert facts["timeline"] == 2
    assert facts["recovered_until"] is not None
    assert abs((datetime.fromisoformat(str(facts["recovered_until"])) - last_commit).total_seconds()) < 0.001
    assert facts["slots"] == {"east": "made"}
    assert one(two.west.dsn, "select current_setting('restore_command')") == before
    assert not (two.west.data_dir / servers.REPLAY_FOLDER).exists()
    assert took < 30, "the limit of a promotion"
    # killed between the effect and the record: it is performed again, and nothing changes but that it is on record
    assert verb.observe(plan.steps[0], scene_of(plan)).truth is Truth.ABSENT
    again = perform(verb, plan, "promote")
    assert again["already"] is True
    assert [again[each] for each in ("timeline", "lsn", "recovered_until")] == [
        facts[each] for each in ("timeline", "lsn", "recovered_until")
    ]
    assert verb.observe(plan.steps[0], scene_of(plan, {"promote": again})).truth is Truth.HOLDS


def test_a_partial_file_is_replayed_too_and_a_silent_archive_only_at_the_last_try(two: Pair) -> None:
    begin = here(two)
    cut_off(two)
    run(two.east.dsn, "insert into rows values (101)")
    run(two.east.dsn, "checkpoint")
    two.keep(two.east.data_dir / "pg_wal" / begin, f"{begin}.partial")
    two.east.kill()
    plan = two.plan()
    verb = Promote(stage=two.stage(plan))
    two.archive.down = True
    with pytest.raises(Exception, match="can't be reached"):
        perform(verb, plan, "promote")
    assert one(two.west.dsn, "select pg_is_in_recovery()") == (True,)
    two.archive.down = False
    perform(verb, plan, "promote", attempt=3)
    assert one(two.west.dsn, "select max(seq) from rows") == (101,)


def test_a_promotion_that_was_killed_in_the_midst_of_the_replay_goes_on(two: Pair) -> None:
    begin = here(two)
    cut_off(two)
    run(two.east.dsn, "insert into rows values (101)")
    archived(two, of=begin)
    two.east.kill()
    run(two.west.dsn, f"copy (select where false) to program 'mkdir {servers.REPLAY_FOLDER}'")
    run(two.west.dsn, f"alter system set restore_command = '{beyond.RESTORE_COMMAND}'")
    run(two.west.dsn, "select pg_reload_conf()")
    run(two.west.dsn, "select pg_wal_replay_pause()")
    plan = two.plan()
    verb = Promote(stage=two.stage(plan))
    perform(verb, plan, "promote")
    assert one(two.west.dsn, "select max(seq), current_setting('restore_command') from rows") == (101, "")


def test_no_primary_is_left_waiting_for_standbys_that_are_gone(two: Pair) -> None:
    run(two.west.dsn, "alter system set synchronous_standby_names = 'east'")
    run(two.west.dsn, "select pg_reload_conf()")
    two.east.kill()
    plan = two.plan()
    clock = time.monotonic()
    facts = perform(Promote(stage=two.stage(plan)), plan, "promote")
    assert time.monotonic() - clock < 30
    assert facts["synchronous_before"] == "east"
    run(two.west.dsn, "set statement_timeout = '5s'; insert into rows values (101)")


def test_the_graceful_variant_promotes_only_at_the_lsn_where_the_old_primary_stopped(two: Pair) -> None:
    plan = two.plan(Mode.GRACEFUL, STEPS)
    verb = Promote(stage=two.stage(plan))
    caught_up(two)
    two.east.stop()
    at = int(one(two.west.dsn, "select (pg_last_wal_replay_lsn() - '0/0')::bigint")[0])
    with pytest.raises(Refused, match="the old primary stopped at"):
        perform(verb, plan, "promote", {"demote": {"lsn": at - 1, "at": "2026-11-24T03:00:00Z"}})
    facts = perform(verb, plan, "promote", {"demote": {"lsn": at, "at": "2026-11-24T03:00:00Z"}})
    assert facts["recovered_until"] == "2026-11-24T03:00:00Z"
    assert facts["lsn"] == at


def test_another_system_and_a_newer_term_are_refused(two: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = two.plan()
    strange = plan.model_copy(update={"pinned": {**plan.pinned, "databases": {DB: {"system_id": "7", "timeline": 1}}}})
    with pytest.raises(Refused, match="belongs to system"):
        perform(Promote(stage=two.stage(strange)), strange, "promote")
    newer = Term(resource=DB, generation=2, primary="east", run="another", at=plan.asked_at)
    monkeypatch.setattr("tasks.postgres.roles.promote.term_now", lambda *_, **__: newer)
    with pytest.raises(Refused, match="generation 2"):
        perform(Promote(stage=two.stage(plan)), plan, "promote")
    assert one(two.west.dsn, "select pg_is_in_recovery()") == (True,)


def test_a_standby_that_is_silent_for_some_seconds_costs_no_try(two: Pair) -> None:
    plan = two.plan()
    two.east.kill()
    os.killpg(two.west.pid, signal.SIGSTOP)
    waking = threading.Timer(2 * servers.ASK_SECONDS, os.killpg, (two.west.pid, signal.SIGCONT))
    waking.start()
    try:
        assert perform(Promote(stage=two.stage(plan)), plan, "promote")["timeline"] == 2
    finally:
        waking.join()


def test_a_standby_on_an_older_timeline_than_the_plan_pinned_is_not_promoted_and_told(two: Pair) -> None:
    plan = two.plan()
    pinned = {DB: {**cast(dict[str, Any], plan.pinned["databases"])[DB], "timeline": 2}}
    later = plan.model_copy(update={"pinned": {**plan.pinned, "databases": pinned}})
    with pytest.raises(Failed, match=r"timeline 2 answers \(west stands on timeline 1\)"):
        perform(Promote(stage=two.stage(later)), later, "promote")
    assert one(two.west.dsn, "select pg_is_in_recovery()") == (True,)


def test_a_drill_never_opens_a_live_standby(two: Pair) -> None:
    plan = two.plan()
    drill = plan.model_copy(update={"pinned": {**plan.pinned, "live": False}})
    with pytest.raises(Refused, match="never the live standby"):
        perform(Promote(stage=two.stage(drill)), drill, "promote")
    assert one(two.west.dsn, "select pg_is_in_recovery()") == (True,)


def test_of_two_standbys_the_more_advanced_is_promoted_and_the_other_follows_it(two: Pair, tmp_path: Path) -> None:
    with second_standby(two, tmp_path) as other:
        two.others["west-2"] = two.member(other).model_copy(update={"site": "west"})
        cut_off(two)
        run(two.east.dsn, "insert into rows values (101)")
        there = one(two.east.dsn, "select pg_current_wal_flush_lsn()::text")[0]
        wait_for("replay", lambda: one(other.dsn, f"select pg_last_wal_replay_lsn() >= '{there}'")[0])
        two.east.kill()
        plan = two.plan()
        verb = Promote(stage=two.stage(plan))
        facts = perform(verb, plan, "promote")
        assert (facts["member"], facts["neighbours"]) == ("west-2", {"west": "pointed"})
        assert verb.observe(plan.steps[0], scene_of(plan, {"promote": facts})).truth is Truth.HOLDS
        run(other.dsn, "insert into rows values (102)")
        wait_for("the other's replay", lambda: one(two.west.dsn, "select max(seq) from rows")[0] == 102)
        # its primary is gone now: no receiver tells its timeline any more, the names of its files do
        other.kill()
        wait_for("the receiver's end", lambda: one(two.west.dsn, "select count(*) from pg_stat_wal_receiver")[0] == 0)
        stands = servers.ask("west", two.member(two.west))
        assert isinstance(stands, servers.Server)
        assert stands.place.timeline == 2
