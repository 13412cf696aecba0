"""Reading an archive back: whole and verified, or a failure that names the file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from recovery.errors import BadInput, Failed
from recovery.wal import Stretch, name_of
from tasks.postgres import seal, wal
from tests.hands.memory_store import MemoryStore

SIZE = 1 << 20
KEY = seal.Key(bytes(range(32)))


def put(store: MemoryStore, file: str, raw: bytes, key: seal.Key | None = None) -> str:
    where = f"wal/7/{file[:8]}/{file}.zst"
    body = zstandard.compress(raw)
    metadata = {"sha256": hashlib.sha256(raw).hexdigest(), "size": str(len(raw))}
    if key is not None:
        body, metadata = seal.seal(key, body), {**metadata, "enc": key.fingerprint}
    store.put(where, body, metadata)
    return where


def segment(number: int) -> bytes:
    return bytes([number]) * SIZE


def test_an_archive_is_listed_with_its_histories_and_strangers() -> None:
    store = MemoryStore()
    for number in (1, 2, 4):
        put(store, name_of(1, number, SIZE), segment(number))
    put(store, "00000002.history", b"1\t0/300000\tno reason\n")
    put(store, f"{name_of(1, 4, SIZE)}.partial", segment(4))
    put(store, f"{name_of(1, 2, SIZE)}.00000028.backup", b"START")
    store.put("wal/7/00000001/notes.txt", b"")
    store.put(f"wal/7/00000009/{name_of(1, 9, SIZE)}.zst", b"")
    found = wal.list_archive(store, "7", segment_bytes=SIZE)
    assert found.stretches == (Stretch(timeline=1, first=1, last=2), Stretch(timeline=1, first=4, last=4))
    assert found.histories[2][0].lsn == 0x300000
    assert (len(found.partials), len(found.labels), len(found.strange)) == (1, 1, 2)


@pytest.mark.parametrize("key", [None, KEY])
def test_files_come_back_as_they_were(tmp_path: Path, key: seal.Key | None) -> None:
    store = MemoryStore()
    names = [name_of(1, number, SIZE) for number in range(1, 9)]
    for number, name in enumerate(names, start=1):
        put(store, name, segment(number), key)
    assert wal.fetch(store, "7", names, tmp_path, keys={KEY.fingerprint: KEY}, segment_bytes=SIZE) == 8 * SIZE
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == {
        name: segment(number) for number, name in enumerate(names, start=1)
    }


def flipped(body: bytes, metadata: dict[str, str]) -> tuple[bytes, dict[str, str]]:
    return body[:-3] + bytes([body[-3] ^ 1]) + body[-2:], metadata


def cut(body: bytes, metadata: dict[str, str]) -> tuple[bytes, dict[str, str]]:
    return body[:-5], metadata


def exchanged(body: bytes, metadata: dict[str, str]) -> tuple[bytes, dict[str, str]]:
    return zstandard.compress(segment(99)), metadata


def shortened(body: bytes, metadata: dict[str, str]) -> tuple[bytes, dict[str, str]]:
    raw = bytes(SIZE // 2)
    return zstandard.compress(raw), {"sha256": hashlib.sha256(raw).hexdigest(), "size": str(len(raw))}


def unmarked(body: bytes, metadata: dict[str, str]) -> tuple[bytes, dict[str, str]]:
    return body, {}


@pytest.mark.parametrize("harm", [flipped, cut, exchanged, shortened, unmarked])
def test_a_damaged_file_is_named_and_not_left_behind(
    tmp_path: Path, harm: Callable[[bytes, dict[str, str]], tuple[bytes, dict[str, str]]]
) -> None:
    store = MemoryStore()
    name = name_of(1, 1, SIZE)
    where = put(store, name, segment(1))
    store.objects[where] = harm(*store.objects[where])
    with pytest.raises(Failed, match=name):
        wal.fetch(store, "7", [name], tmp_path, segment_bytes=SIZE)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file_is_a_failure_never_the_end_of_wal(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="is not in the archive"):
        wal.fetch(MemoryStore(), "7", [name_of(1, 1, SIZE)], tmp_path, segment_bytes=SIZE)


def test_a_sealed_file_needs_its_key(tmp_path: Path) -> None:
    store = MemoryStore()
    put(store, name_of(1, 1, SIZE), segment(1), KEY)
    with pytest.raises(BadInput, match="encrypted with the key"):
        wal.fetch(store, "7", [name_of(1, 1, SIZE)], tmp_path, segment_bytes=SIZE)


def test_a_damaged_history_is_strange_and_hides_nothing_of_the_other_timelines(tmp_path: Path) -> None:
    store = MemoryStore()
    put(store, name_of(1, 1, SIZE), segment(1))
    put(store, "00000002.history", b"nonsense\n")
    found = wal.list_archive(store, "7", segment_bytes=SIZE)
    assert (found.histories, found.strange) == ({}, ("00000002/00000002.history.zst",))
    assert [each.timeline for each in found.stretches] == [1]
