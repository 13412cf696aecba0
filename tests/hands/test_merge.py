"""A full's file with an incremental's blocks put in: for every form of both it is what plain code makes of them."""

from __future__ import annotations

import random
import struct
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from awscrt.checksums import crc32c
from hypothesis import given
from hypothesis import strategies as st

from recovery.errors import Failed
from tasks.postgres.merge import BLOCK_BYTES, MAGIC, Merge


def overlay(blocks: list[int], cut_blocks: int, *, magic: int = MAGIC) -> bytes:
    """An INCREMENTAL file as Postgres writes it; each block's bytes tell its number and that it is new."""
    head = struct.pack(f"<III{len(blocks)}I", magic, len(blocks), cut_blocks, *blocks)
    head += bytes(-len(head) % BLOCK_BYTES if blocks else 0)
    return head + b"".join(bytes([200 - block]) * BLOCK_BYTES for block in blocks)


def plain(full: bytes, blocks: list[int], cut_blocks: int) -> bytes:
    """The same by the rule's words: cut to the length since, lengthened with zeros, each changed block replaced."""
    size = max(cut_blocks, max(blocks, default=-1) + 1) * BLOCK_BYTES
    whole = full[: len(full) - len(full) % BLOCK_BYTES][: cut_blocks * BLOCK_BYTES]
    made = bytearray(whole.ljust(size, b"\0"))
    for block in blocks:
        made[block * BLOCK_BYTES : (block + 1) * BLOCK_BYTES] = bytes([200 - block]) * BLOCK_BYTES
    return bytes(made)


def merge(full: bytes, content: bytes) -> Merge:
    view = memoryview(content)
    return Merge(
        "INCREMENTAL.1",
        full_bytes=len(full),
        overlay_bytes=len(content),
        read=lambda at, size: view[at : at + size],
    )


@given(
    full_blocks=st.integers(0, 12),
    torn=st.integers(0, 1) | st.integers(1, BLOCK_BYTES - 1),
    blocks=st.lists(st.integers(0, 20), unique=True, max_size=12),
    cut_blocks=st.integers(0, 20),
    cuts=st.lists(st.integers(1, 12 * BLOCK_BYTES - 1), max_size=6),
    order=st.randoms(use_true_random=False),
)
def test_in_stretches_of_any_order_it_is_what_plain_code_makes(
    full_blocks: int, torn: int, blocks: list[int], cut_blocks: int, cuts: list[int], order: random.Random
) -> None:
    full = bytes(each % 100 for each in range(full_blocks)) * BLOCK_BYTES + b"\x01" * torn
    made = merge(full, overlay(blocks, cut_blocks))
    wanted = plain(full, blocks, cut_blocks)
    assert made.size_bytes == len(wanted)
    if not made.changed:
        assert wanted == full
        return
    with TemporaryDirectory() as folder:
        path = Path(folder) / "1"
        ends = sorted({0, made.kept_bytes, *(cut for cut in cuts if cut < made.kept_bytes)})
        stretches = list(pairwise(ends))
        order.shuffle(stretches)
        with path.open("w+b") as file:
            for begin, end in stretches:
                part = bytearray(full[begin:end])
                made.put_in(memoryview(part), begin)
                file.seek(begin)
                file.write(part)
        assert made.finish(path) == crc32c(wanted)
        assert path.read_bytes() == wanted


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        (b"", "too short"),
        (overlay([1, 2], 3)[:11], "too short"),
        (overlay([1, 2], 3, magic=7), "not of an incremental file's form"),
        (overlay([1, 2], 3)[:-1], "not of an incremental file's form"),
        (overlay([1, 2], 3) + b"\0", "not of an incremental file's form"),
        (overlay([2, 2], 3), "names a block twice"),
    ],
)
def test_what_is_no_incremental_file_is_refused_before_anything_is_written(content: bytes, fact: str) -> None:
    with pytest.raises(Failed, match=fact):
        merge(bytes(3 * BLOCK_BYTES), content)


def test_a_stretch_that_never_came_is_a_failure_and_no_checksum(tmp_path: Path) -> None:
    full = bytes(4 * BLOCK_BYTES)
    made = merge(full, overlay([1], 4))
    made.put_in(memoryview(bytearray(full[BLOCK_BYTES:])), BLOCK_BYTES)
    path = tmp_path / "1"
    path.write_bytes(full)
    with pytest.raises(Failed, match="hole at byte 0"):
        made.finish(path)
