"""A file of a full backup with an incremental's changed blocks put in while it passes, and its checksum.

Separate because here is the form of an INCREMENTAL file: magic, count of blocks, the length (in blocks) that the
relation was cut to since, the numbers of the changed blocks, padding to a block, the blocks. The rules are those of
src/bin/pg_combinebackup/reconstruct.c for a chain of two. Nothing is written twice, and nothing is read again for its
checksum: each stretch is summed up while it is in the processor's cache, and the sums are put together at the end.
"""

from __future__ import annotations

import os
import struct
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from pathlib import Path

from awscrt.checksums import combine_crc32c, crc32c

from recovery.errors import Failed

MAGIC = 0xD3AE1F0D
BLOCK_BYTES = 8192
DAMAGED = "restore another backup, or this one from the other site's copy"
_RUN_BLOCKS = 256
_ZEROS = memoryview(bytes(_RUN_BLOCKS * BLOCK_BYTES))

Read = Callable[[int, int], memoryview]
"""Gives so many bytes (second) of the INCREMENTAL file from an offset (first)."""


class Merge:
    """What becomes of one file: `kept_bytes` of the full's come through `put_in`, in stretches of any order and from
    any thread; then `finish` writes what lies behind them. One that is not `changed` is the full's and needs neither.
    Raises Failed for an INCREMENTAL file of another form."""

    def __init__(self, name: str, *, full_bytes: int, overlay_bytes: int, read: Read) -> None:
        self._read = read
        if overlay_bytes < 12:
            raise Failed(f"{name} is too short for an incremental file", hint=DAMAGED)
        magic, count, cut_blocks = struct.unpack("<III", read(0, 12))
        head = 12 + 4 * count
        head += -head % BLOCK_BYTES if count else 0
        if magic != MAGIC or overlay_bytes != head + count * BLOCK_BYTES:
            raise Failed(f"{name} is not of an incremental file's form", hint=DAMAGED)
        blocks = struct.unpack(f"<{count}I", read(12, 4 * count))
        if len(set(blocks)) != count:
            raise Failed(f"{name} names a block twice", hint=DAMAGED)
        self._runs = _runs(blocks, head)
        self._begins = [run[0] for run in self._runs]
        self.size_bytes = max(cut_blocks, max(blocks, default=-1) + 1) * BLOCK_BYTES
        self.kept_bytes = min(full_bytes - full_bytes % BLOCK_BYTES, cut_blocks * BLOCK_BYTES)
        self.changed = bool(count) or self.size_bytes != full_bytes
        self._sums: list[tuple[int, int, int]] = []

    def put_in(self, part: memoryview, offset: int) -> None:
        """Put the changed blocks into a stretch of the full's file, and remember its checksum."""
        end = offset + len(part)
        first = max(0, bisect_right(self._begins, offset) - 1)
        for begin, at, length in self._runs[first : bisect_left(self._begins, end)]:
            low, high = max(begin, offset), min(begin + length, end)
            if low < high:
                part[low - offset : high - offset] = self._read(at + low - begin, high - low)
        self._sums.append((offset, len(part), crc32c(part)))

    def finish(self, path: Path) -> int:
        """Write what lies behind the full's part, cut or lengthen the file; gives its CRC32C."""
        handle = os.open(path, os.O_WRONLY | os.O_NOFOLLOW)
        try:
            at = self.kept_bytes
            for begin, source, length in self._runs[bisect_left(self._begins, at - _RUN_BLOCKS * BLOCK_BYTES) :]:
                low, high = max(begin, at), begin + length
                if low < high:
                    self._hole(at, low)
                    data = self._read(source + low - begin, high - low)
                    _write_all(handle, data, low)
                    self._sums.append((low, high - low, crc32c(data)))
                    at = high
            self._hole(at, self.size_bytes)
            os.ftruncate(handle, self.size_bytes)
        finally:
            os.close(handle)
        return self._summed(path)

    def _hole(self, at: int, end: int) -> None:
        """What neither of the two holds reads as zeros."""
        while at < end:
            length = min(len(_ZEROS), end - at)
            self._sums.append((at, length, crc32c(_ZEROS[:length])))
            at += length

    def _summed(self, path: Path) -> int:
        total, held = 0, 0
        for offset, length, part in sorted(self._sums):
            if offset != held:
                raise Failed(f"{path} came in with a hole at byte {held}", hint=DAMAGED)
            total = combine_crc32c(total, part, length) if held else part
            held += length
        if held != self.size_bytes:
            raise Failed(f"{path} holds {held} bytes instead of {self.size_bytes}", hint=DAMAGED)
        return int(total)


def _runs(blocks: tuple[int, ...], head: int) -> list[tuple[int, int, int]]:
    """Adjacent blocks joined: (offset in the file, offset in the INCREMENTAL file, bytes), at most 2 MiB each."""
    runs: list[tuple[int, int, int]] = []
    for block, position in sorted(zip(blocks, range(len(blocks)), strict=True)):
        begin, source = block * BLOCK_BYTES, head + position * BLOCK_BYTES
        if runs:
            first, at, length = runs[-1]
            if (begin, source) == (first + length, at + length) and length < _RUN_BLOCKS * BLOCK_BYTES:
                runs[-1] = (first, at, length + BLOCK_BYTES)
                continue
        runs.append((begin, source, BLOCK_BYTES))
    return runs


def _write_all(handle: int, data: memoryview, at: int) -> None:
    done = 0
    while done < len(data):
        done += os.pwrite(handle, data[done:], at + done)
