"""Every hazard of Postgres's recovery on the engine's own path (choose, fetch, verify, recover, check): each ends in a
finding, a refusal or the right data, never in silent wrong data.

| hazard | where it is a case |
|---|---|
| 1 target before the backup's end | here; thought/test_choose (it ended before), hands/test_checks (place) |
| 2 a moment without a zone | here: refused, and targets carry +00; make faults plants a wrong zone |
| 3 target behind the last WAL | here; thought/test_choose |
| 4 gap, corrupt, truncated segment | here; hands/test_faults (WAL), hands/test_archiver_reading |
| 5 a clone archives into the source's archive | here; hands/test_archiver (refused at the door); thought/test_choose |
| 6 same name, other content | hands/test_archiver, hands/test_agent |
| 7 a backup killed | test_troubles_killed; hands/test_mover |
| 8 archive_command fails, pg_basebackup must not wait for ever | here |
| 9 recovery.signal or backup_label missing; a fetch that fails is no end of WAL | here; hands/test_faults (files) |
| 10 the source's settings and a second target | here |
| 11 kill -9 of the scratch postmaster | test_troubles_killed |
| 12 the clock steps backward | here |
| 13 a paused server looks healthy | here |
| 14 .partial, .history, .backup | hands/test_archiver; here beside 5 |
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

import psycopg
import pytest
import zstandard
from troubled import DB, back_up, left, runs_of, until, write

from deployments.cli import main
from deployments.lab import breaking, faults
from deployments.lab.world import World
from recovery.choose import Target
from recovery.errors import NoPoint
from recovery.plan import Plan
from recovery.proof import Proof
from tasks import proving
from tasks.engine import Act
from tasks.home import Home
from tasks.postgres import looking, scratch, scratch_conf
from tasks.postgres.checks import commits
from tasks.postgres.checks.context import Commit
from tasks.postgres.scratch import Scratch

pytestmark = pytest.mark.lab
Lab = tuple[World, Home]


SETTINGS = ("recovery_target_name", "work_mem", "archive_mode", "primary_conninfo", "listen_addresses")


def prove(home: Home, sort: proving.Sort = "latest", at: datetime | None = None) -> Proof:
    return proving.prove(Act(home=home), proving.Wanted(resource=DB, sort=sort, at=at))


def pinned(plan: Plan, **changes: object) -> Plan:
    """The plan with another point: as if choosing had been wrong, so that what comes behind it has to notice."""
    point = plan.pinned["point"]
    assert isinstance(point, dict)
    return plan.model_copy(update={"pinned": {**plan.pinned, "point": {**point, **changes}}, "asked_at": plan.asked_at})


def facts(proof: Proof) -> str:
    return "; ".join(each.fact for each in proof.findings)


def planned(home: Home, sort: proving.Sort = "latest", at: datetime | None = None) -> Plan:
    return proving.plan_proof(home, proving.Wanted(resource=DB, sort=sort, at=at))


@contextmanager
def without(home: Home, key: str, instead: bytes | None = None) -> Iterator[None]:
    """The object is gone (or other bytes) in the bucket that proofs read, and back at the end."""
    store = home.backups(DB, "west")
    found = store.get(key)
    assert found is not None, key
    store.delete(key)
    if instead is not None:
        store.put(key, instead, found[1].metadata)
    try:
        yield
    finally:
        store.delete(key)
        store.put(key, found[0], found[1].metadata)


def segment_key(plan: Plan, name: str) -> str:
    point = plan.pinned["point"]
    assert isinstance(point, dict)
    return f"wal/{point['system_id']}/{name[:8]}/{name}.zst"


def segments(plan: Plan) -> list[str]:
    point = plan.pinned["point"]
    assert isinstance(point, dict)
    return [str(each) for each in point["segments"]]  # type: ignore[union-attr]


def test_1_a_target_before_every_backups_end_has_no_point(troubled: Lab):
    _, home = troubled
    first = looking.backups(home.backups(DB, "west"))[0]
    runs = runs_of(home, "prove")
    for at in (first.begun_at - timedelta(seconds=30), first.begun_at, first.ended_at):
        with pytest.raises(NoPoint, match="no point for") as refusal:
            prove(home, "time", at)
        assert (refusal.value.exit_code, "'dr points'" in refusal.value.hint) == (2, True)
    assert (runs_of(home, "prove"), left(home)) == (runs, [])


def test_1_a_target_before_the_backups_end_that_was_chosen_all_the_same_is_a_finding(troubled: Lab):
    _, home = troubled
    first = looking.backups(home.backups(DB, "west"))[0]
    target = Target(kind="time", at=first.begun_at - timedelta(seconds=30))
    proof = proving.act_on(Act(home=home), pinned(planned(home), target=target.model_dump(mode="json")))
    assert proof.verdict.value == "missed", proof
    assert left(home) == []


def test_2_a_moment_without_a_zone_is_refused_and_a_target_carries_its_offset(
    troubled: Lab, capsys: pytest.CaptureFixture[str]
):
    assert main.run(["prove", DB, "--as-of", "2026-11-24T03:00:00", "--home", str(troubled[1].folder)]) == 2
    assert "zone" in capsys.readouterr().err
    tokyo = datetime.fromisoformat("2026-11-24T12:00:00+09:00")
    told = scratch_conf.target_settings(Target(kind="time", at=tokyo))
    assert told["recovery_target_time"] == "2026-11-24 03:00:00.000000+00"


def test_3_a_target_behind_the_last_wal_has_no_point_and_one_chosen_all_the_same_is_named(troubled: Lab):
    _, home = troubled
    with pytest.raises(NoPoint, match="the archive's last commit is"):
        prove(home, "time", home.now())
    plan = planned(home)
    far = Target(kind="lsn", lsn=(1 << 40))
    proof = proving.act_on(Act(home=home), pinned(plan, target=far.model_dump(mode="json")))
    assert proof.verdict.value == "missed"
    assert "recovery ended before" in facts(proof)
    assert left(home) == []


def test_4_a_gap_is_no_point_and_a_damaged_or_vanished_segment_is_named(troubled: Lab):
    world, home = troubled
    before = len(segments(planned(home)))
    time.sleep(2.5)  # a moment is trusted only as far from a backup as clocks may disagree
    for payload in ("before the gap", "in it", "behind it"):
        write(world, payload, count=3)
    until(lambda: len(segments(planned(home))) > before + 2)
    plan = planned(home)
    name = segments(plan)[-2]
    key = segment_key(plan, name)
    with without(home, key):
        gap = prove(home)
        assert gap.verdict.value != "met" or gap.target != plan.pinned["point"]["target"]  # type: ignore[index,call-overload]
        with pytest.raises(NoPoint, match=name) as caught:
            planned(home)
        told = re.search(r"the last commit before the gap is of (\S+), so", caught.value.hint)
        assert told is not None, caught.value.hint
        before_it = datetime.fromisoformat(told[1]) - timedelta(milliseconds=1)
        assert prove(home, "time", before_it).verdict.value == "met"
        mended = proving.act_on(Act(home=home), plan)
        assert mended.verdict.value == "missed"
        assert name in facts(mended)
    body = home.backups(DB, "west").get(key)
    assert body is not None
    raw = bytearray(zstandard.ZstdDecompressor().decompress(body[0], max_output_size=1 << 30))
    raw[100_000:100_008] = b"standfst"
    for damaged in (zstandard.ZstdCompressor().compress(bytes(raw)), body[0][: len(body[0]) // 2]):
        with without(home, key, instead=damaged):
            proof = proving.act_on(Act(home=home), planned(home))
            assert proof.verdict.value == "missed"
            assert name in facts(proof)
    assert left(home) == []


def test_5_a_clone_that_archived_into_the_archive_is_not_followed(troubled: Lab):
    """A promoted clone's history and segments, put there by some other way than the agent, which refuses them."""
    _, home = troubled
    store = home.backups(DB, "west")
    plan = planned(home)
    last = segments(plan)[-1]
    system_id = plan.pinned["point"]["system_id"]  # type: ignore[index,call-overload]
    body = store.get(segment_key(plan, last))
    assert body is not None
    clone = "00000002" + last[8:]
    where = f"wal/{system_id}/00000002"
    history = zstandard.ZstdCompressor().compress(b"1\t0/3000060\tno recovery target specified\n")
    keys = [f"{where}/{name}.zst" for name in ("00000002.history", clone, f"{clone}.partial")]
    for key, content in zip(keys, (history, body[0], body[0]), strict=True):
        store.put(key, content, body[1].metadata if "history" not in key else None)
    try:
        for sort in ("latest", "mark"):
            made = planned(home, sort)  # type: ignore[arg-type]
            assert made.pinned["point"]["timeline"] == 1  # type: ignore[index,call-overload]
            assert all(name.startswith("00000001") for name in segments(made))
            assert prove(home, sort).verdict.value == "met"  # type: ignore[arg-type]
    finally:
        for key in keys:
            store.delete(key)


