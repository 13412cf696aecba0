"""Whatever happens to the stored bytes or to the target is an error with a hint, never a silently wrong directory."""

from __future__ import annotations

import io
import json
import os
import random
import tarfile
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recovery.errors import BadInput, DrError, Failed
from recovery.point import Backup
from tasks.dir_store import DirStore
from tasks.host import LocalHost
from tasks.postgres import base_index, base_source, laying, seal, unpack
from tasks.postgres.pack import FRAME_BYTES, pack, part_bytes
from tasks.postgres.tar_index import tar_index

KEY = seal.Key(b"k" * 32)
FILES = {
    "empty": b"",
    "base/1/small": b"small",
    "base/1/large": random.Random(1).randbytes(FRAME_BYTES + 12345),
    "base/1/zeros": bytes(3 * FRAME_BYTES),
    "backup_manifest": b"{}",
}


def tar(files: dict[str, bytes], folders: tuple[str, ...] = ("base", "base/1")) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.USTAR_FORMAT) as made:
        for name in folders:
            info = tarfile.TarInfo(name)
            info.type, info.mode = tarfile.DIRTYPE, 0o700
            made.addfile(info)
        for name, body in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(body), 0o600
            made.addfile(info, io.BytesIO(body))
    return sink.getvalue()


def packed(store: DirStore, stream: bytes, folder: Path, key: seal.Key | None = None) -> Backup:
    """As `basebackup.take` would, of this stream."""
    source = folder / "stream"
    source.write_bytes(stream)
    name = base_index.SEALED if key else base_index.BASE
    upload = store.upload(f"base/7/one/{name}")
    with source.open("rb") as pipe:
        done = pack(pipe, upload, tar_index("backup_manifest"), key=key)
    upload.complete()
    index = base_index.encoded(done)
    store.put(f"base/7/one/{base_index.INDEX}", index)
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return Backup(
        id="one", resource="r", system_id="7", timeline=1, kind="full", begin_lsn=1, end_lsn=2, begun_at=at,
        ended_at=at, server_version=180000, size_bytes=done.raw_bytes, stored_bytes=done.stored_bytes,
        objects={name: done.sha256, base_index.INDEX: sha256(index).hexdigest()},
        encrypted_with=key.fingerprint if key else None,
    )  # fmt: skip


def rewrite(store: DirStore, name: str, body: bytes) -> None:
    store.delete(f"base/7/one/{name}")
    store.put(f"base/7/one/{name}", body)


@pytest.mark.parametrize("key", [None, KEY])
def test_a_packed_stream_comes_back_whole(tmp_path: Path, key: seal.Key | None) -> None:
    store = DirStore(tmp_path / "store")
    stream = tar(FILES)
    backup = packed(store, stream, tmp_path, key)
    unpack.restore(store, backup, tmp_path / "out", keys={KEY.fingerprint: KEY})
    for name, body in FILES.items():
        assert (tmp_path / "out" / name).read_bytes() == body
    name = base_index.SEALED if key else base_index.BASE
    assert sha256((store.get(f"base/7/one/{name}") or (b"",))[0]).hexdigest() == backup.objects[name]


def test_the_object_is_one_plain_tar_zst(tmp_path: Path) -> None:
    import zstandard

    store = DirStore(tmp_path / "store")
    stream = tar(FILES)
    packed(store, stream, tmp_path)
    body = (store.get("base/7/one/base.tar.zst") or (b"",))[0]
    reader = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(body), read_across_frames=True)
    assert reader.read(len(stream) + 1) == stream


@pytest.mark.parametrize("key", [None, KEY])
def test_every_flipped_bit_of_the_data_is_found(tmp_path: Path, key: seal.Key | None) -> None:
    store = DirStore(tmp_path / "store")
    backup = packed(store, tar(FILES), tmp_path, key)
    name = base_index.SEALED if key else base_index.BASE
    body = (store.get(f"base/7/one/{name}") or (b"",))[0]
    chance = random.Random(7)
    first = seal.HEADER_BYTES if key else 0
    for number in range(25):
        at = chance.randrange(first, len(body))
        hurt = bytearray(body)
        hurt[at] ^= 1 << chance.randrange(8)
        rewrite(store, name, bytes(hurt))
        with pytest.raises(Failed, match="damaged: frame") as caught:
            unpack.restore(store, backup, tmp_path / f"out{number}", keys={KEY.fingerprint: KEY})
        assert "restore another backup" in caught.value.hint


