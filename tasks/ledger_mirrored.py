"""The ledger with its mirrors: the home first, then the other sites while these can be reached (PLAN.md).

Separate from the places themselves because it alone decides where a record goes when one of them is silent. A record is
durable in one place before its writer goes on: the home, or else the first mirror that answers. The other places get it
beside the run, so that a dead site costs nobody more than a moment. A merge is a union.

Two writers of one chain: the lease lets one run have one driver, and its generation stands in every record. A driver
reads the union of all that answers before it writes, and what a place lacks of the run is carried there first, so a
sequence number that was used elsewhere is not used again. One way remains: the last driver's newest records lie only
in a place that is silent now. Both records are then kept, each in its place, and the verification names them; what came
behind the one is not carried behind the other, and nothing more is written to where a fork was met.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from recovery.errors import DrError, Failed, Refused
from tasks.circuit import REST_SECONDS, Circuit
from tasks.ledger import Ledger
from tasks.ledger_courier import Courier

T = TypeVar("T")
LINGER_SECONDS = 0.25
"""How long a record waits for its copies. What answers does so much sooner; what is late gets them beside the run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Synced:
    """What a merge did, by place: documents copied there, and why a place could not be reached or read.

    `conflicts` are keys that hold different documents in two places: no merge mends those.
    """

    copied: dict[str, int]
    unreachable: dict[str, str]
    conflicts: tuple[str, ...]


