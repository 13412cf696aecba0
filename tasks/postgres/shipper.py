"""Shipping on: every WAL file and mark of the local bucket also at another site, at once and again until it is there.

Separate from the archiver because the other site may be slow or gone, and archiving must not wait for it. Driven by
what the archiver offers; a comparison of both listings finds what restarts and outages left behind.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from pydantic import JsonValue

from recovery.errors import DrError, Failed, Refused
from recovery.wal import Segment, name_of, parse
from tasks.postgres.agent_memory import Alerts, Memory, Position, utc_now
from tasks.postgres.ship_base import ship_backup, unshipped
from tasks.store import AlreadyThere, Store, Stored

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
PENDING_LIMIT = 10_000
_HELD_BODIES = 4
_SMALL_PREFIXES = ("wal/", "mark/")

Body = tuple[bytes, Mapping[str, str]]


class Shipper:
    """Copies from `here` to the bucket of `site`. `run_wal` and `run_base` are the bodies of two threads."""

    def __init__(
        self,
        *,
        site: str,
        here: Store,
        there: Store,
        memory: Memory,
        alerts: Alerts,
        segment_bytes: Callable[[], int],
        reconcile_seconds: float = 300.0,
        base_seconds: float = 20.0,
        threads: int = 4,
    ) -> None:
        self.site = site
        self._here, self._there = here, there
        self._memory, self._alerts = memory, alerts
        self._segment_bytes = segment_bytes
        self._reconcile_seconds, self._base_seconds, self._threads = reconcile_seconds, base_seconds, threads
        self._more = threading.Condition()
        self._pending: dict[str, float] = {}
        self._bodies: dict[str, Body] = {}
        self._refused: set[str] = set()
        self._early: set[str] = set()
        self._due = 0.0
        self._trouble: dict[str, str] = {}

    def offer(self, key: str, body: bytes, metadata: Mapping[str, str]) -> None:
        """A new object is in the local bucket. Returns at once; the body is kept only while few are waiting."""
        with self._more:
            if len(self._pending) >= PENDING_LIMIT:
                self._due = 0.0  # the comparison of listings will find it
                return
            self._pending[key] = time.monotonic()
            if len(self._bodies) < _HELD_BODIES:
                self._bodies[key] = (body, metadata)
            self._more.notify_all()

    def status(self) -> dict[str, JsonValue]:
        """Lag for people and programs: position there, how many wait, for how long the oldest, the last trouble."""
        with self._more:
            oldest = min(self._pending.values(), default=None)
            waiting = len(self._pending)
        position = self._memory.shipped(self.site)
        return {
            **(position.model_dump(mode="json") if position else {"segment": None, "lsn": None, "at": None}),
            "waiting": waiting,
            "oldest_waits_seconds": 0.0 if oldest is None else round(time.monotonic() - oldest, 3),
            "trouble": next(iter(self._trouble.values()), None),
        }

    def run_wal(self, stop: threading.Event) -> None:
        """Ship WAL and marks until `stop`; troubles are told and tried again with growing pauses, for ever."""
        pause = 0.0
        with ThreadPoolExecutor(self._threads, thread_name_prefix=f"ship-{self.site}") as pool:
            while not stop.wait(pause):
                try:
                    self._round(pool)
                    pause = 0.0
                    self._well("ship")
                except DrError as error:
                    pause = self._ill("ship", error, pause)

    def run_base(self, stop: threading.Event) -> None:
        """Ship complete backups until `stop`."""
        pause = 0.0
        while not stop.wait(pause):
            try:
                self._ship_backups(stop)
                pause = self._base_seconds
                self._well("ship-base")
            except DrError as error:
                pause = self._ill("ship-base", error, pause)

    def _ship_backups(self, stop: threading.Event) -> None:
        """All that wait; one that fails holds up no other."""
        first: DrError | None = None
        for folder in unshipped(self._here, self._there):
            try:
                if not ship_backup(self._here, self._there, folder, go_on=lambda: not stop.is_set()):
                    return
            except DrError as error:
                first = first or error
        if first is not None:
            raise first

    def wake(self) -> None:
        """End a wait, for example because the agent stops."""
        with self._more:
            self._more.notify_all()

    def _round(self, pool: ThreadPoolExecutor) -> None:
        if time.monotonic() >= self._due:
            self._reconcile()
        with self._more:
            if not self._pending:
                self._more.wait(1.0)
            batch = list(islice(self._pending, self._threads))
        results = list(pool.map(self._try, batch))
        with self._more:
            for key, error in zip(batch, results, strict=True):
                if error is None or isinstance(error, Refused):  # trying again can't mend what is refused
                    self._pending.pop(key, None)
                    (self._refused.discard if error is None else self._refused.add)(key)
        self._advance([key for key, error in zip(batch, results, strict=True) if error is None])
        for error in results:
            if error is not None and not isinstance(error, Refused):
                raise error

    def _try(self, key: str) -> DrError | None:
        with self._more:
            body = self._bodies.pop(key, None)
        try:
            self._ship(key, body)
        except DrError as error:
            return error
        return None

    def _ship(self, key: str, body: Body | None) -> None:
        if body is None:
            found = self._here.get(key)
            if found is None:
                return  # retention removed it
            body = (found[0], found[1].metadata)
        try:
            self._there.put(key, *body)
        except AlreadyThere:
            self._same(key, body)

    def _same(self, key: str, body: Body) -> None:
        other = self._there.head(key)
        if other is None:
            raise Failed(f"{key} was removed at {self.site} while it was copied", hint="it is tried again")
        mine = body[1].get("sha256")
        if mine == other.metadata.get("sha256") if mine else other.size_bytes == len(body[0]):
            self._alerts.over(f"differs-{self.site}-{key}")
            return
        fact = f"{key} differs between this site and {self.site}"
        hint = "two servers archived under one timeline: see `dr points` for where they part; never delete either"
        self._alerts.tell(f"differs-{self.site}-{key}", fact, hint)
        raise Refused(fact, hint=hint)

    def _reconcile(self) -> None:
        """Everything that is here and not there is pending, oldest first, up to the limit."""
        complete, archived = True, self._memory.newest()  # asked first: what comes meanwhile may not be in the listings
        for prefix in _SMALL_PREFIXES:
            for key in _missing(self._here.list(prefix), self._there.list(prefix)):
                with self._more:
                    if len(self._pending) >= PENDING_LIMIT:
                        complete = False
                        break
                    self._pending.setdefault(key, time.monotonic())
        if complete and not self._pending and not self._refused:
            self._catch_up(archived)
        self._due = time.monotonic() + (self._reconcile_seconds if complete else FIRST_PAUSE_SECONDS)

    def _catch_up(self, position: Position | None) -> None:
        """Nothing is missing there: then what was archived before the look is shipped, whoever carried it."""
        if position is not None:
            timeline = int(position.segment[:8], 16)
            known = self._memory.shipped(self.site)
            if known is None or known.segment != position.segment:
                moved = Position(segment=position.segment, lsn=position.lsn, at=utc_now())
                self._memory.set_shipped(self.site, timeline, moved)

    def _advance(self, shipped: list[str]) -> None:
        """The position there: the newest shipped segment before which none of its timeline waits. What came there while
        an earlier one still waited is kept in mind until that has come, too; and until the archiver, which stores ahead
        in no order, says that all before it is in the bucket here."""
        self._early.update(shipped)
        size = self._segment_bytes() if self._early else 0
        with self._more:
            waiting = [
                each for key in (*self._pending, *self._refused) if (each := _segment(key, size or 1)) is not None
            ]
        for key in sorted(self._early):
            each = _segment(key, size)
            if each is None:
                self._early.discard(key)
                continue
            here, lsn = self._memory.archived(each.timeline), (each.number + 1) * size
            if here is None or here.lsn < lsn:
                continue
            if not any(one.timeline == each.timeline and one.number < each.number for one in waiting):
                self._early.discard(key)
                name = name_of(each.timeline, each.number, size)
                self._memory.set_shipped(self.site, each.timeline, Position(segment=name, lsn=lsn, at=utc_now()))

    def _ill(self, what: str, error: DrError, pause: float) -> float:
        self._trouble[what] = error.fact
        self._alerts.tell(f"{what}-{self.site}", error.fact, error.hint)
        self._due = 0.0
        return min(max(pause * 2, FIRST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)

    def _well(self, what: str) -> None:
        self._trouble.pop(what, None)
        self._alerts.over(f"{what}-{self.site}")


def _missing(mine: Iterator[Stored], theirs: Iterator[Stored]) -> Iterator[str]:
    """Keys of `mine` that `theirs` lacks or has in another size; both in key order, a page of each in memory."""
    other = next(theirs, None)
    for each in mine:
        while other is not None and other.key < each.key:
            other = next(theirs, None)
        if other is None or other.key != each.key or other.size_bytes != each.size_bytes:
            yield each.key


def _segment(key: str, size: int) -> Segment | None:
    try:
        found = parse(key.rpartition("/")[2].removesuffix(".zst"), size)
    except ValueError:
        return None
    return found if isinstance(found, Segment) else None