def test_cut_missing_reordered_and_stale_data_is_found(tmp_path: Path) -> None:
    store = DirStore(tmp_path / "store")
    backup = packed(store, tar(FILES), tmp_path)
    body = (store.get("base/7/one/base.tar.zst") or (b"",))[0]
    index = base_index.decoded((store.get("base/7/one/base.idx") or (b"",))[0])
    cut = index.stored_begin[1]
    stale = packed(DirStore(tmp_path / "other"), tar({**FILES, "base/1/small": b"SMALL"}), tmp_path)
    assert stale.objects != backup.objects
    other = (DirStore(tmp_path / "other").get("base/7/one/base.tar.zst") or (b"",))[0]
    for number, hurt in enumerate((body[:-1], body[cut:] + body[:cut], other, b"")):
        rewrite(store, "base.tar.zst", hurt)
        with pytest.raises(Failed, match=r"damaged|shorter"):
            unpack.restore(store, backup, tmp_path / f"out{number}")
    store.delete("base/7/one/base.tar.zst")
    with pytest.raises(Failed, match="absent"):
        unpack.restore(store, backup, tmp_path / "out")


def test_a_flipped_missing_or_stale_index_is_found_before_anything_is_written(tmp_path: Path) -> None:
    store = DirStore(tmp_path / "store")
    backup = packed(store, tar(FILES), tmp_path)
    body = (store.get("base/7/one/base.idx") or (b"",))[0]
    for hurt in (body[:-1], body.replace(b"small", b"SMALL"), b"{}"):
        rewrite(store, "base.idx", hurt)
        with pytest.raises(Failed, match="index of backup one is damaged"):
            unpack.restore(store, backup, tmp_path / "out")
    store.delete("base/7/one/base.idx")
    with pytest.raises(Failed, match="index of backup one is absent"):
        unpack.restore(store, backup, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("change", [{"version": 9}, {"frames": [[1]]}, {"members": 3}, {"salt": "xyz"}])
def test_an_index_of_another_form_is_told(change: dict[str, object], tmp_path: Path) -> None:
    store = DirStore(tmp_path / "store")
    packed(store, tar(FILES), tmp_path)
    told = json.loads((store.get("base/7/one/base.idx") or (b"",))[0])
    with pytest.raises(Failed, match="index"):
        base_index.decoded(json.dumps({**told, **change}).encode())


@pytest.mark.parametrize("name", ["../escaped", "base/../../escaped", "/escaped"])
def test_a_name_that_leaves_the_target_is_refused(name: str, tmp_path: Path) -> None:
    store = DirStore(tmp_path / "store")
    backup = packed(store, tar({name: b"x"}), tmp_path)
    with pytest.raises(Failed, match="leave the target"):
        unpack.restore(store, backup, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "escaped").exists()


def test_a_link_in_the_backup_is_refused(tmp_path: Path) -> None:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.USTAR_FORMAT) as made:
        info = tarfile.TarInfo("base")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc"
        made.addfile(info)
    store = DirStore(tmp_path / "store")
    backup = packed(store, sink.getvalue(), tmp_path)
    with pytest.raises(Failed, match="leave the target"):
        unpack.restore(store, backup, tmp_path / "out")


def test_a_target_that_is_not_empty_is_left_alone(tmp_path: Path) -> None:
    store = DirStore(tmp_path / "store")
    backup = packed(store, tar(FILES), tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").write_text("mine")
    with pytest.raises(BadInput, match="not an empty folder"):
        unpack.restore(store, backup, out)
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for target in (out / "mine", tmp_path / "link"):
        with pytest.raises(BadInput, match="not an empty folder"):
            unpack.restore(store, backup, target)
    assert [one.name for one in out.iterdir()] == ["mine"]


class Full(LocalHost):
    """A machine without room."""

    def free_bytes(self, path: Path) -> int:
        return 1000


def test_too_little_space_is_told_before_anything_is_written(tmp_path: Path) -> None:
    store = DirStore(tmp_path / "store")
    backup = packed(store, tar(FILES), tmp_path)
    with pytest.raises(BadInput, match="GB free") as caught:
        unpack.restore(store, backup, tmp_path / "out", host=Full())
    assert "free space" in caught.value.hint
    assert not (tmp_path / "out").exists()


def test_a_disk_that_fills_up_underway_fails_with_a_hint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = DirStore(tmp_path / "store")
    backup = packed(store, tar(FILES), tmp_path)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(Failed, match="No space left") as caught:
        unpack.restore(store, backup, tmp_path / "out")
    assert "free space" in caught.value.hint


def test_a_stream_that_is_no_tar_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="no tar"):
        packed(DirStore(tmp_path / "store"), b"hello" * 1000, tmp_path)


