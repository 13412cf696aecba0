"""From a tar stream to one object of independent zstd frames and its index: parallel, in bounded memory.

The object is a valid `.tar.zst` (unless sealed), so `zstd -dc | tar x` restores it without us; the index lets a restore
fetch, check and decompress any frame on its own. Memory: frames in flight and parts in flight are both counted, at most
about 250 MB whatever the size of the database.
"""

from __future__ import annotations

import hashlib
import os
import select
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import IO, NamedTuple

import zstandard
from awscrt.checksums import crc64nvme

from recovery.errors import Failed
from tasks.postgres.seal import Key, Sealer, sealer
from tasks.postgres.tar_index import Member, TarIndex
from tasks.store import Upload

FRAME_BYTES = 4 * 1024 * 1024
_MIB = 1024 * 1024
_UPLOADS = 2
Progress = Callable[[int, int], None]
"""Told (bytes done, bytes expected in all) now and then, from one thread."""


class Frame(NamedTuple):
    """A frame: its bytes in the object (sealing included), its raw bytes, and the CRC64NVME of the former."""

    stored: int
    raw: int
    crc: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Packed:
    """What became of a stream: the index's content, and the whole object's SHA-256 and size."""

    frames: list[Frame]
    members: list[Member]
    kept: dict[str, bytes]
    raw_bytes: int
    stored_bytes: int
    sha256: str
    salt: bytes | None


def part_bytes(number: int) -> int:
    """The size of part `number`: S3 allows 10 000 parts, so later ones are larger; 470 GB stored in all."""
    return 16 * _MIB if number <= 1000 else 48 * _MIB


@dataclass
class _Sink:
    """Collects stored frames into parts and uploads these from a few threads, in order of their numbers.

    The parts' buffers go round: freed ones would linger in the allocator's arenas, one more set per thread.
    """

    upload: Upload
    pool: ThreadPoolExecutor
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)
    part: bytearray = field(default_factory=lambda: bytearray(part_bytes(1)))
    filled: int = 0
    number: int = 1
    size: int = 0
    flying: deque[tuple[Future[None], bytearray]] = field(default_factory=deque)
    spare: list[bytearray] = field(default_factory=list)

    def write(self, stored: bytes) -> None:
        self.digest.update(stored)
        self.size += len(stored)
        rest = memoryview(stored)
        while rest:
            room = min(len(self.part) - self.filled, len(rest))
            self.part[self.filled : self.filled + room] = rest[:room]
            self.filled += room
            rest = rest[room:]
            if self.filled == len(self.part):
                self._send()

    def close(self) -> None:
        if self.filled or self.number == 1:
            self._send()
        while self.flying:
            self._land()

    def _send(self) -> None:
        if self.number > 10_000:
            raise Failed(
                "the compressed backup needs more than the 10 000 parts that S3 allows",
                hint="raise the compression level, or back this cluster up by snapshots",
            )
        while len(self.flying) >= _UPLOADS:
            self._land()
        body = memoryview(self.part)[: self.filled]
        self.flying.append((self.pool.submit(self.upload.part, self.number, body), self.part))
        self.number += 1
        self.filled = 0
        fitting = [one for one in self.spare if len(one) == part_bytes(self.number)]
        self.spare.clear()
        self.part = fitting[0] if fitting else bytearray(part_bytes(self.number))

    def _land(self) -> None:
        future, body = self.flying.popleft()
        future.result()
        self.spare.append(body)


def pack(
    source: IO[bytes],
    upload: Upload,
    index: TarIndex,
    *,
    key: Key | None = None,
    level: int = 1,
    threads: int | None = None,
    stall_seconds: float = 300.0,
    expected_bytes: int = 0,
    progress: Progress | None = None,
) -> Packed:
    """Read `source` to its end into `upload` (neither completed nor aborted here).

    Raises Failed when the source says nothing for `stall_seconds`, is no tar, or the store gives up.
    """
    threads = threads or max(2, min(4, os.cpu_count() or 2))
    sealed_by = sealer(key) if key else None
    work = _Work(level=level, sealer=sealed_by)
    frames: list[Frame] = []
    waiting: deque[tuple[Future[tuple[Frame, bytes]], bytearray]] = deque()
    reader = _Frames(source.fileno(), stall_seconds)

    def take() -> None:
        future, buffer = waiting.popleft()
        frame, stored = future.result()
        reader.spare.append(buffer)
        frames.append(frame)
        sink.write(stored)

    with ThreadPoolExecutor(threads, "pack") as packers, ThreadPoolExecutor(_UPLOADS, "upload") as senders:
        sink = _Sink(upload, senders)
        try:
            if sealed_by:
                sink.write(sealed_by.header)
            for number, (buffer, size) in enumerate(reader):
                frame = memoryview(buffer)[:size]
                index.feed(frame)
                waiting.append((packers.submit(work, number, frame), buffer))
                while len(waiting) > 2 * threads or (waiting and waiting[0][0].done()):
                    take()
                if progress and number % 8 == 0:
                    progress(index.position, expected_bytes)
            while waiting:
                take()
            sink.close()
        finally:
            for packing, _ in waiting:
                packing.cancel()
            for sending, _ in sink.flying:
                sending.cancel()
    if progress:
        progress(index.position, index.position)
    return Packed(
        frames=frames,
        members=index.members,
        kept={name: bytes(body) for name, body in index.kept.items()},
        raw_bytes=index.position,
        stored_bytes=sink.size,
        sha256=sink.digest.hexdigest(),
        salt=sealed_by.salt if sealed_by else None,
    )


@dataclass
class _Work:
    """Compresses (and seals) one frame; each thread keeps a compressor of its own."""

    level: int
    sealer: Sealer | None
    local: threading.local = field(default_factory=threading.local)

    def __call__(self, number: int, raw: memoryview) -> tuple[Frame, bytes]:
        compressor = getattr(self.local, "compressor", None)
        if compressor is None:
            compressor = zstandard.ZstdCompressor(level=self.level, write_checksum=True, write_content_size=True)
            self.local.compressor = compressor
        stored: bytes = compressor.compress(raw)
        if self.sealer:
            stored = self.sealer.seal(number, stored)
        return Frame(len(stored), len(raw), crc64nvme(stored)), stored


class _Frames:
    """Iterates over the stream in pieces of FRAME_BYTES (buffer, bytes in it); the last one is shorter.

    Buffers that come back into `spare` are filled again.
    """

    def __init__(self, handle: int, stall_seconds: float) -> None:
        self._handle, self._stall_seconds = handle, stall_seconds
        self.spare: list[bytearray] = []
        self._ready = select.poll()
        self._ready.register(handle, select.POLLIN | select.POLLHUP)

    def __iter__(self) -> _Frames:
        return self

    def __next__(self) -> tuple[bytearray, int]:
        frame = self.spare.pop() if self.spare else bytearray(FRAME_BYTES)
        view, filled = memoryview(frame), 0
        while filled < FRAME_BYTES:
            if not self._ready.poll(self._stall_seconds * 1000):
                raise Failed(
                    f"pg_basebackup delivered nothing for {self._stall_seconds:g} s",
                    hint="see whether the server is stopped, waits for a checkpoint, or its disk hangs",
                )
            got = os.readv(self._handle, [view[filled:]])
            if not got:
                break
            filled += got
        if not filled:
            raise StopIteration
        return frame, filled
