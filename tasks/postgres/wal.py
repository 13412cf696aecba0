"""Reading a WAL archive: what is there, and fetching exactly the files a recovery needs, verified, in parallel.

Separate from the archiver, which writes it with other credentials. A file that is missing, short or damaged is a
failure that names it; nothing here ever means "end of WAL".
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import zstandard

from recovery.errors import Failed
from recovery.point import SEGMENT_BYTES, lsn_number
from recovery.wal import (
    Archive,
    HistoryFile,
    Label,
    Partial,
    Segment,
    Switch,
    WalName,
    contiguous,
    parse,
    parse_history,
)
from tasks.host import Host
from tasks.postgres import seal, waldump
from tasks.postgres.archived import key_of
from tasks.store import Store, Stored

_HINT = "see whether the other site's bucket has it whole, or choose a point before it; `dr points` shows the gaps"
_FILE_BYTES_LIMIT = 1 << 30


def list_archive(
    store: Store, system_id: str, *, segment_bytes: int = SEGMENT_BYTES, keys: seal.Keys | None = None
) -> Archive:
    """What the bucket holds of a system's WAL, with its timelines' histories; a damaged history is strange."""
    segments: list[str] = []
    others: dict[str, list[str]] = {"partial": [], "label": [], "strange": []}
    histories: dict[int, tuple[Switch, ...]] = {}
    prefix = f"wal/{system_id}/"
    for entry in store.list(prefix):
        file = entry.key.rpartition("/")[2].removesuffix(".zst")
        try:
            name = parse(file, segment_bytes)
            strange = entry.key != key_of(system_id, name, file)
        except ValueError:
            strange = True
        if strange:
            others["strange"].append(entry.key.removeprefix(prefix))
            continue
        match name:
            case Segment():
                segments.append(file)
            case Partial():
                others["partial"].append(file)
            case Label():
                others["label"].append(file)
            case HistoryFile():
                try:
                    histories[name.timeline] = _history(store, system_id, file, keys or {})
                except Failed:
                    # Somebody else's or damaged: only a restore along that timeline needs it, and is then refused.
                    store.head(entry.key)  # a bucket that does not answer is no damage: this raises it
                    others["strange"].append(entry.key.removeprefix(prefix))
    return Archive(
        system_id=system_id,
        segment_bytes=segment_bytes,
        stretches=contiguous(segments, segment_bytes),
        histories=histories,
        partials=tuple(others["partial"]),
        labels=tuple(others["label"]),
        strange=tuple(others["strange"]),
    )


def fetch(
    store: Store,
    system_id: str,
    names: Sequence[str],
    into: Path,
    *,
    keys: seal.Keys | None = None,
    threads: int = 4,
    segment_bytes: int = SEGMENT_BYTES,
) -> int:
    """Bring these files into the folder `into`, each whole and verified or not at all. Gives the bytes written.

    Memory: per thread one file packed and raw. Raises Failed naming the first file that is missing or damaged.
    """
    with ThreadPoolExecutor(threads, thread_name_prefix="fetch-wal") as pool:
        jobs = [pool.submit(_fetch, store, system_id, name, into, keys or {}, segment_bytes) for name in names]
        try:
            return sum(job.result() for job in jobs)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _fetch(store: Store, system: str, file: str, into: Path, keys: seal.Keys, segment_bytes: int) -> int:
    raw = _raw(store, system, file, keys)
    if isinstance(parse(file, segment_bytes), Segment) and len(raw) != segment_bytes:
        raise Failed(f"{file} has {len(raw)} bytes in the archive, a segment has {segment_bytes}", hint=_HINT)
    fresh = into / f".{file}.fetching"
    try:
        fresh.write_bytes(raw)
        fresh.replace(into / file)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise Failed(
            f"{file} can't be written to {into}: {os.strerror(error.errno or 0)}", hint="make room there"
        ) from None
    return len(raw)


def _raw(store: Store, system: str, file: str, keys: seal.Keys) -> bytes:
    """A file's content, proved equal to what was archived."""
    name: WalName = parse(file) if file.endswith(".history") else _by_name(file)
    key = key_of(system, name, file)
    head = store.head(key)
    if head is None:
        raise Failed(f"{file} is not in the archive", hint=_HINT)
    packed = bytearray(head.size_bytes)
    store.read(key, 0, head.size_bytes, memoryview(packed))
    fingerprint = head.metadata.get("enc")
    body = seal.unseal(seal.chosen(keys, fingerprint), bytes(packed)) if fingerprint else packed
    return _unpacked(file, body, head)


def _by_name(file: str) -> WalName:
    """The name with the smallest segment size, which admits every file of every size: only its timeline is used."""
    return parse(file, 1 << 20)


def _unpacked(file: str, body: bytes | bytearray, head: Stored) -> bytes:
    size, sha256 = head.metadata.get("size", ""), head.metadata.get("sha256")
    if not size.isdigit() or int(size) > _FILE_BYTES_LIMIT or sha256 is None:
        raise Failed(f"{file} has no size and SHA-256 in the archive: not written by the agent", hint=_HINT)
    try:
        raw = zstandard.ZstdDecompressor().decompress(body, max_output_size=int(size))
    except zstandard.ZstdError:
        raise Failed(f"{file} is damaged in the archive: it does not unpack", hint=_HINT) from None
    if len(raw) != int(size) or hashlib.sha256(raw).hexdigest() != sha256:
        raise Failed(f"{file} is damaged in the archive: its SHA-256 is another", hint=_HINT)
    return raw


def _history(store: Store, system: str, file: str, keys: seal.Keys) -> tuple[Switch, ...]:
    try:
        return parse_history(_raw(store, system, file, keys).decode())
    except ValueError as error:
        raise Failed(f"{file} in the archive is no timeline history: {error}", hint=_HINT) from None


def last_lsn(bin_dir: Path, file: Path, *, host: Host | None = None, patience_seconds: float = 60.0) -> int:
    """The end of the last complete record that begins in a WAL file. Raises Failed when there is none."""
    ran = waldump.file(bin_dir, file, "--stats", host=host, patience_seconds=patience_seconds)
    found = re.search(r"WAL statistics between \S+ and ([0-9A-F]+/[0-9A-F]+)", ran.out)
    if found is None:
        raise Failed(f"pg_waldump finds no record in {file.name}: {ran.err.strip()[:200]}", hint=_HINT)
    return lsn_number(found[1])


def last_commit(
    bin_dir: Path, files: Sequence[Path], *, host: Host | None = None, patience_seconds: float = 60.0
) -> datetime | None:
    """The time of the last commit in these WAL files (in order), read from the newest on; None when there is none."""
    for file in reversed(files):
        ran = waldump.file(bin_dir, file, "--rmgr=Transaction", host=host, patience_seconds=patience_seconds)
        found = list(waldump.commits(ran.out))
        if found:
            return found[-1].at
        if waldump.reads_nothing(ran):
            raise Failed(f"pg_waldump can't read {file.name}: {ran.err.strip()[:200]}", hint=_HINT)
    return None
