"""Leases in a bucket without object lock: taking, renewing, releasing, by compare-and-put.

Separate from the decision (recovery/lease.py) because here clocks and networks are real: a holder stops by whichever of
its two clocks says so first, the wall's or the monotonic one, so that neither a stepped clock nor a stopped process
makes it act beyond its time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta

from recovery.errors import DrError, Failed, Refused
from recovery.lease import Held, Lease, Mine, Request, Terms, decide, lease_key, made
from recovery.value import canonical
from tasks import owner as owners
from tasks.store import Changed, Store

_MOST_RACES = 16
_TOLD_TO = timedelta(seconds=1)
"""A bucket tells its clock in whole seconds, rounded down."""


def wall_clock() -> datetime:
    """The instant now, in UTC."""
    return datetime.now(UTC)


class Holding:
    """A lease that this process holds. `check` before each effect; `generation` goes into each record."""

    def __init__(
        self,
        store: Store,
        lease: Lease,
        etag: str,
        *,
        terms: Terms,
        clock: Callable[[], datetime],
        taken_at_seconds: float,
    ) -> None:
        self._store = store
        self._terms = terms
        self._clock = clock
        self._lease = lease
        self._etag = etag
        self._ends_at_seconds = taken_at_seconds + terms.seconds
        self._lost = ""
        self._lock = threading.Lock()

    @property
    def lease(self) -> Lease:
        """The lease as it was last written."""
        return self._lease

    @property
    def generation(self) -> int:
        """The generation that records and fenced effects carry."""
        return self._lease.generation

    @property
    def lost(self) -> str:
        """Why the lease is lost, or nothing."""
        return self._lost

    def check(self, now: datetime | None = None) -> None:
        """Raises Refused when the lease was lost or its time has passed. `now`: else the clock's."""
        if self._lost:
            raise _lost(self._lease, self._lost)
        self._lease.check(now if now is not None else self._clock())
        if time.monotonic() >= self._ends_at_seconds:
            raise _lost(self._lease, "its time passed while this process or its clock stood still")

    def renew(self) -> None:
        """Prolong from now, also what has lapsed while the bucket was silent or this process stood still: nobody had it
        meanwhile as long as its object is unchanged. Raises Refused when another has taken it, Failed when the bucket
        can't be reached."""
        with self._lock:
            if self._lost or self._lease.released:
                self.check()
            begun, now = time.monotonic(), self._clock()
            expires = now + timedelta(seconds=self._terms.seconds)
            wanted = self._lease.model_copy(update={"expires_at": expires})
            etag = self._replace(wanted)
            self._lease, self._etag = wanted, etag
            self._ends_at_seconds = begun + self._terms.seconds

    def release(self) -> None:
        """Say that we have stopped. The lease stays, so that generations go on growing. Lost already: nothing to do."""
        with self._lock:
            if self._lost or self._lease.released:
                return
            wanted = self._lease.model_copy(update={"expires_at": self._clock(), "released": True})
            try:
                self._etag = self._replace(wanted)
            except Refused:
                return  # another took it after it lapsed: it is released as far as anybody can tell
            self._lease = wanted

    def release_later(self) -> None:
        """Beside whatever goes on, as soon as the bucket answers and shows what was written; later it has lapsed."""

        def release() -> None:
            deadline = time.monotonic() + self._terms.seconds
            while time.monotonic() < deadline:
                with suppress(DrError):
                    if self.release_untouched():
                        return
                time.sleep(min(1.0, self._terms.seconds / 10))

        threading.Thread(target=release, daemon=True).start()

    def release_untouched(self) -> bool:
        """As `release`, but only where the object is what this holding wrote last (true): this process may have taken
        the lease anew for the same run. Raises Failed when the bucket can't be reached."""
        with self._lock:
            key = lease_key(self._lease.service)
            found = self._store.get(key)
            if found is None or _read(key, found[0]) != self._lease:
                return False
            wanted = self._lease.model_copy(update={"expires_at": self._clock(), "released": True})
            with suppress(Changed):
                self._etag = self._store.replace(key, canonical(wanted), found[1].etag)
                self._lease = wanted
            return self._lease.released

    def _replace(self, wanted: Lease) -> str:
        key = lease_key(wanted.service)
        for _ in range(2):
            try:
                return self._store.replace(key, canonical(wanted), self._etag)
            except Changed:
                # Either another owner, or an answer of ours that was lost: the stored lease says which.
                found = self._store.get(key)
                stored = _read(key, found[0]) if found is not None else None
                if stored is None or _holder(stored) != _holder(wanted):
                    self._lost = f"taken by {stored.owner} in run {stored.run}" if stored else "its object was removed"
                    raise _lost(self._lease, self._lost) from None
                self._etag = found[1].etag if found is not None else ""
        raise Failed(
            f"the lease on {wanted.service} could not be renewed: its object keeps changing under the same owner",
            hint="look at the bucket of leases; only one engine may write there for this service",
        )


