"""The archiver on made-up WAL files and a store in memory."""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from recovery.errors import BadInput, Failed, Refused
from recovery.wal import name_of
from tasks.postgres.agent_memory import Alerts, Memory
from tasks.postgres.archiver import Archiver
from tests.hands.memory_store import MemoryStore

SIZE = 1 << 20
SYSTEM = 7_777_777_777_777_777_777


def write_segment(folder: Path, number: int, *, timeline: int = 1, system: int = SYSTEM, ready: bool = True) -> Path:
    path = folder / name_of(timeline, number, SIZE)
    head = struct.pack("=HHIQI4xQII", 0xD118, 2, timeline, number * SIZE, 0, system, SIZE, 8192)
    path.write_bytes(head + os.urandom(4000) + bytes(SIZE - 4000 - len(head)))
    if ready:
        (folder / "archive_status" / f"{path.name}.ready").touch()
    return path


class Place:
    """A data directory of made-up WAL and its archiver."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.wal = self.data / "pg_wal"
        (self.wal / "archive_status").mkdir(parents=True)
        (self.data / "global").mkdir()
        (self.data / "global" / "pg_control").write_bytes(struct.pack("=Q", SYSTEM) + bytes(100))
        write_segment(self.wal, 1, ready=False)
        self.store = MemoryStore()
        self.offered: list[str] = []
        self.state = folder / "state"
        self.start()

    def start(self) -> None:
        self.memory = Memory(self.state)
        self.alerts = Alerts(self.state)
        self.archiver = Archiver(
            store=self.store,
            data_dir=self.data,
            memory=self.memory,
            alerts=self.alerts,
            offer=lambda key, body, metadata: self.offered.append(key),
            patience_seconds=5,
        )

    def key(self, name: str) -> str:
        return f"wal/{SYSTEM}/{name[:8]}/{name}.zst"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.archiver.close()


def test_a_segment_becomes_an_object_that_stock_zstd_reads(place: Place) -> None:
    path = write_segment(place.wal, 2)
    place.archiver.archive(path)
    body, metadata = place.store.objects[place.key(path.name)]
    assert zstandard.ZstdDecompressor().decompress(body) == path.read_bytes()
    assert metadata == {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "size": str(SIZE)}
    assert place.offered == [place.key(path.name)]
    position = place.memory.archived(1)
    assert position is not None
    assert (position.segment, position.lsn) == (path.name, 3 * SIZE)


def test_the_same_again_is_fine_and_other_content_is_refused_loudly(place: Place) -> None:
    path = write_segment(place.wal, 2)
    place.archiver.archive(path)
    place.start()
    place.archiver.archive(path)
    before = dict(place.store.objects)
    write_segment(place.wal, 2)
    with pytest.raises(Refused, match="already, with other content"):
        place.archiver.archive(path)
    assert place.store.objects == before
    assert path.name in str(place.alerts.standing())
    assert b"other content" in (place.state / "alerts.jsonl").read_bytes()


def test_ready_files_are_stored_ahead_in_parallel(place: Place) -> None:
    paths = [write_segment(place.wal, n) for n in range(2, 9)]
    place.store.slow_seconds = 0.05
    place.archiver.archive(paths[0])
    for path in paths[1:]:
        place.archiver.archive(path)
    assert place.archiver.stored_ahead == 6
    assert place.store.most_at_once > 1
    assert {place.key(each.name) for each in paths} == set(place.store.objects)


def test_ahead_ends_at_the_first_segment_that_is_not_ready(place: Place) -> None:
    paths = [write_segment(place.wal, n) for n in range(2, 6)]
    (place.wal / "archive_status" / f"{paths[2].name}.ready").rename(
        place.wal / "archive_status" / f"{paths[2].name}.done"
    )
    place.archiver.archive(paths[0])
    place.archiver.archive(paths[1])
    assert place.archiver.stored_ahead == 1
    assert set(place.store.objects) == {place.key(each.name) for each in paths[:2]}


def test_what_is_no_segment_is_archived_with_nothing_ahead(place: Place) -> None:
    write_segment(place.wal, 2)
    history = place.wal / "00000002.history"
    history.write_text("1\t0/300000\tno recovery target specified\n")
    place.archiver.archive(history)
    assert place.archiver.stored_ahead == 0


def test_the_position_moves_only_at_the_claim(place: Place) -> None:
    paths = [write_segment(place.wal, n) for n in range(2, 6)]
    place.archiver.archive(paths[0])
    position = place.memory.archived(1)
    assert position is not None
    assert position.segment == paths[0].name


def test_history_backup_and_partial_files_are_archived(place: Place) -> None:
    segment = write_segment(place.wal, 2)
    (place.wal / "00000002.history").write_text("1\t0/300000\tno recovery target specified\n")
    (place.wal / f"{segment.name}.00000028.backup").write_text("START WAL LOCATION: 0/200028\n")
    (place.wal / f"{segment.name}.partial").write_bytes(segment.read_bytes())
    for name in ("00000002.history", f"{segment.name}.00000028.backup", f"{segment.name}.partial"):
        place.archiver.archive(place.wal / name)
        assert place.key(name) in place.store.objects


def test_a_store_that_is_down_fails_and_the_next_request_goes_on(place: Place) -> None:
    path = write_segment(place.wal, 2)
    place.store.down = True
    with pytest.raises(Failed, match="can't be reached"):
        place.archiver.archive(path)
    assert place.memory.archived(1) is None
    place.store.down = False
    place.archiver.archive(path)
    assert place.key(path.name) in place.store.objects


def test_a_segment_of_another_system_is_refused(place: Place) -> None:
    path = write_segment(place.wal, 2, system=1)
    with pytest.raises(Refused, match="belongs to system 1"):
        place.archiver.archive(path)
    assert not place.store.objects
    assert place.alerts.standing()


def test_wrong_size_wrong_name_and_garbage_are_refused(place: Place) -> None:
    short = write_segment(place.wal, 2)
    os.truncate(short, SIZE // 2)
    with pytest.raises(Refused, match="bytes, a segment of this system has"):
        place.archiver.archive(short)
    renamed = write_segment(place.wal, 3).rename(place.wal / name_of(1, 9, SIZE))
    with pytest.raises(Refused, match="has the content of"):
        place.archiver.archive(renamed)
    garbage = place.wal / name_of(1, 4, SIZE)
    garbage.write_bytes(bytes(SIZE))
    with pytest.raises(Refused, match="does not begin like"):
        place.archiver.archive(garbage)
    garbage.write_bytes(b"x")
    with pytest.raises(Refused, match="only 1 bytes"):
        place.archiver.archive(garbage)
    other = place.wal / "notes.txt"
    other.write_text("x")
    with pytest.raises(BadInput, match="not the name of a WAL file"):
        place.archiver.archive(other)
    assert not place.store.objects


def test_a_clone_that_asks_with_its_own_path_is_refused(place: Place, tmp_path: Path) -> None:
    clone = tmp_path / "clone" / "pg_wal"
    clone.mkdir(parents=True)
    path = write_segment(clone, 2, ready=False)
    with pytest.raises(Refused, match="is not in"):
        place.archiver.archive(path)
    assert not place.store.objects


def test_a_gap_is_told(place: Place) -> None:
    place.archiver.archive(write_segment(place.wal, 2))
    place.start()
    place.archiver.archive(write_segment(place.wal, 4))
    assert "between 000000010000000000000002 and 000000010000000000000004" in str(place.alerts.standing())


def test_segments_that_a_crash_made_postgres_forget_are_archived_before_the_next(place: Place) -> None:
    """It ended them by a switch, and crashed before it wrote their `.ready` files."""
    place.archiver.archive(write_segment(place.wal, 2))
    forgotten = [write_segment(place.wal, number, ready=False) for number in (3, 4)]
    write_segment(place.wal, 6, ready=False)  # the one that is written now
    place.archiver.archive(write_segment(place.wal, 5))
    assert set(place.store.objects) == {place.key(name_of(1, number, SIZE)) for number in range(2, 6)}
    assert place.alerts.standing() == []
    place.archiver.archive(forgotten[0])  # a later checkpoint finds it, and Postgres asks after all
    assert place.alerts.standing() == []


def test_a_forgotten_segment_that_is_none_keeps_no_newer_one_from_being_safe(place: Place) -> None:
    place.archiver.archive(write_segment(place.wal, 2))
    write_segment(place.wal, 3, ready=False, system=1)
    newer = write_segment(place.wal, 4)
    place.archiver.archive(newer)
    assert place.key(newer.name) in place.store.objects
    assert "was not archived by this agent" in str(place.alerts.standing())


def test_forgotten_segments_are_waited_for_or_postgres_asks_again(place: Place) -> None:
    place.archiver.archive(write_segment(place.wal, 2))
    write_segment(place.wal, 3, ready=False)
    newer = write_segment(place.wal, 4)
    place.store.down = True
    with pytest.raises(Failed):
        place.archiver.archive(newer)
    place.store.down = False
    place.archiver.archive(newer)
    assert place.key(name_of(1, 3, SIZE)) in place.store.objects
    assert place.alerts.standing() == []


def test_a_missing_file_is_a_failure(place: Place) -> None:
    with pytest.raises(Failed, match="can't be read"):
        place.archiver.archive(place.wal / name_of(1, 5, SIZE))
