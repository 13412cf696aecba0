"""Shipping on between two stores in memory: nothing lost, nothing overwritten, backups with the marker last."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from recovery.point import Backup
from recovery.value import canonical
from recovery.wal import name_of
from tasks.postgres import shipper as module
from tasks.postgres.agent_memory import Alerts, Memory, Position
from tasks.postgres.shipper import Shipper
from tests.hands.memory_store import MemoryStore

SIZE = 1 << 20
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def eventually(holds: Callable[[], object], what: str, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"{what} did not come true"
        time.sleep(0.01)


class Pair:
    """Two stores and the shipper between them."""

    def __init__(self, folder: Path) -> None:
        self.here, self.there = MemoryStore(), MemoryStore()
        self.folder = folder
        self.stop = threading.Event()
        self.threads: list[threading.Thread] = []
        self.make()

    def make(self) -> None:
        self.memory, self.alerts = Memory(self.folder), Alerts(self.folder)
        self.shipper = Shipper(
            site="west",
            here=self.here,
            there=self.there,
            memory=self.memory,
            alerts=self.alerts,
            segment_bytes=lambda: SIZE,
            reconcile_seconds=0.2,
            base_seconds=0.05,
        )

    def begin(self) -> None:
        for body in (self.shipper.run_wal, self.shipper.run_base):
            self.threads.append(threading.Thread(target=body, args=(self.stop,)))
            self.threads[-1].start()

    def end(self) -> None:
        self.stop.set()
        self.shipper.wake()
        for thread in self.threads:
            thread.join(10)
        self.threads.clear()
        self.stop.clear()

    def archive(self, number: int, body: bytes = b"wal", *, offer: bool = True) -> str:
        name = name_of(1, number, SIZE)
        key = f"wal/7/00000001/{name}.zst"
        metadata = {"sha256": hashlib.sha256(body).hexdigest(), "size": "3"}
        self.here.put(key, body, metadata)
        self.memory.set_archived(1, Position(segment=name, lsn=(number + 1) * SIZE, at=NOON))
        if offer:
            self.shipper.offer(key, body, metadata)
        return key

    def shipped(self) -> str | None:
        position = self.memory.shipped("west")
        return position.segment if position else None


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    monkeypatch.setattr(module, "FIRST_PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(module, "LONGEST_PAUSE_SECONDS", 0.1)
    made = Pair(tmp_path)
    yield made
    made.end()


def test_what_is_offered_is_there_at_once_with_its_metadata(pair: Pair) -> None:
    pair.begin()
    keys = [pair.archive(n) for n in range(1, 11)]
    eventually(lambda: pair.shipped() == name_of(1, 10, SIZE), "the position")
    assert {key: pair.there.objects[key] for key in keys} == pair.here.objects
    assert pair.shipper.status()["waiting"] == 0


def test_an_outage_is_told_and_then_everything_follows(pair: Pair) -> None:
    pair.there.down = True
    pair.begin()
    keys = [pair.archive(n) for n in range(1, 8)]
    eventually(pair.alerts.standing, "the alert")
    assert pair.shipped() is None
    assert pair.shipper.status()["waiting"] == 7
    pair.there.down = False
    eventually(lambda: set(keys) <= set(pair.there.objects), "the copies")
    eventually(lambda: not pair.alerts.standing(), "the alert's end")
    eventually(lambda: pair.shipped() == name_of(1, 7, SIZE), "the position")


def test_what_a_restart_forgot_is_found_by_comparing(pair: Pair) -> None:
    keys = [pair.archive(n, offer=False) for n in range(1, 6)]
    pair.here.put("mark/7/00000001/0000000000000001.json", b"{}")
    pair.make()
    pair.begin()
    eventually(lambda: {*keys, "mark/7/00000001/0000000000000001.json"} <= set(pair.there.objects), "the copies")
    eventually(lambda: pair.shipped() == name_of(1, 5, SIZE), "the position")


def test_a_difference_is_told_never_mended_and_holds_up_nothing(pair: Pair) -> None:
    bad = f"wal/7/00000001/{name_of(1, 2, SIZE)}.zst"
    pair.there.put(bad, b"other", {"sha256": "0" * 64, "size": "5"})
    pair.begin()
    keys = [pair.archive(n) for n in range(1, 9)]
    eventually(lambda: set(keys) <= set(pair.there.objects), "the copies")
    eventually(lambda: "differs between" in str(pair.alerts.standing()), "the alert")
    assert pair.there.objects[bad][0] == b"other"
    eventually(lambda: pair.shipper.status()["waiting"] == 0, "an empty queue")
    assert pair.shipped() in (None, name_of(1, 1, SIZE))


def backup(pair: Pair, name: str, *, promised: bytes | None = None) -> str:
    """A backup of one large and one small object, marker included; gives its folder."""
    folder = f"base/7/{name}/"
    large, small = b"base" * (5 * 1024 * 1024), b"index"
    pair.here.put(folder + "base.tar.zst", large, {"kind": "base"})
    pair.here.put(folder + "base.idx", small)
    marker = Backup(
        id=name,
        resource="orders",
        system_id="7",
        timeline=1,
        kind="full",
        begin_lsn=1,
        end_lsn=2,
        begun_at=NOON,
        ended_at=NOON,
        server_version=180006,
        size_bytes=1,
        stored_bytes=1,
        objects={
            "base.tar.zst": hashlib.sha256(large if promised is None else promised).hexdigest(),
            "base.idx": hashlib.sha256(small).hexdigest(),
        },
    )
    pair.here.put(folder + "backup.json", canonical(marker))
    return folder


def test_a_backup_is_copied_whole_and_its_marker_comes_last(pair: Pair) -> None:
    folder = backup(pair, "a")
    pair.begin()
    eventually(lambda: folder + "backup.json" in pair.there.objects, "the marker")
    assert pair.there.objects == pair.here.objects
    assert list(pair.there.objects)[-1] == folder + "backup.json"


def test_an_unfinished_backup_is_not_copied(pair: Pair) -> None:
    pair.here.put("base/7/half/base.tar.zst", b"x")
    folder = backup(pair, "whole")
    pair.begin()
    eventually(lambda: folder + "backup.json" in pair.there.objects, "the marker")
    assert "base/7/half/base.tar.zst" not in pair.there.objects


def test_a_damaged_backup_is_never_marked_complete_and_holds_up_no_other(pair: Pair) -> None:
    bad = backup(pair, "a", promised=b"what it was")
    good = backup(pair, "b")
    pair.begin()
    eventually(lambda: good + "backup.json" in pair.there.objects, "the other's marker")
    eventually(lambda: "marker says" in str(pair.alerts.standing()), "the alert")
    assert bad + "backup.json" not in pair.there.objects
    assert bad + "base.tar.zst" not in pair.there.objects


def test_what_is_archived_while_the_listings_are_compared_is_not_taken_for_shipped(pair: Pair) -> None:
    """The newest position is asked for before the comparison, or it is of a file that neither listing shows."""
    pair.archive(3, offer=False)
    really, late = pair.memory.newest, iter((4,))

    def newest() -> Position | None:
        for number in late:  # the archiver stores one more just now
            pair.archive(number)
        return really()

    pair.memory.newest = newest  # type: ignore[method-assign]
    pair.shipper._ship = lambda key, body: None  # type: ignore[method-assign] -- it never arrives
    pair.there.put(f"wal/7/00000001/{name_of(1, 3, SIZE)}.zst", b"wal", {})
    pair.shipper._reconcile()
    assert pair.shipped() in {None, name_of(1, 3, SIZE)}


def test_a_segment_that_was_stored_ahead_says_nothing_of_the_one_before_it(pair: Pair) -> None:
    """The archiver stores several at once: the fifth may be there, and here, before the fourth is anywhere."""
    pair.archive(3)
    pair.begin()
    eventually(lambda: pair.shipped() == name_of(1, 3, SIZE), "the third's arrival")
    ahead = f"wal/7/00000001/{name_of(1, 5, SIZE)}.zst"
    pair.here.put(ahead, b"wal", {"sha256": "a", "size": "3"})
    pair.shipper.offer(ahead, b"wal", {"sha256": "a", "size": "3"})
    eventually(lambda: pair.there.head(ahead) is not None, "the fifth's arrival")
    time.sleep(0.1)
    assert pair.shipped() == name_of(1, 3, SIZE)
    pair.archive(4)
    eventually(lambda: pair.shipped() == name_of(1, 4, SIZE), "the fourth's arrival")
    pair.memory.set_archived(1, Position(segment=name_of(1, 5, SIZE), lsn=6 * SIZE, at=NOON))
    eventually(lambda: pair.shipped() == name_of(1, 5, SIZE), "the fifth's claim")
