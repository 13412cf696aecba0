"""Which cluster and which timeline is meant, whoever of the servers answers."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import pytest
import zstandard

from recovery.choose import End
from recovery.errors import Failed
from recovery.point import SEGMENT_BYTES, Backup
from recovery.value import canonical
from recovery.wal import Archive, Stretch
from tasks.dir_store import DirStore
from tasks.postgres import looking
from tasks.postgres.looking import Asked, Points, look
from tasks.postgres.place import Place

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
SILENT = Asked(site="west", place=None, why="it is gone")


def standing(timeline: int) -> Asked:
    place = Place(
        system_id="7", in_recovery=False, lsn=1, timeline=timeline, committed_at=None, server_version=180006,
        segment_bytes=SEGMENT_BYTES,
    )  # fmt: skip
    return Asked(site="east", place=place)


def keep(store: DirStore, timeline: int) -> None:
    made = Backup(
        id=f"20261124T12000{timeline}Z-full", resource="db", system_id="7", timeline=timeline, kind="full",
        begin_lsn=timeline * SEGMENT_BYTES, end_lsn=timeline * SEGMENT_BYTES + 9, begun_at=NOW, ended_at=NOW,
        server_version=180006, size_bytes=1, stored_bytes=1,
    )  # fmt: skip
    store.put(f"base/7/{made.id}/backup.json", canonical(made))


def timeline(store: DirStore, *servers: Asked) -> int:
    return look(store, bin_dir=Path("/b"), servers=servers, need_end=False).timeline


@pytest.fixture
def store(tmp_path: Path) -> DirStore:
    made = DirStore(tmp_path)
    keep(made, 1)
    return made


def test_an_old_primary_that_came_back_does_not_hide_the_newer_timeline_s_backups(store: DirStore) -> None:
    keep(store, 2)
    assert timeline(store, standing(1), SILENT) == 2


def test_a_promoted_server_leads_its_backups(store: DirStore) -> None:
    assert timeline(store, standing(2), SILENT) == 2


def test_with_no_server_a_mark_of_the_newer_timeline_tells_of_it(store: DirStore) -> None:
    assert timeline(store, SILENT) == 1
    store.put(f"mark/7/00000002/{5 * SEGMENT_BYTES:016X}.json", b"{}")
    assert timeline(store, SILENT) == 2
    assert timeline(store, standing(1)) == 1


def test_wal_before_a_hole_that_does_not_read_keeps_nobody_from_the_points(
    store: DirStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With --as-of a moment well before the hole nothing depends on it."""
    end = End(lsn=9 * SEGMENT_BYTES, record_lsn=9 * SEGMENT_BYTES - 8)

    def read(*_: object, until_lsn: int | None = None, **__: object) -> End:
        if until_lsn is None:
            return end
        asked.append(until_lsn)
        raise Failed("it is damaged", hint="see it")

    asked: list[int] = []
    monkeypatch.setattr(looking, "end_of", read)
    backups = looking.backups(store)
    first = backups[0].begin_lsn // SEGMENT_BYTES
    stretches = (Stretch(timeline=1, first=first, last=first + 2), Stretch(timeline=1, first=first + 4, last=first + 5))
    holed = Archive(system_id=backups[0].system_id, stretches=stretches)
    assert looking.ends_of(store, holed, backups, 1, bin_dir=Path("/b"), keys=None) == (end, None)
    assert asked == [(first + 3) * SEGMENT_BYTES]


def test_a_history_alone_never_does_for_a_clone_may_have_written_it(store: DirStore) -> None:
    store.put("wal/7/00000003/00000003.history.zst", b"not ours")
    assert timeline(store, SILENT) == 1


def history(store: DirStore, number: int, text: str) -> None:
    raw = text.encode()
    metadata = {"sha256": hashlib.sha256(raw).hexdigest(), "size": str(len(raw))}
    store.put(f"wal/7/{number:08X}/{number:08X}.history.zst", zstandard.compress(raw), metadata)


def test_a_newer_timeline_of_which_only_the_archive_tells_is_a_doubt_until_somebody_vouches(store: DirStore) -> None:
    history(store, 2, "1\t0/1000020\tno reason\n")

    def found(*servers: Asked, **more: object) -> Points:
        return look(store, bin_dir=Path("/b"), servers=servers, need_end=False, **more)  # type: ignore[arg-type]

    alone = found(SILENT)
    assert alone.timeline == 1
    assert "timeline 2, which left timeline 1 at 0/1000020 and has no segment" in alone.doubt
    assert (found(standing(1)).doubt, found(SILENT, timeline=1).doubt) == ("", "")
    assert (found(SILENT, timeline=2).timeline, found(SILENT, timeline=2).doubt) == (2, "")
    by_ledger = found(SILENT, vouched=lambda: (2,))
    assert (by_ledger.timeline, by_ledger.doubt) == (2, "")