def test_ten_thousand_parts_hold_hundreds_of_gigabytes_and_each_fits_memory() -> None:
    assert all(5 << 20 <= part_bytes(number) <= 48 << 20 for number in range(1, 10_001))
    assert sum(part_bytes(number) for number in range(1, 10_001)) > 430 << 30


STREAM = tar({"a": b"1" * 700, "backup_manifest": b"m" * 1500, "b": b"", "c": b"2" * 512})


@settings(max_examples=60)
@given(cuts=st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_a_stream_cut_anywhere_is_indexed_the_same(cuts: list[int]) -> None:
    whole, torn = tar_index("backup_manifest"), tar_index("backup_manifest")
    whole.feed(STREAM)
    edges = [0, *sorted(cuts), len(STREAM)]
    for begin, end in pairwise(edges):
        torn.feed(STREAM[begin:end])
    assert torn.members == whole.members
    assert torn.kept == whole.kept == {"backup_manifest": bytearray(b"m" * 1500)}
    for member in whole.members:
        if member.kind == "f" and member.name == "a":
            assert STREAM[member.begin : member.begin + member.size_bytes] == b"1" * 700


def test_a_sealed_object_opens_only_whole_and_by_its_key() -> None:
    sealed = seal.seal(KEY, b"content")
    assert seal.unseal(KEY, sealed) == b"content"
    assert seal.seal(KEY, b"content") != sealed
    for hurt in (
        sealed[:-1],
        sealed[:20],
        bytes((sealed[0] ^ 1,)) + sealed[1:],
        sealed[:10] + bytes((sealed[10] ^ 1,)) + sealed[11:],
        b"",
    ):
        with pytest.raises(Failed):
            seal.unseal(KEY, hurt)
    with pytest.raises(Failed):
        seal.unseal(seal.Key(b"o" * 32), sealed)


def test_frames_of_a_sealed_object_cannot_change_places() -> None:
    by = seal.sealer(KEY)
    one, two = by.seal(0, b"one"), by.seal(1, b"two")
    assert (by.open(0, one), by.open(1, two)) == (b"one", b"two")
    with pytest.raises(Failed, match="moved"):
        by.open(0, two)


def test_keys_are_known_by_fingerprint_and_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import base64

    secret = bytes(range(100, 132))
    forms = {"raw": secret, "hex": secret.hex().encode() + b"\n", "base64": base64.b64encode(secret) + b"\n"}
    for name, body in forms.items():
        (tmp_path / name).write_bytes(body)
        assert seal.load(f"file:{tmp_path / name}") == seal.Key(secret)
    monkeypatch.setenv("OTHER_KEY", "00" * 32)
    ring = seal.keyring([f"file:{tmp_path / 'hex'}", "env:OTHER_KEY"])
    assert next(iter(ring)) == seal.Key(secret).fingerprint
    assert seal.chosen(ring, seal.Key(bytes(32)).fingerprint) == seal.Key(bytes(32))
    assert secret.hex() not in repr(ring)
    (tmp_path / "short").write_text("abc")
    for wrong in (f"file:{tmp_path / 'short'}", f"file:{tmp_path / 'absent'}", "env:NO_SUCH_KEY", "vault:x"):
        with pytest.raises(BadInput) as caught:
            seal.load(wrong)
        assert caught.value.hint


def test_a_restore_that_fails_stops_its_other_lanes(tmp_path: Path) -> None:
    store = DirStore(tmp_path / "store")
    backup = packed(store, tar(FILES), tmp_path)
    source = base_source.open_source(store, backup, None)
    broken = replace(source, key="base/7/one/absent")
    pieces = [laying.Piece(one.begin, one.size_bytes, one.name, one.mode) for one in source.index.members]
    unpack.folders(tmp_path / "out", source.index.members)
    with pytest.raises(DrError):
        laying.lay(broken, tmp_path / "out", [one for one in pieces if one.size], threads=3)
