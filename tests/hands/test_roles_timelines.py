"""A real promotion, then everything lost before a backup or a mark of the new timeline: the archive brings it back."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from recovery import choose
from recovery.drive import Move
from recovery.point import Backup
from recovery.step import Step
from recovery.value import canonical
from tasks.kind import Scene
from tasks.postgres import control, scratch, scratch_conf, wal
from tasks.postgres.checks import commits, walls
from tasks.postgres.checks.context import CheckContext, Target
from tasks.postgres.ending import Settle
from tasks.postgres.ground import Ground
from tasks.postgres.looking import Asked, look
from tasks.postgres.run_as import give
from tasks.postgres.scratch import Scratch
from tests.hands.restored_scene import backed_up
from tests.hands.role_scene import Pair, caught_up, one, pair, run, wait_for

GONE = (Asked(site="east", place=None, why="lost"), Asked(site="west", place=None, why="lost"))


def backup(two: Pair, folder: Path) -> Backup:
    """A base backup of east, with its marker in the bucket."""
    made = backed_up(two.east, folder)
    span = json.loads((folder / "backup_manifest").read_text())["WAL-Ranges"][0]
    assert span["Timeline"] == 1
    two.archive.put(f"base/{made.system_id}/{made.id}/backup.json", canonical(made))
    return made


def switched(dsn: str, archive: Path) -> Path:
    run(dsn, "select pg_logical_emit_message(true, 'a', 'record')")
    name = str(one(dsn, "select pg_walfile_name(pg_switch_wal())")[0])
    query = "select coalesce(last_archived_wal, '') from pg_stat_archiver"
    wait_for("archiving", lambda: str(one(dsn, query)[0])[:24] >= name)
    return archive / name


def test_a_timeline_without_backup_or_mark_is_found_by_its_archive_and_restored(tmp_path: Path) -> None:
    with pair(tmp_path, standby_archives=True, segment_mb=16) as two:
        made = backup(two, tmp_path / "base")
        assert two.east.archive_dir is not None
        run(two.east.dsn, "insert into rows values (101)")
        switched(two.east.dsn, two.east.archive_dir)
        run(two.east.dsn, "insert into rows values (102)")
        caught_up(two)
        archive = two.west.data_dir.parent / "west-archive"
        archive.mkdir()
        run(
            two.west.dsn,
            f"alter system set archive_command = 'cp %p {archive}/%f.part && mv {archive}/%f.part {archive}/%f'",
        )
        run(two.west.dsn, "select pg_reload_conf()")
        two.east.kill()
        run(two.west.dsn, "select pg_promote()")
        run(two.west.dsn, "insert into rows values (201)")
        last = switched(two.west.dsn, archive)
        run(two.west.dsn, "insert into rows values (202)")
        switched(two.west.dsn, archive)
        at = {seq: committed(two.west.dsn, seq) for seq in (101, 102, 201, 202)}
        for path in (*sorted(two.east.archive_dir.glob("0000000100000000*")), *sorted(archive.iterdir())):
            if len(path.name) == 24 or path.suffix in {".history", ".partial"}:
                two.keep(path)
        two.west.kill()
        assert last.name.startswith("00000002")
        assert list(archive.glob("*.partial")), "the last file of the old timeline is there under that name only"
        restored(two, tmp_path, made, at)


def chosen(two: Pair, made: Backup) -> choose.Point:
    alone = look(two.archive, bin_dir=two.west.bin_dir, servers=GONE)
    assert alone.timeline == 1
    assert "timeline 2, which left timeline 1" in alone.doubt
    points = look(two.archive, bin_dir=two.west.bin_dir, servers=GONE, timeline=2)
    point = choose.choose(
        choose.latest(points.end), backups=points.backups, archive=points.archive, timeline=points.timeline,
        known=points.known,
    )  # fmt: skip
    assert (point.backups, point.timeline, point.histories) == ((made.id,), 2, (2,))
    return point


def committed(dsn: str, seq: int) -> datetime:
    found = one(dsn, f"select pg_xact_commit_timestamp(xmin) from rows where seq = {seq}")[0]
    assert isinstance(found, datetime)
    return found


def restored(two: Pair, tmp_path: Path, made: Backup, at: dict[int, datetime]) -> None:
    point = chosen(two, made)
    copy = Scratch(folder=tmp_path / "scratch", bin_dir=two.west.bin_dir, user="postgres")
    copy.folder.mkdir()
    (tmp_path / "base").rename(copy.data)
    copy.spool.mkdir()
    wal.fetch(two.archive, point.system_id, [*point.segments, "00000002.history"], copy.spool)
    scratch_conf.configure(copy, point.target, point.timeline, durable=False)
    give(copy.folder)
    judged_across_the_switch(two, copy, point, made, at)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLANTED_SECRET_ACCESS_KEY", "for nobody's eyes")
        patch.setenv("PGOPTIONS", "-c work_mem=1MB")
        scratch.start(copy)
    try:
        scratch.await_target(copy, patience_seconds=30, say=lambda text, share: None)
        given = Path(f"/proc/{copy.pid()}/environ").read_text()
        assert "PATH=" in given
        assert "PLANTED" not in given
        assert "PGOPTIONS" not in given
        assert one(copy.dsn(), "select array_agg(seq order by seq) from rows where seq > 100") == (
            [101, 102, 201, 202],
        )
        settled_whenever_the_engine_dies(copy)
    finally:
        scratch.discard(copy)


def judged_across_the_switch(
    two: Pair, copy: Scratch, point: choose.Point, made: Backup, at: dict[int, datetime]
) -> None:
    """The commits around a moment and every record are read on both timelines, as recovery does."""
    for before, after in ((101, 102), (102, 201), (201, 202)):
        found = commits.boundary(
            wal_dir=copy.spool, bin_dir=copy.bin_dir, timeline=2, begin_lsn=made.begin_lsn, at=at[before]
        )
        assert found.last_before is not None, before
        assert found.first_after is not None, before
        assert found.last_before.at == at[before] < found.first_after.at <= at[after]
    size = 16 << 20
    context = CheckContext(
        dsn="", backup=made, target=Target(kind="latest", lsn=point.target.lsn), timeline=2, data_dir=copy.data,
        bin_dir=copy.bin_dir, log=copy.log, wal_dir=copy.spool, wal_end=(int(point.segments[-1][16:], 16) + 1) * size,
    )  # fmt: skip
    assert walls.troubles(context, "wal") == []
    old = copy.spool / next(name for name in point.segments if name.startswith("00000001"))
    whole, begin = old.read_bytes(), max(made.begin_lsn % size, 40)
    old.write_bytes(whole[: begin + 48] + b"\xff" * 64 + whole[begin + 112 :])
    assert "holds a broken record" in walls.troubles(context, "wal")[0].fact
    old.unlink()
    assert f"{old.name} is missing" in walls.troubles(context, "wal")[0].fact
    old.write_bytes(whole)


def settled_whenever_the_engine_dies(copy: Scratch) -> None:
    """A restore that is kept: killed behind its promotion, or behind its stop, the step goes on to the same end."""
    verb = Settle(ground=cast(Ground, SimpleNamespace(current=lambda scene: copy)))
    move = Move(step=Step(id="settle", verb="settle", resource="rows", patience_seconds=60), attempt=1)
    scratch.promote(copy, patience_seconds=30)
    for _ in range(2):
        assert verb.perform(move, cast(Scene, None)) == {"data_dir": str(copy.data)}
        assert control.read(copy.data).state == "shut down"
    assert not copy.spool.exists()
