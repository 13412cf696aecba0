"""Checks of copies restored by real Postgres: clean ones have no finding; each wrong thing is named."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from restored_scene import Scene, files, one, run, scene, started

from recovery.catalog import Assertion
from recovery.check import Check, Outcome, Verdict, findings_of, verdict
from tasks.postgres.checks import table
from tasks.postgres.checks.commits import boundary
from tasks.postgres.checks.context import Boundary, CheckContext, Level, Target


@pytest.fixture(scope="module")
def source() -> Iterator[Scene]:
    folder = Path(tempfile.mkdtemp(prefix="sf-"))
    with scene(folder) as ready:
        yield ready
    shutil.rmtree(folder)


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="sf-"))
    yield path
    shutil.rmtree(path)


def test_a_copy_at_the_mark_passes_every_check(source: Scene, folder: Path) -> None:
    context = files(source, folder, Target(kind="lsn", lsn=source.mark.lsn))
    checks = list(table.before_start(context))
    with started(context):
        checks += table.running(context)
    assert findings_of(checks) == ()
    assert verdict(checks) is Verdict.MET
    by_name = {check.name: check for check in checks}
    assert by_name["content"].outcome is Outcome.PASSED
    assert by_name["boundary"].outcome is Outcome.NOT_CONFIGURED


def test_a_copy_of_a_moment_passes_and_says_that_its_content_is_unproven(source: Scene, folder: Path) -> None:
    context = files(source, folder, Target(kind="time", at=source.moment))
    checks = list(table.before_start(context))
    with started(context):
        checks += table.running(context)
    assert findings_of(checks) == ()
    assert verdict(checks) is Verdict.MET


@pytest.fixture(scope="module")
def paused(source: Scene) -> Iterator[CheckContext]:
    """A copy paused at the mark, for checks that must say no when they are told of another place."""
    path = Path(tempfile.mkdtemp(prefix="sf-"))
    with started(files(source, path, Target(kind="lsn", lsn=source.mark.lsn))) as context:
        yield context
    shutil.rmtree(path)


def said(context: CheckContext, name: str) -> Check:
    return next(check for check in table.running(context, only=name) if check.name == name)


def test_another_place_than_the_target_is_a_failure(paused: CheckContext, source: Scene) -> None:
    lsn = source.mark.lsn
    moment = source.moment
    wrong = {
        "instead of": replace(paused, target=Target(kind="lsn", lsn=lsn - 64)),
        "does not say": replace(paused, target=Target(kind="lsn", lsn=lsn + 4096)),
        "before the end of the stored WAL": replace(paused, target=Target(kind="latest", lsn=lsn + 4096)),
        "does not say that recovery stopped": replace(paused, target=Target(kind="time", at=moment)),
        "on timeline 1 instead of 2": replace(paused, timeline=2),
        "before the end of backup": replace(paused, target=Target(kind="lsn", lsn=source.backup.end_lsn - 1)),
        "is of system": replace(paused, backup=source.backup.model_copy(update={"system_id": "7"})),
        "still in recovery": replace(paused, promoted=True),
    }
    for words, context in wrong.items():
        check = said(context, "target")
        assert check.outcome is Outcome.FAILED, words
        assert any(words in finding.fact for finding in check.findings), (words, check)
    assert said(replace(paused, target=Target(kind="latest")), "target").outcome is Outcome.UNPROVEN


def test_a_commit_on_the_wrong_side_of_the_moment_is_named(paused: CheckContext, source: Scene) -> None:
    """The copy stands at the mark, behind the moment: the first commit after it is there, and must not be."""
    around = boundary(
        wal_dir=source.archive,
        bin_dir=source.bin_dir,
        timeline=1,
        begin_lsn=source.backup.begin_lsn,
        at=source.moment,
    )
    assert around.last_before is not None
    assert around.first_after is not None
    late = replace(paused, target=Target(kind="time", at=source.moment), boundary=around)
    assert f"transaction {around.first_after.xid}" in said(late, "boundary").fact
    lost = replace(around.first_after, lsn=source.end, xid=around.first_after.xid + 500)
    early = replace(late, boundary=Boundary(last_before=lost, first_after=None))
    assert "was not replayed" in said(early, "boundary").fact
    assert said(replace(late, boundary=None), "boundary").outcome is Outcome.UNPROVEN


def test_content_away_from_the_mark_is_unproven_and_does_not_decide(paused: CheckContext, source: Scene) -> None:
    elsewhere = replace(paused, mark=source.mark.model_copy(update={"lsn": source.mark.lsn - 8}))
    check = said(elsewhere, "content")
    assert (check.outcome, check.applies) == (Outcome.UNPROVEN, False)
    none = said(replace(paused, mark=None), "content")
    assert (none.outcome, none.applies) == (Outcome.UNPROVEN, False)


def test_a_copy_with_the_network_is_not_proven_isolated(paused: CheckContext) -> None:
    assert said(replace(paused, network_isolated=False), "isolation").outcome is Outcome.UNPROVEN


def test_a_server_that_cannot_be_asked_leaves_every_check_unproven(paused: CheckContext) -> None:
    gone = replace(paused, dsn="host=/nonexistent user=postgres")
    outcomes = {check.name: check.outcome for check in table.running(gone)}
    passed = [name for name, outcome in outcomes.items() if outcome in (Outcome.PASSED, Outcome.FAILED)]
    assert passed == []


def test_assertions_of_the_user(paused: CheckContext) -> None:
    asked = (
        Assertion(name="right", sql="select count(*) from garden.bed", expect="70"),
        Assertion(name="wrong", sql="select count(*) from garden.bed", expect="71"),
        Assertion(name="writes", sql="delete from garden.bed", expect="1"),
        Assertion(name="empty", sql="select 1 where false", expect="1"),
    )
    context = replace(paused, assertions=asked)
    outcomes = {name: said(context, f"assertion {name}").outcome for name in ("right", "wrong", "writes", "empty")}
    assert outcomes == {
        "right": Outcome.PASSED,
        "wrong": Outcome.FAILED,
        "writes": Outcome.UNPROVEN,
        "empty": Outcome.UNPROVEN,
    }


BREAKS = {
    "foreign keys": (
        "delete from garden.bed where id = 3",
        "orphans: rows of table garden.plant without their row in garden.bed",
    ),
    "constraints": (
        (
            "update pg_attribute set attnotnull = false where attrelid = 'garden.bed'::regclass and attname = 'name';"
            "update garden.bed set name = null where id = 4;"
            "update pg_attribute set attnotnull = true where attrelid = 'garden.bed'::regclass and attname = 'name'"
        ),
        "1 rows of table garden.bed in database postgres break not null on column name",
    ),
    "unique": (
        (
            "update pg_index set indisready = false where indexrelid = 'garden.bed_pkey'::regclass;"
            "insert into garden.bed (id, name) overriding system value values (5, 'twice');"
            "update pg_index set indisready = true where indexrelid = 'garden.bed_pkey'::regclass"
        ),
        "1 values more than once in table garden.bed, against unique index garden.bed_pkey",
    ),
    "sequences": (
        "alter sequence garden.plant_id_seq restart with 5",
        "sequence garden.plant_id_seq in database postgres stands at 5",
    ),
    "invalid indexes": (
        "update pg_index set indisvalid = false where indexrelid = 'garden.plant_by_day'::regclass",
        "index garden.plant_by_day in database postgres is not valid",
    ),
    "heartbeat": (
        "insert into standfast.beat (at, lsn) values (now(), '7/0')",
        "beyond the copy's",
    ),
    "collations": (
        "update pg_collation set collversion = '1.2' where oid = 'garden.plain'::regcollation",
        "collation garden.plain in database postgres is version",
    ),
    "extensions": (
        "update pg_extension set extversion = '0.1' where extname = 'amcheck'",
        "extension amcheck 0.1 of database postgres is not available here",
    ),
}


def test_each_check_of_data_names_what_is_wrong(source: Scene, folder: Path) -> None:
    context = files(source, folder, Target(kind="lsn", lsn=source.mark.lsn))
    with started(context):
        assert one(context.dsn, "select pg_promote()")
        context = replace(context, promoted=True)
        for name, (statement, words) in BREAKS.items():
            assert said(context, name).outcome is Outcome.PASSED, name
            run(context.dsn, f"set session_replication_role = replica; {statement}")
            check = said(context, name)
            assert check.outcome is Outcome.FAILED, check
            assert any(words in finding.fact for finding in check.findings), check


def test_a_damaged_page_and_index_are_named_by_amcheck_at_the_deep_level(source: Scene, folder: Path) -> None:
    """A row misses its index behind the server's back: only a deep check sees it; checksums see a flipped page."""
    context = files(source, folder, Target(kind="lsn", lsn=source.mark.lsn))
    with started(context):
        assert one(context.dsn, "select pg_promote()")
        deep = replace(context, promoted=True, level=Level.DEEP)
        assert said(deep, "amcheck").outcome is Outcome.PASSED
        run(
            context.dsn,
            "update pg_index set indisready = false where indexrelid = 'garden.plant_by_day'::regclass;"
            "insert into garden.plant (bed_id) values (1);"
            "update pg_index set indisready = true where indexrelid = 'garden.plant_by_day'::regclass; checkpoint",
        )
        assert "plant_by_day" in said(deep, "amcheck").fact
        path = str(one(context.dsn, "select pg_relation_filepath('garden.log_2025')"))
    assert table.stopped(deep)[0].outcome is Outcome.PASSED
    with (context.data_dir / path).open("r+b") as file:
        file.seek(8000)
        file.write(b"damaged")
    (after,) = table.stopped(deep)
    assert after.outcome is Outcome.FAILED
    assert path in after.findings[0].fact
