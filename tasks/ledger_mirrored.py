"""The ledger with its mirrors: the home first, then the other sites while these can be reached (PLAN.md).

Separate from the places themselves because it alone decides where a record goes when one of them is silent. A place
that failed rests for a while, so that a dead site costs one patience and not one for each record. A merge is a union.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from recovery.errors import Failed
from tasks.ledger import Ledger
from tasks.store import AlreadyThere

T = TypeVar("T")
REST_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Synced:
    """What a merge did, by place: documents copied there, and why a place could not be reached or read.

    `conflicts` are keys that hold different documents in two places: no merge mends those.
    """

    copied: dict[str, int]
    unreachable: dict[str, str]
    conflicts: tuple[str, ...]


@dataclass(kw_only=True, slots=True)
class _Place:
    ledger: Ledger
    missing: set[str] = field(default_factory=set)
    rests_until: float = 0.0
    trouble: str = ""


class MirroredLedger:
    """Implements tasks.ledger.Ledger over a home and its mirrors. Thread-safe: calls wait for each other.

    `now_seconds` is a monotonic clock.
    """

    def __init__(
        self,
        home: Ledger,
        mirrors: Sequence[Ledger],
        *,
        rest_seconds: float = REST_SECONDS,
        now_seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._places = tuple(_Place(ledger=ledger) for ledger in (home, *mirrors))
        self._rest_seconds = rest_seconds
        self._now = now_seconds
        self._conflicts: set[str] = set()
        self._lock = threading.RLock()

    @property
    def place(self) -> str:
        """See Ledger.place: the home's."""
        return self._places[0].ledger.place

    @property
    def ledgers(self) -> tuple[Ledger, ...]:
        """The home, then the mirrors."""
        return tuple(place.ledger for place in self._places)

    @property
    def degraded(self) -> str:
        """Why records do not reach the home now, or nothing. Starting a live change then needs that hazard accepted."""
        home = self._places[0]
        return f"the ledger's home {home.ledger.place} cannot be reached: {home.trouble}" if home.trouble else ""

    @property
    def behind(self) -> dict[str, tuple[str, ...]]:
        """The keys that are known to be missing, by place."""
        with self._lock:
            return {place.ledger.place: tuple(sorted(place.missing)) for place in self._places if place.missing}

    @property
    def conflicts(self) -> tuple[str, ...]:
        """Keys that were met with different documents in two places."""
        return tuple(sorted(self._conflicts))

    def put(self, key: str, body: bytes) -> None:
        """See Ledger.put. Durable in the home, or else in the first mirror that can be reached.

        Raises Failed when no place can be. What another place already holds of the same run is brought home first, so
        that a sequence number that was used while the home was away is not used again.
        """
        with self._lock:
            first = self._write(key, body)
            for place in self._places:
                if place is not first:
                    self._mirror(place, key, body)

    def get(self, key: str) -> bytes | None:
        """See Ledger.get: from the first place that has it."""
        with self._lock:
            answers = []
            for place in self._in_order():
                answers.append(answer := self._ask(place, lambda ledger: ledger.get(key)))
                if answer is not None and answer[0] is not None:
                    return answer[0]
            self._refuse_silence(answers)
            return None

    def list(self, prefix: str, after: str = "") -> Iterator[str]:
        """See Ledger.list: the union of all places that can be reached, read before the first key is given."""
        with self._lock:
            yield from self._union(prefix, after)

    def sync(self) -> Synced:
        """Merge: copy to each place what it lacks of the union. May be stopped and done again."""
        with self._lock:
            for place in self._places:
                place.rests_until = 0.0
            self._union("", "")
            copied = {place.ledger.place: self._catch_up(place, "") for place in self._places}
            unreachable = {place.ledger.place: place.trouble for place in self._places if place.trouble}
            return Synced(copied=copied, unreachable=unreachable, conflicts=self.conflicts)

    def _write(self, key: str, body: bytes) -> _Place:
        for place in self._in_order():
            rested = place.rests_until
            self._catch_up(place, _folder(key))
            fell_silent = place.rests_until > rested
            if not fell_silent and self._ask(place, lambda ledger: ledger.put(key, body)) is not None:
                return place
            place.missing.add(key)
        raise self._silence()

    def _mirror(self, place: _Place, key: str, body: bytes) -> None:
        place.missing.add(key)
        if not self._rests(place):
            self._catch_up(place, _folder(key), {key: body})

    def _catch_up(self, place: _Place, prefix: str, known: dict[str, bytes] | None = None) -> int:
        """Copy to `place` what it lacks below `prefix`; gives how many documents. Stops at its first silence."""
        copied = 0
        for key in sorted(key for key in place.missing if key.startswith(prefix)):
            body = (known or {}).get(key) or self._fetch(key, place)
            if body is None:
                continue
            stored = self._ask(place, lambda ledger, key=key, body=body: _copy(ledger, key, body))  # type: ignore[misc]
            if stored is None:
                break
            if stored[0] == "conflict":
                self._conflicts.add(key)
            copied += stored[0] == "copied"
            place.missing.discard(key)
        return copied

    def _fetch(self, key: str, lacking: _Place) -> bytes | None:
        for place in self._in_order():
            if place is not lacking and key not in place.missing:
                answer = self._ask(place, lambda ledger: ledger.get(key))
                if answer and answer[0] is not None:
                    return answer[0]
        return None

    def _union(self, prefix: str, after: str) -> tuple[str, ...]:
        asked = self._in_order()
        answers = [(place, self._ask(place, lambda ledger: tuple(ledger.list(prefix, after)))) for place in asked]
        self._refuse_silence([answer for _, answer in answers])
        keys = tuple(sorted({key for _, answer in answers if answer for key in answer[0]}))
        for place, answer in answers:
            if answer:
                place.missing |= set(keys) - set(answer[0])
        return keys

    def _in_order(self) -> tuple[_Place, ...]:
        """The places that are not resting, home first; all of them when every one rests."""
        return tuple(place for place in self._places if not self._rests(place)) or self._places

    def _rests(self, place: _Place) -> bool:
        return self._now() < place.rests_until

    def _ask(self, place: _Place, do: Callable[[Ledger], T]) -> tuple[T] | None:
        """The answer, or None when the place cannot be reached: it then rests."""
        try:
            answer = do(place.ledger)
        except Failed as error:
            place.trouble = error.fact
            place.rests_until = self._now() + self._rest_seconds
            return None
        place.trouble, place.rests_until = "", 0.0
        return (answer,)

    def _refuse_silence(self, answers: Sequence[object | None]) -> None:
        if all(answer is None for answer in answers):
            raise self._silence()

    def _silence(self) -> Failed:
        facts = "; ".join(f"{place.ledger.place}: {place.trouble}" for place in self._places)
        return Failed(
            f"no copy of the ledger can be reached ({facts})",
            hint="mend the way to one of them, or name a directory as the ledger for break glass",
        )


def _copy(ledger: Ledger, key: str, body: bytes) -> str:
    try:
        ledger.put(key, body)
    except AlreadyThere:
        return "same" if ledger.get(key) == body else "conflict"
    return "copied"


def _folder(key: str) -> str:
    return key.rpartition("/")[0] + "/"