def test_8_a_backup_does_not_wait_for_an_archive_that_fails(troubled: Lab):
    world, home = troubled
    breaking.begin(world, faults.parse("agent:east", "kill"))
    try:
        with psycopg.connect(world.dsn("east"), autocommit=True) as connection:
            connection.execute("select pg_switch_wal()")
        took: list[float] = []
        thread = threading.Thread(target=lambda: took.append(back_up(home).seconds), daemon=True)
        thread.start()
        thread.join(60)
        assert took, "the backup waits for an archive that fails"
    finally:
        breaking.end(world)
    until(lambda: planned(home))
    assert prove(home).verdict.value == "met"


def test_9_a_folder_without_its_label_or_signal_is_never_started(troubled: Lab, monkeypatch):
    _, home = troubled
    really = scratch.start
    for name in ("backup_label", "recovery.signal"):

        def start(found: Scratch, name: str = name) -> bool:
            (found.data / name).unlink()
            return really(found)

        monkeypatch.setattr(scratch, "start", start)
        proof = prove(home)
        assert proof.verdict.value == "missed", (name, proof)
        assert f"has no {name}" in facts(proof)
    assert left(home) == []


def test_10_nothing_of_the_sources_settings_travels_and_there_is_one_target(troubled: Lab, monkeypatch):
    world, home = troubled
    dsn = world.dsn("east")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("alter system set recovery_target_name = 'left over'")
        connection.execute("alter system set work_mem = '7MB'")
    try:
        back_up(home)
        until(lambda: len(planned(home, "latest").steps))
        seen: list[str] = []
        really = scratch.await_target

        def look(found: Scratch, **more: object) -> scratch.Reached:
            reached = really(found, **more)  # type: ignore[arg-type]
            with psycopg.connect(found.dsn()) as copy:
                for name in (
                    "recovery_target_name",
                    "work_mem",
                    "archive_mode",
                    "primary_conninfo",
                    "listen_addresses",
                ):
                    row = copy.execute("select current_setting(%s)", (name,)).fetchone()
                    seen.append(str(row and row[0]))
            return reached

        monkeypatch.setattr(scratch, "await_target", look)
        assert prove(home).verdict.value == "met"
        assert seen == ["", "4MB", "off", "", ""]
    finally:
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("alter system reset recovery_target_name")
            connection.execute("alter system reset work_mem")


def test_12_commits_behind_a_clock_that_was_set_back_are_a_finding(troubled: Lab, monkeypatch):
    """The lab cannot set a clock back, so the WAL is told to have been written under one that was."""
    _, home = troubled
    at = home.now()
    write(troubled[0], "one more")
    until(lambda: planned(home, "time", at))
    really = commits.commits

    def told(**more: object) -> Iterator[Commit]:
        *_, last = found = list(really(**more))  # type: ignore[arg-type]
        yield from found
        yield Commit(xid=last.xid + 1, lsn=last.lsn + 8, at=at - timedelta(minutes=1))

    monkeypatch.setattr(commits, "commits", told)
    proof = prove(home, "time", at)
    assert proof.verdict.value == "missed"
    assert "the source's clock was set back" in facts(proof)


def test_13_a_copy_stands_paused_at_its_target_and_that_is_what_is_checked(troubled: Lab):
    _, home = troubled
    proof = prove(home)
    names = {each.name: each for each in proof.checks}
    assert proof.verdict.value == "met"
    reached = [each for name, each in names.items() if name in {"target", "reached", "place"}]
    assert reached, sorted(names)
    assert all(each.outcome.value == "passed" for each in reached)
