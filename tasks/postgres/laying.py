"""Stretches of a packed backup laid at their places: ranged reads, checks, decompression and writes on several threads.

Separate because restore time is what users buy: a frame goes from the socket to its files' final offsets with one
decompression and no copy of the whole. Every stored byte is checked (CRC64NVME, zstd's own, and the seal if there is
one) before it is written.
"""

from __future__ import annotations

import errno
import os
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import zstandard
from awscrt.checksums import crc64nvme

from recovery.errors import Failed
from tasks.postgres.base_index import BaseIndex
from tasks.postgres.base_source import Source
from tasks.postgres.pack import Progress

_FETCH_BYTES = 8 * 1024 * 1024
_CHUNK_BYTES = 1024 * 1024


class Piece(NamedTuple):
    """A stretch of the raw stream and where it goes: a file of that name and mode, or a buffer in memory.

    `passing` sees each part of it, and its offset in the piece, before that is written, and may change it; it is called
    from several threads, in any order.
    """

    begin: int
    size: int
    name: str
    mode: int
    memory: bytearray | None = None
    passing: Callable[[memoryview, int], None] | None = None


def lay(source: Source, into: Path, pieces: Sequence[Piece], *, threads: int, progress: Progress | None = None) -> int:
    """Write these pieces (in the stream's order) to their places; gives the bytes fetched. Frames that none of them
    touches are not fetched."""
    batches = _batches(source.index, pieces, threads)
    work = _Work(source=source, into=into, pieces=pieces, begins=[piece.begin for piece in pieces])
    with told(into):
        for piece in pieces:
            if piece.size == 0 and piece.memory is None:
                os.close(os.open(into / piece.name, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, piece.mode or 0o600))
    total = sum(piece.size for piece in pieces)
    tally = _Tally(total=total, progress=progress)
    lanes = max(1, min(threads, len(batches)))
    with ThreadPoolExecutor(lanes, "restore") as pool:
        queue = iter(batches)
        running = [pool.submit(work.drain, queue, tally) for _ in range(lanes)]
        try:
            done, _ = wait(running, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
        finally:
            tally.stop.set()
    if progress:
        progress(total, total)
    return tally.fetched


@dataclass
class _Tally:
    """What the lanes share: how much is done, and whether to stop."""

    total: int
    progress: Progress | None
    fetched: int = 0
    written: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    stop: threading.Event = field(default_factory=threading.Event)

    def add(self, fetched: int, written: int) -> None:
        with self.lock:
            self.fetched += fetched
            self.written += written
            if self.progress:
                self.progress(self.written, self.total)


class _Batch(NamedTuple):
    """Adjacent frames first..last-1, fetched in one request."""

    first: int
    last: int


def _batches(index: BaseIndex, pieces: Sequence[Piece], threads: int) -> list[_Batch]:
    wanted = sorted(_touched(index, pieces))
    stored = sum(index.frames[number].stored for number in wanted)
    limit = max(512 * 1024, min(_FETCH_BYTES, stored // (4 * threads) or 1))
    batches: list[_Batch] = []
    size = 0
    for number in wanted:
        frame = index.frames[number].stored
        if batches and batches[-1].last == number and size + frame <= limit:
            batches[-1] = _Batch(batches[-1].first, number + 1)
            size += frame
        else:
            batches.append(_Batch(number, number + 1))
            size = frame
    return batches


def _touched(index: BaseIndex, pieces: Sequence[Piece]) -> set[int]:
    touched: set[int] = set()
    raw_end = index.raw_begin[-1] + index.frames[-1].raw if index.frames else 0
    for piece in pieces:
        if piece.begin + piece.size > raw_end:
            raise Failed(
                f"the index places {piece.name} behind the end of the backup",
                hint="restore another backup, or this one from the other site's copy",
            )
        if piece.size:
            first = bisect_right(index.raw_begin, piece.begin) - 1
            last = bisect_right(index.raw_begin, piece.begin + piece.size - 1) - 1
            touched.update(range(first, last + 1))
    return touched


@dataclass
class _Work:
    """What each lane does with a batch: fetch, check, open, decompress, write."""

    source: Source
    into: Path
    pieces: Sequence[Piece]
    begins: list[int]
    lock: threading.Lock = field(default_factory=threading.Lock)

    def drain(self, queue: Iterable[_Batch], tally: _Tally) -> None:
        """Work off batches until none is left or another lane failed."""
        index = self.source.index
        buffer = bytearray()
        files = _Files(self.into)
        unzip = _Unzip()
        batches = iter(queue)
        try:
            while not tally.stop.is_set():
                with self.lock:
                    batch = next(batches, None)
                if batch is None:
                    return
                begin = index.stored_begin[batch.first]
                size = index.stored_begin[batch.last - 1] + index.frames[batch.last - 1].stored - begin
                if len(buffer) < size:
                    buffer = bytearray(size)
                view = memoryview(buffer)[:size]
                self.source.store.read(self.source.key, begin, size, view)
                with told(self.into):
                    written = sum(
                        self._frame(number, view[index.stored_begin[number] - begin :], unzip, files)
                        for number in range(batch.first, batch.last)
                    )
                view.release()
                tally.add(size, written)
        except BaseException:
            tally.stop.set()
            raise
        finally:
            files.close()

    def _frame(self, number: int, view: memoryview, unzip: _Unzip, files: _Files) -> int:
        frame = self.source.index.frames[number]
        stored = view[: frame.stored]
        if crc64nvme(stored) != frame.crc:
            raise self._damaged(number, "its checksum is wrong")
        packed: bytes | memoryview = self.source.sealer.open(number, stored) if self.source.sealer else stored
        written, begin, held = 0, self.source.index.raw_begin[number], 0
        try:
            for raw in unzip(packed):
                written += self._write(raw, begin + held, files)
                held += len(raw)
        except zstandard.ZstdError as error:
            raise self._damaged(number, str(error)) from None
        if held != frame.raw:
            raise self._damaged(number, f"it holds {held} bytes instead of {frame.raw}")
        return written

    def _write(self, raw: memoryview, raw_begin: int, files: _Files) -> int:
        raw_end, written = raw_begin + len(raw), 0
        at = max(0, bisect_right(self.begins, raw_begin) - 1)
        for piece in self.pieces[at : bisect_right(self.begins, raw_end - 1)]:
            low, high = max(piece.begin, raw_begin), min(piece.begin + piece.size, raw_end)
            if low >= high:
                continue
            part, offset = raw[low - raw_begin : high - raw_begin], low - piece.begin
            if piece.passing is not None:
                piece.passing(part, offset)
            if piece.memory is not None:
                piece.memory[offset : offset + len(part)] = part
            else:
                files.write(piece, part, offset)
            written += len(part)
        return written

    def _damaged(self, number: int, why: str) -> Failed:
        return Failed(
            f"backup {self.source.backup.id} is damaged: frame {number} of {self.source.key}: {why}",
            hint="restore another backup, or this one from the other site's copy, and have this one repaired",
        )


class _Unzip:
    """One lane's decompressor, into one small buffer: fresh memory costs page faults, a large buffer misses caches."""

    def __init__(self) -> None:
        self._zstd = zstandard.ZstdDecompressor()
        self._raw = bytearray(_CHUNK_BYTES)

    def __call__(self, packed: bytes | memoryview) -> Iterator[memoryview]:
        """The frame's content in pieces, each valid until the next."""
        raw = memoryview(self._raw)
        with self._zstd.stream_reader(packed) as reader:
            while got := reader.readinto(raw):
                yield raw[:got]


class _Files:
    """One lane's open file: pieces come in order, so the last one is the likeliest next."""

    def __init__(self, into: Path) -> None:
        self._folder = os.fspath(into)
        self._name, self._handle = "", -1

    def write(self, piece: Piece, part: memoryview, offset: int) -> None:
        """Write all of `part` at `offset` of the piece's file."""
        if piece.name != self._name:
            self.close()
            flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            self._handle = os.open(f"{self._folder}/{piece.name}", flags, piece.mode or 0o600)
            self._name = piece.name
        done = 0
        while done < len(part):
            done += os.pwrite(self._handle, part[done:], offset + done)

    def close(self) -> None:
        """Close what is open."""
        if self._handle >= 0:
            os.close(self._handle)
        self._name, self._handle = "", -1


class told:  # noqa: N801 -- a context manager reads as a word
    """Turns an OSError of writing the target into Failed with a hint."""

    def __init__(self, into: Path) -> None:
        self._into = into

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            hint = "see the disk and the permissions of the target"
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                hint = "free space there, or restore to another disk"
            raise Failed(f"writing into {self._into} failed: {error.strerror}", hint=hint) from None