class MirroredLedger:
    """Implements tasks.ledger.Ledger over a home and its mirrors. Thread-safe.

    `circuits`, one for each place in order, are shared with whatever else is asked there; `now_seconds` is a monotonic
    clock, for circuits of its own.
    """

    def __init__(
        self,
        home: Ledger,
        mirrors: Sequence[Ledger],
        *,
        circuits: Sequence[Circuit] | None = None,
        rest_seconds: float = REST_SECONDS,
        now_seconds: Callable[[], float] = time.monotonic,
        linger_seconds: float = LINGER_SECONDS,
    ) -> None:
        places = (home, *mirrors)
        own = [Circuit(rest_seconds=rest_seconds, now_seconds=now_seconds) for _ in places]
        self._linger_seconds = linger_seconds
        self._copies = tuple(
            Courier(place, circuit, lambda key, place=place: self._fetch(key, place))  # type: ignore[misc]
            for place, circuit in zip(places, circuits or own, strict=True)
        )

    @property
    def place(self) -> str:
        """See Ledger.place: the home's."""
        return self._copies[0].ledger.place

    @property
    def ledgers(self) -> tuple[Ledger, ...]:
        """The home, then the mirrors."""
        return tuple(copy.ledger for copy in self._copies)

    @property
    def degraded(self) -> str:
        """Why records do not reach the home now, or nothing. Starting a live change then needs that hazard accepted."""
        trouble = self._copies[0].circuit.trouble
        return f"the ledger's home {self.place} cannot be reached: {trouble}" if trouble else ""

    @property
    def silent(self) -> dict[str, str]:
        """The places that did not answer when they were asked last, and why."""
        return {copy.ledger.place: copy.circuit.trouble for copy in self._copies if copy.circuit.trouble}

    def ask_again(self) -> dict[str, str]:
        """Ask the places that were silent once more, though they rest; gives those that still are, and why."""
        for copy in self._copies:
            if copy.circuit.trouble:
                self._ask(copy, lambda ledger: next(ledger.list("epochs/"), None))
        return self.silent

    @property
    def behind(self) -> dict[str, tuple[str, ...]]:
        """The keys that are known to be missing, by place."""
        return {copy.ledger.place: lacking for copy in self._copies if (lacking := copy.lacks())}

    @property
    def conflicts(self) -> tuple[str, ...]:
        """Keys that were met with different documents in two places."""
        return tuple(sorted(set().union(*(copy.conflicts for copy in self._copies))))

    def put(self, key: str, body: bytes) -> None:
        """See Ledger.put. Durable in the home, or else in the first mirror that can be reached; copies may be late.

        Raises Failed when no place can be reached.
        """
        first = self._write(key, body)
        begun = []
        for copy in self._copies:
            if copy is not first:
                copy.note([key], body)
                begun += [copy] if copy.begin() else []  # one that still carries is late already: nobody waits for it
        deadline = time.monotonic() + self._linger_seconds
        for copy in begun:
            copy.wait(key, max(0.0, deadline - time.monotonic()))

    def get(self, key: str) -> bytes | None:
        """See Ledger.get: from the first place that has it."""
        answered = False
        for copy in self._in_order():
            answer = self._ask(copy, lambda ledger: ledger.get(key))
            if answer is not None and answer[0] is not None:
                return answer[0]
            answered |= answer is not None
        if not answered:
            raise self._silence()
        return None

    def list(self, prefix: str, after: str = "") -> Iterator[str]:
        """See Ledger.list: the union of all places that can be reached, read before the first key is given."""
        yield from self._union(prefix, after)

    def settle(self, patience_seconds: float) -> dict[str, tuple[str, ...]]:
        """Wait, at most so long, for the copies that answer; gives what is still missing, by place."""
        for copy in self._copies:
            copy.begin()
        deadline = time.monotonic() + patience_seconds
        for copy in self._copies:
            copy.wait("", max(0.0, deadline - time.monotonic()))
        return self.behind

    def sync(self) -> Synced:
        """Merge: carry to each place what it lacks of the union. May be stopped and done again."""
        for copy in self._copies:
            copy.circuit.wake()
        self._union("", "")
        copied = {copy.ledger.place: copy.carry() for copy in self._copies}
        return Synced(copied=copied, unreachable=self.silent, conflicts=self.conflicts)

    def _write(self, key: str, body: bytes) -> Courier:
        folder = key.rpartition("/")[0] + "/"
        ready = (copy for copy in self._in_order() if copy.may_follow(folder, self._linger_seconds))
        for copies in (ready, iter(self._copies)):  # the second time whoever it is, however late
            for copy in copies:
                if folder.startswith("runs/") and copy.forked(folder):
                    raise _forked(copy.ledger.place, key)
                if self._ask(copy, lambda ledger: ledger.put(key, body)) is not None:
                    copy.strike(key)
                    return copy
        raise self._silence()

    def _fetch(self, key: str, lacking: Ledger) -> bytes | None:
        for copy in self._in_order():
            if copy.ledger is not lacking and key not in copy.lacks(key):
                answer = self._ask(copy, lambda ledger: ledger.get(key))
                if answer is not None and answer[0] is not None:
                    return answer[0]
        return None

    def _union(self, prefix: str, after: str) -> tuple[str, ...]:
        asked = self._in_order()
        with ThreadPoolExecutor(len(asked), thread_name_prefix="ledger") as pool:
            answers = list(
                pool.map(lambda copy: self._ask(copy, lambda ledger: tuple(ledger.list(prefix, after))), asked)
            )
        if not any(answer is not None for answer in answers):
            raise self._silence()
        keys = set().union(*(answer[0] for answer in answers if answer is not None))
        for copy, answer in zip(asked, answers, strict=True):
            if answer is not None:
                copy.note(keys - set(answer[0]))
        return tuple(sorted(keys))

    def _in_order(self) -> tuple[Courier, ...]:
        """The places that do not rest, home first; all of them when every one rests."""
        return tuple(copy for copy in self._copies if not copy.circuit.rests) or self._copies

    def _ask(self, copy: Courier, do: Callable[[Ledger], T]) -> tuple[T] | None:
        """The answer, or None when the place is silent. What is wrong with a mirror is no reason to stop at all."""
        return copy.circuit.ask(lambda: do(copy.ledger), silence=Failed if copy is self._copies[0] else DrError)

    def _silence(self) -> Failed:
        facts = "; ".join(f"{place}: {trouble}" for place, trouble in self.silent.items())
        return Failed(
            f"no copy of the ledger can be reached ({facts})",
            hint="mend the way to one of them, or name a directory as the ledger for break glass",
        )


def _forked(place: str, key: str) -> Refused:
    return Refused(
        f"{key} is not written to {place}, which holds other documents there than the other copies of the ledger",
        hint="another engine wrote the same run apart from this one: 'dr evidence verify' names both; leave it to that"
        " one, or make a new plan",
    )


def silent_of(ledger: Ledger) -> dict[str, str]:
    """The places of a ledger that did not answer when they were asked last, and why; of one in one place none."""
    return ledger.silent if isinstance(ledger, MirroredLedger) else {}
