"""Archiving WAL: a file of pg_wal becomes a durable object, created once, never overwritten.

Separate from the socket it is asked through. On each request it also stores a few files further that Postgres has
marked `.ready`, so a backlog drains at the rate of parallel PUTs; those later requests are answered from the result.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooLate
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

import zstandard

from recovery.errors import Failed, Refused
from recovery.wal import Segment, WalName, following, name_of, parse
from tasks.postgres import wal_file
from tasks.postgres.agent_memory import Alerts, Memory, Position, utc_now
from tasks.postgres.archived import key_of
from tasks.postgres.reading import Deadline
from tasks.store import AlreadyThere, Store

Identity = tuple[str, int, int, int]
"""Name, inode, size, modified (ns): a recycled or rewritten file is another one."""
_PIECE = 1024 * 1024
_KEPT_RESULTS = 64


class Sealer(Protocol):
    """Encrypts whole files; the fingerprint names the key and is no secret."""

    @property
    def fingerprint(self) -> str:
        """Of the key."""
        ...

    def seal(self, raw: bytes) -> bytes:
        """`raw` encrypted and authenticated."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """A WAL file that is durable: its name, key and when."""

    name: WalName
    key: str
    at: datetime


class Archiver:
    """Archives for one data directory into one store. `offer(key, body, metadata)` hands each object to the shipper.
    `barred` says why this site's server may not archive any more (another one is the primary), or nothing."""

    def __init__(
        self,
        *,
        store: Store,
        data_dir: Path,
        memory: Memory,
        alerts: Alerts,
        offer: Callable[[str, bytes, Mapping[str, str]], None],
        sealer: Sealer | None = None,
        ahead: int = 8,
        threads: int = 4,
        patience_seconds: float = 50.0,
        barred: Callable[[], str] = lambda: "",
    ) -> None:
        self._store = store
        self._data_dir = data_dir
        self._memory = memory
        self._alerts = alerts
        self._offer = offer
        self._sealer = sealer
        self._ahead = ahead
        self._patience_seconds = patience_seconds
        self._barred = barred
        self._known_size: int | None = None
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="archive")
        self._lock = threading.Lock()
        self._jobs: dict[Identity, Future[Kept]] = {}
        self.stored_ahead = 0
        """How many files were stored before Postgres asked."""

    def archive(self, path: Path) -> None:
        """Make the file durable. Returns only then. Raises DrError; Postgres keeps the file and asks again."""
        self._refuse_barred()
        self._own(path)
        jobs = [*(self._job(each) for each in self._forgotten_before(path.name)), self._job(path)]
        for later in self._ready_after(path.name):
            self._job(later, ahead=True)
        deadline = Deadline(self._patience_seconds)
        try:
            for forgotten in jobs[:-1]:
                with suppress(Refused):  # told as an alert; the gap is, too, and the newer file has to be safe
                    self._claim(forgotten.result(deadline.left_seconds))
            kept = jobs[-1].result(deadline.left_seconds)
        except TooLate:
            raise Failed(
                f"{path.name} was not durable within {self._patience_seconds:g} s",
                hint="see whether the local site's S3 is up and fast enough; Postgres keeps the file and asks again",
            ) from None
        self._claim(kept)

    def segment_bytes(self) -> int:
        """The cluster's segment size. It is asked for late: a standby's data directory may be made after the agent."""
        if self._known_size is None:
            self._known_size = wal_file.segment_bytes(self._data_dir / "pg_wal")
        return self._known_size

    def ready(self) -> int:
        """How many files wait in pg_wal to be archived."""
        return sum(1 for _ in self._status().glob("*.ready"))

    def close(self) -> None:
        """End the threads once what they do is done."""
        self._pool.shutdown(cancel_futures=True)

    def _refuse_barred(self) -> None:
        """An old primary keeps its WAL to itself: what it holds beyond the promotion is listed, never archived."""
        if not (why := self._barred()):
            self._alerts.over("barred")
            return
        fact = f"this server may not archive any more: {why}"
        hint = "bring it back as a standby ('dr plan failback'); its WAL stays in pg_wal until then"
        self._alerts.tell("barred", fact, hint)
        raise Refused(fact, hint=hint)

    def _own(self, path: Path) -> None:
        """A clone whose configuration was copied asks with another path: its WAL must never come here (hazard 5)."""
        pg_wal = self._data_dir / "pg_wal"
        try:
            mine = path.parent.samefile(pg_wal)
        except OSError:
            mine = False
        if not mine:
            fact = f"{path} is not in {pg_wal}"
            hint = "a copy of the server must not archive: set archive_mode=off there, or give it an agent of its own"
            self._alerts.tell("foreign-wal", fact, hint)
            raise Refused(fact, hint=hint)

    def _job(self, path: Path, *, ahead: bool = False) -> Future[Kept]:
        try:
            stat = path.stat()
        except OSError as error:
            raise Failed(
                f"{path} can't be read ({type(error).__name__})", hint="let the agent read pg_wal: run it as that user"
            ) from None
        identity = (path.name, stat.st_ino, stat.st_size, stat.st_mtime_ns)
        with self._lock:
            known = self._jobs.get(identity)
            if known is not None and not (known.done() and (known.cancelled() or known.exception() is not None)):
                return known
            for old in [each for each, job in self._jobs.items() if job.done()][:-_KEPT_RESULTS]:
                del self._jobs[old]
            self.stored_ahead += ahead
            self._jobs[identity] = job = self._pool.submit(self._keep, path)
            return job

    def _status(self) -> Path:
        return self._data_dir / "pg_wal" / "archive_status"

    def _ready_after(self, name: str) -> Iterator[Path]:
        """The segments that Postgres will ask for next. They are looked for by name: a folder that a long outage has
        filled would be read anew on each request."""
        for _ in range(self._ahead):
            try:
                name = following(name, self.segment_bytes())
            except ValueError:
                return  # no segment: what comes behind it is a matter of milliseconds
            path = self._data_dir / "pg_wal" / name
            if not (self._status() / f"{name}.ready").exists() or not path.exists():
                return
            yield path

    def _forgotten_before(self, name: str) -> list[Path]:
        """Whole segments behind the last archived one that Postgres passes over: where it crashes between ending one by
        a switch and writing its `.ready` file, it asks for that only when a later checkpoint would remove it."""
        try:
            file = parse(name, self.segment_bytes())
        except ValueError:
            return []  # no WAL file at all, as whoever reads it will say
        before = self._memory.archived(file.timeline) if isinstance(file, Segment) else None
        if before is None or name <= before.segment or following(before.segment, self.segment_bytes()) == name:
            return []
        mine = (each for each in (self._data_dir / "pg_wal").iterdir() if before.segment < each.name < name)
        return sorted(each for each in mine if len(each.name) == len(name))

    def _keep(self, path: Path) -> Kept:
        system = wal_file.system_id(self._data_dir)
        try:
            name = wal_file.checked(path, system=system, size=self.segment_bytes())
        except Refused as refused:
            self._alerts.tell(f"refused-{path.name}", refused.fact, refused.hint)
            raise
        key = key_of(system, name, path.name)
        body, metadata = self._packed(path)
        try:
            self._store.put(key, body, metadata)
        except AlreadyThere:
            self._same_or_refused(key, path.name, metadata["sha256"])
        self._alerts.over(f"refused-{path.name}")
        kept = Kept(name=name, key=key, at=utc_now())
        self._offer(key, body, metadata)
        return kept

    def _packed(self, path: Path) -> tuple[bytes, dict[str, str]]:
        """The object: one zstd frame (sealed when there is a key). Streamed, so a segment is never in memory raw."""
        size = path.stat().st_size
        digest = hashlib.sha256()
        packer = zstandard.ZstdCompressor(level=1, write_checksum=True).compressobj(size=size)
        pieces: list[bytes] = []
        piece = memoryview(bytearray(_PIECE))  # filled again and again: hashed and packed while the cache holds it
        with path.open("rb", buffering=0) as source:
            while got := source.readinto(piece):
                digest.update(piece[:got])
                pieces.append(packer.compress(piece[:got]))
        pieces.append(packer.flush())
        body = b"".join(pieces)
        metadata = {"sha256": digest.hexdigest(), "size": str(size)}
        if self._sealer is not None:
            body = self._sealer.seal(body)
            metadata["enc"] = self._sealer.fingerprint
        return body, metadata

    def _same_or_refused(self, key: str, name: str, sha256: str) -> None:
        stored = self._store.head(key)
        if stored is None:
            raise Failed(f"{key} was removed while {name} was archived", hint="Postgres asks again; nothing to do")
        if stored.metadata.get("sha256") == sha256:
            return
        fact = f"{name} is in the archive already, with other content"
        hint = (
            "two servers write to one archive, or this one was restored or rewound without a new timeline: "
            "stop archiving on the wrong one; neither file was touched"
        )
        self._alerts.tell(f"refused-{name}", fact, hint)
        raise Refused(fact, hint=hint)

    def _claim(self, kept: Kept) -> None:
        """Postgres asks in order, so the position moves at the claim, never at what was stored ahead."""
        if not isinstance(kept.name, Segment):
            return
        timeline, number, size = kept.name.timeline, kept.name.number, self.segment_bytes()
        file = name_of(timeline, number, size)
        before = self._memory.archived(timeline)
        if before is not None and file > before.segment and following(before.segment, size) != file:
            self._alerts.tell(
                f"gap-{timeline}-{before.segment}",
                f"WAL between {before.segment} and {file} was not archived by this agent",
                "see `dr points` for the gap; copy the missing segments from the other site or pg_wal, "
                "else take a new full backup now",
            )
        self._memory.set_archived(timeline, Position(segment=file, lsn=(number + 1) * size, at=kept.at))