class Leases:
    """The leases in one bucket, as one owner sees them.

    `reachable` false: the bucket is known to be silent, and a release is not worth a patience.
    """

    def __init__(
        self,
        store: Store,
        terms: Terms,
        *,
        owner: str | None = None,
        clock: Callable[[], datetime] = wall_clock,
        reachable: Callable[[], bool] = lambda: True,
    ) -> None:
        self._store = store
        self._reachable = reachable
        self._terms = terms
        self._clock = clock
        self._owner = owner or owners.owner_here()

    def look(self, service: str) -> Lease | None:
        """The lease as it is stored, expired or not; None when nobody ever took it."""
        found = self._store.get(lease_key(service))
        return None if found is None else _read(lease_key(service), found[0])

    def take(self, service: str, run: str, *, least: int = 0) -> Holding:
        """Take the lease now, in generation `least` or a newer one. Raises Refused, naming owner and run, when another
        holds it."""
        key = lease_key(service)
        for _ in range(_MOST_RACES):
            asked_at = self._clock()
            found = self._store.get(key)
            existing = None if found is None else _read(key, found[0])
            clock = self._clock if found is None else self._agreed(found[1].told_at, asked_at)
            begun, now = time.monotonic(), clock()
            request = Request(service=service, owner=self._owner, run=run, dead=_dead(existing))
            decided = decide(existing, request, now, self._terms.clock_bound)
            if isinstance(decided, Held):
                raise decided.refusal()
            generation = decided.lease.generation if isinstance(decided, Mine) else decided.generation
            lease = made(request, max(generation, least), now, self._terms.seconds)
            try:
                etag = self._store.replace(key, canonical(lease), found[1].etag if found else None)
            except Changed:
                continue  # somebody was faster, or an answer of ours was lost; what is stored now decides
            except Failed:
                # Written all the same, perhaps, or still to be: nobody would know that it is nobody's.
                Holding(self._store, lease, "", terms=self._terms, clock=clock, taken_at_seconds=begun).release_later()
                raise
            return Holding(self._store, lease, etag, terms=self._terms, clock=clock, taken_at_seconds=begun)
        raise Failed(
            f"the lease on {service} changed {_MOST_RACES} times while it was being taken",
            hint="see who else is starting runs of this service, and act again",
        )

    def _agreed(self, told_at: datetime | None, asked_at: datetime) -> Callable[[], datetime]:
        """The clock by which the lease is judged and written: ours, or the bucket's where ours is further from it than
        a lease allows. Else who is minutes ahead would take a lease that is held, and who is behind hold one that looks
        lapsed to all others. Whatever the answer took, a clock that agrees is left alone; one that does not is asked no
        more, since somebody may set it right meanwhile."""
        answered_at, half = self._clock(), self._terms.clock_bound / 2
        if told_at is None or asked_at - half - _TOLD_TO <= told_at <= answered_at + half:
            return self._clock
        began, at = _ticks(), answered_at + (told_at - (asked_at if told_at < asked_at else answered_at))
        return lambda: at + timedelta(seconds=_ticks() - began)

    @contextmanager
    def hold(self, service: str, run: str, *, patience_seconds: float = 0.0, least: int = 0) -> Iterator[Holding]:
        """Take the lease (waiting for it no longer than the patience), renew it meanwhile, release it at the end.

        Renewal goes on in a thread at each third of the lease's time; when it fails, `check` says so from then on.
        """
        holding = self._take_patiently(service, run, patience_seconds, least)
        stop = threading.Event()
        keeper = threading.Thread(target=_keep, args=(holding, stop, self._terms.seconds / 3), daemon=True)
        keeper.start()
        try:
            yield holding
        except (KeyboardInterrupt, SystemExit):
            stop.set()  # moves may be underway until the process has ended: only its end, or time, frees the lease
            raise
        except BaseException:
            self._give_up(holding, keeper, stop)
            raise
        self._give_up(holding, keeper, stop)

    def _give_up(self, holding: Holding, keeper: threading.Thread, stop: threading.Event) -> None:
        stop.set()
        if self._reachable():
            keeper.join()
            with suppress(Failed):
                holding.release()
                return
        # It lapses by itself, or with this process; sooner where the bucket answers again meanwhile.
        holding.release_later()

    def _take_patiently(self, service: str, run: str, patience_seconds: float, least: int) -> Holding:
        deadline = time.monotonic() + patience_seconds
        pause = min(1.0, self._terms.seconds / 10)
        while True:
            try:
                return self.take(service, run, least=least)
            except Refused:
                if time.monotonic() + pause > deadline:
                    raise
            time.sleep(pause)


def _ticks() -> float:
    """Seconds by a clock that nobody sets and, where the system has one, that no sleep of the machine stops."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _keep(holding: Holding, stop: threading.Event, every_seconds: float) -> None:
    """Renew until stopped or lost. An unreachable bucket is asked again, also behind the lease's time: `check` refuses
    meanwhile, and whoever took it is met when the bucket answers."""
    pause = every_seconds
    while not stop.wait(pause):
        try:
            holding.renew()
            pause = every_seconds
        except Refused:
            return  # holding.lost tells the run at its next check
        except DrError:
            pause = every_seconds / 4


def _dead(existing: Lease | None) -> frozenset[str]:
    return frozenset({existing.owner}) if existing is not None and owners.ended(existing.owner) else frozenset()


def _holder(lease: Lease) -> tuple[str, str, int]:
    return lease.owner, lease.run, lease.generation


def _read(key: str, body: bytes) -> Lease:
    try:
        return Lease.model_validate_json(body)
    except ValueError:
        raise Failed(
            f"the object {key} is not a lease of a known schema",
            hint="it was written by a newer engine or by something else; look at it before anything is driven",
        ) from None


def _lost(lease: Lease, why: str) -> Refused:
    return Refused(
        f"the lease on {lease.service} (generation {lease.generation}) is lost: {why}",
        hint="nothing more is done by this run; see who drives the service with 'dr runs', then act again to resume",
    )
