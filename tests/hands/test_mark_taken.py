"""Marks of a real standby: equal for equal data, different for any difference, and never left paused."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from restored_scene import GARDEN, caught_up, one, run

from deployments.lab.scratch_cluster import Cluster, cluster
from recovery.errors import BadInput, Failed, Unproven
from recovery.mark import Mark, compare
from tasks.dir_store import DirStore
from tasks.postgres import mark as marking
from tasks.postgres.mark import marks, newest_mark, read_mark, store_mark, take
from tasks.postgres.place import timeline_at

NOW = datetime(2026, 11, 24, 3, tzinfo=UTC)


@pytest.fixture(scope="module")
def source() -> Iterator[Cluster]:
    folder = Path(tempfile.mkdtemp(prefix="sf-"))
    with cluster(folder, standby=True) as made:
        run(made.dsn, GARDEN.read_text())
        yield made
    shutil.rmtree(folder, ignore_errors=True)


def marked(source: Cluster) -> Mark:
    assert source.standby is not None
    caught_up(source, source.standby)
    return take(source.standby.dsn, now=NOW, patience_seconds=30)


def test_two_marks_of_the_same_data_are_equal_and_each_change_is_named(source: Cluster) -> None:
    before = marked(source)
    assert compare(before, marked(source)) == ()
    changes = {
        "alter table garden.bed alter column name set default 'x'": "table column garden.bed.name in",
        "comment on table garden.plant is 'y'": "comment on table garden.plant in",
        "alter table garden.plant disable trigger all": 'trigger "RI_ConstraintTrigger',
        "alter role visitor set work_mem = '1MB'": "settings of role visitor",
        "update garden.plant set weight = weight + 1 where id = 5": "table garden.plant in database postgres: content",
        "update garden.plant set photo = photo || 'x' where id = 100": "table garden.plant in database postgres: cont",
        "insert into garden.nothing default values": "table garden.nothing in database postgres: 1 rows extra",
        "delete from only garden.parent where a = 1": "",
        "select lo_put(70001, 4000, 'z')": "large object 70001 in",
        "alter type garden.colour add value 'blue'": "type garden.colour in",
        "revoke execute on function pg_catalog.pg_ls_waldir() from pg_monitor": "function pg_catalog.pg_ls_waldir()",
        "select setval('garden.free', 1000)": "sequence value of garden.free in",
    }
    for statement, named in changes.items():
        run(source.dsn, statement)
        after = marked(source)
        facts = [finding.fact for finding in compare(before, after)]
        assert not named or any(fact.startswith(named) for fact in facts), (statement, facts)
        before = after


def test_a_database_that_takes_no_connections_is_told_of_and_not_passed_over(source: Cluster) -> None:
    run(source.dsn, "create database shut")
    run(source.dsn, "alter database shut allow_connections false")
    found = marked(source)
    run(source.dsn, "drop database shut")
    assert "shut" not in found.databases
    assert found.notes[0] == "database shut: it takes no connections, so nothing in it is compared"


def test_rows_that_only_changed_their_place_are_the_same(source: Cluster) -> None:
    before = marked(source)
    for statement in ("update garden.plant set note = note", "vacuum full garden.plant", "reindex table garden.plant"):
        run(source.dsn, statement)
    assert compare(before, marked(source)) == ()


def test_what_is_read_does_not_depend_on_the_settings_of_the_database(source: Cluster) -> None:
    before = marked(source)
    run(source.dsn, "alter role postgres set timezone = 'Asia/Tokyo'; alter role postgres set bytea_output = 'escape'")
    after = marked(source)
    run(source.dsn, "alter role postgres reset all")
    assert [finding.fact for finding in compare(before, after)] == [
        "settings of role postgres in database (all) was added"
    ]


def test_an_unlogged_table_is_noted_not_read(source: Cluster) -> None:
    mark = marked(source)
    assert mark.databases["postgres"].tables["garden.cache"].rows is None
    assert any("garden.cache" in note and "unlogged" in note for note in mark.notes)


def test_a_primary_is_refused(source: Cluster) -> None:
    with pytest.raises(BadInput, match="standby"):
        take(source.dsn, now=NOW, patience_seconds=5)


def test_a_standby_that_somebody_paused_is_left_alone(source: Cluster) -> None:
    assert source.standby is not None
    run(source.standby.dsn, "select pg_wal_replay_pause()")
    with pytest.raises(Unproven, match="paused already"):
        take(source.standby.dsn, now=NOW, patience_seconds=5)
    marking.resume(source.standby.dsn)
    assert one(source.standby.dsn, "select pg_get_wal_replay_pause_state()") == "not paused"


def test_replay_is_resumed_when_the_reading_fails(source: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    assert source.standby is not None

    def broken(dsn: str, **_: object) -> Mark:
        raise Failed("it broke", hint="none")

    monkeypatch.setattr(marking, "fingerprint", broken)
    told: list[bool] = []
    with pytest.raises(Failed, match="it broke"):
        take(source.standby.dsn, now=NOW, patience_seconds=5, pausing=told.append)
    assert one(source.standby.dsn, "select pg_get_wal_replay_pause_state()") == "not paused"
    assert told == [True, False]


def test_a_mark_waits_for_ddl_that_is_underway(source: Cluster) -> None:
    assert source.standby is not None
    with psycopg.connect(source.dsn) as ddl:
        ddl.execute("lock table garden.bed in access exclusive mode")
        run(source.dsn, "create table standfast_flush (a int); drop table standfast_flush")
        caught_up(source, source.standby)
        assert one(source.standby.dsn, "select count(*) from pg_locks where relation = 'garden.bed'::regclass") == 1
        later = threading.Timer(0.5, ddl.commit)
        later.start()
        mark = take(source.standby.dsn, now=NOW, patience_seconds=30)
        later.join()
    assert mark.databases["postgres"].tables["garden.bed"].rows == 50


def test_marks_are_kept_and_found_by_place(source: Cluster) -> None:
    folder = Path(tempfile.mkdtemp(prefix="sf-"))
    store = DirStore(folder)
    mark = marked(source)
    older = mark.model_copy(update={"lsn": mark.lsn - 100})
    for each in (mark, older, mark):
        store_mark(store, each)
    assert marks(store, system_id=mark.system_id) == ((1, mark.lsn - 100), (1, mark.lsn))
    assert newest_mark(store, system_id=mark.system_id) == mark
    assert newest_mark(store, system_id=mark.system_id, before=mark.lsn - 1) == older
    assert newest_mark(store, system_id=mark.system_id, timeline=2) is None
    with pytest.raises(Failed, match="gone"):
        read_mark(store, system_id=mark.system_id, timeline=1, lsn=5)
    shutil.rmtree(folder)


@pytest.mark.parametrize(("lsn", "timeline"), [(0x1000000, 1), (0x3000000, 1), (0x3000001, 2), (0x9000000, 3)])
def test_the_history_says_on_which_timeline_an_lsn_lies(lsn: int, timeline: int) -> None:
    history = "1\t0/3000000\tno recovery target specified\n\n2\t0/5000000\tbefore 2026\n"
    assert timeline_at(lsn, 3, history) == timeline
