"""From a packed base backup to a data directory: ranged reads, checks, decompression and writes on several threads.

Separate because restore time is what users buy: a frame goes from the socket to its files' final offsets with one
decompression and no copy of the whole. Every stored byte is checked (CRC64NVME, zstd's own, and the seal if there is
one) before it is written.
"""

from __future__ import annotations

import errno
import hashlib
import os
import threading
import time
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import zstandard
from awscrt.checksums import crc64nvme

from recovery.errors import BadInput, Failed
from recovery.point import Backup
from tasks.host import Host, LocalHost
from tasks.postgres import base_index, seal
from tasks.postgres.base_index import BaseIndex
from tasks.postgres.pack import Progress
from tasks.postgres.tar_index import Member
from tasks.store import Store

_FETCH_BYTES = 8 * 1024 * 1024
_SPARE_BYTES = 64 * 1024 * 1024
_CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Restored:
    """What a restore did: wall seconds, bytes written into files, bytes read from the store, number of files."""

    seconds: float
    size_bytes: int
    fetched_bytes: int
    files: int


class Piece(NamedTuple):
    """A stretch of the raw stream and where it goes: a file of that name and mode, or a buffer in memory."""

    begin: int
    size: int
    name: str
    mode: int
    memory: bytearray | None = None


def restore(
    store: Store,
    backup: Backup,
    into: Path,
    *,
    keys: seal.Keys | None = None,
    threads: int = 4,
    host: Host | None = None,
    progress: Progress | None = None,
) -> Restored:
    """Restore a full backup into `into` (made when missing, refused when not empty).

    Raises BadInput before anything is written, Failed for damage, a lost store or a full disk; then `into` is useless.
    """
    if backup.kind != "full":
        raise BadInput(f"{backup.id} is incremental", hint=f"restore it together with its full, {backup.parent}")
    begun = time.monotonic()
    source = open_source(store, backup, keys)
    refuse_unfit(into, source.index.members, host or LocalHost())
    folders(into, source.index.members)
    pieces = [Piece(one.begin, one.size_bytes, one.name, one.mode) for one in source.index.members if one.kind == "f"]
    fetched = lay(source, into, pieces, threads=threads, progress=progress)
    return Restored(
        seconds=time.monotonic() - begun,
        size_bytes=sum(piece.size for piece in pieces),
        fetched_bytes=fetched,
        files=len(pieces),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """An opened backup: its object in its store, its checked index, what opens its frames."""

    store: Store
    key: str
    backup: Backup
    index: BaseIndex
    sealer: seal.Sealer | None


def open_source(store: Store, backup: Backup, keys: seal.Keys | None) -> Source:
    """Fetch and check the index. Raises BadInput for a missing key, Failed for a damaged or impossible index."""
    where = f"base/{backup.system_id}/{backup.id}"
    key = None if backup.encrypted_with is None else seal.chosen(keys or {}, backup.encrypted_with)
    found = store.get(f"{where}/{base_index.INDEX}")
    if found is None or hashlib.sha256(found[0]).hexdigest() != backup.objects.get(base_index.INDEX):
        raise Failed(
            f"the index of backup {backup.id} is {'absent' if found is None else 'damaged'}",
            hint="restore another backup, or this one from the other site's copy",
        )
    index = base_index.decoded(found[0])
    sealer = seal.sealer(key, index.salt) if key and index.salt else None
    name = base_index.BASE if key is None else base_index.SEALED
    return Source(store=store, key=f"{where}/{name}", backup=backup, index=index, sealer=sealer)


def refuse_unfit(into: Path, members: Sequence[Member], host: Host) -> None:
    """Raise, before anything is written: target not empty, not enough space, or names that would leave the target."""
    if into.is_symlink() or (into.exists() and (not into.is_dir() or any(into.iterdir()))):
        raise BadInput(f"{into} is not an empty folder", hint="name a folder that is absent or empty")
    seen: set[str] = set()
    for member in members:
        path = PurePosixPath(member.name)
        unsafe = member.kind == "l" or path.is_absolute() or ".." in path.parts or "\0" in member.name
        if unsafe or (member.name in seen and member.kind == "f"):
            raise Failed(
                f"the backup holds {member.name!r}, which would leave the target or be written twice",
                hint="do not trust this backup; see who can write into its bucket, and restore another",
            )
        seen.add(member.name)
    need = sum(member.size_bytes for member in members) + _SPARE_BYTES
    free = host.free_bytes(into)
    if free < need:
        raise BadInput(
            f"{into} has {free / 1e9:.2f} GB free, the restore needs {need / 1e9:.2f} GB",
            hint="free space there, or restore to another disk",
        )


def folders(into: Path, members: Iterable[Member]) -> None:
    """Make the target and its folders, private as Postgres demands."""
    with told(into):
        into.mkdir(parents=True, exist_ok=True)
        into.chmod(0o700)
        for member in members:
            if member.kind == "d":
                (into / member.name).mkdir(mode=member.mode or 0o700, parents=True, exist_ok=True)


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
