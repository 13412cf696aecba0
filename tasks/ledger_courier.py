"""Carries records to one copy of the ledger that lacks them, beside the run: a slow or silent copy keeps none waiting.

Separate from the mirrored ledger, which decides where a record is durable first: here is only what a copy still lacks,
and a thread that lives while there is something to carry and the copy answers. A process that ends takes nothing along
that is not durable elsewhere: what a copy lacks is found again by comparing listings.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from hashlib import sha256

from recovery.errors import DrError
from recovery.evidence import comes_behind
from tasks.circuit import Circuit
from tasks.ledger import Ledger
from tasks.store import AlreadyThere

Fetch = Callable[[str], bytes | None]


class Courier:
    """What one copy lacks, and its delivery, in the order of keys. Thread-safe."""

    def __init__(self, ledger: Ledger, circuit: Circuit, fetch: Fetch) -> None:
        self.ledger = ledger
        self.circuit = circuit
        self.conflicts: set[str] = set()
        self._fetch = fetch
        self._missing: dict[str, bytes | None] = {}
        self._changed = threading.Condition()
        self._carrier: threading.Thread | None = None
        self._defect: Exception | None = None
        self._carried = ("", "")
        """The last document that lies there by us, and its hash: the next record of its run need not ask for it."""

    def lacks(self, prefix: str = "") -> tuple[str, ...]:
        """The keys that are known to be missing there, in order."""
        with self._changed:
            return tuple(sorted(key for key in self._missing if key.startswith(prefix)))

    def note(self, keys: Iterable[str], body: bytes | None = None) -> None:
        """Remember what is missing; with `body` (of a single key) it need not be fetched from another copy."""
        with self._changed:
            for key in keys:
                if body is not None or key not in self._missing:
                    self._missing[key] = body

    def strike(self, key: str) -> None:
        """It was written there after all."""
        with self._changed:
            self._missing.pop(key, None)
            self._changed.notify_all()

    def begin(self) -> bool:
        """Carry in a thread of its own, unless one does, nothing is missing, or it rests; whether it began."""
        with self._changed:
            if self._carrier or not self._missing or self.circuit.rests:
                return False
            self._carrier = threading.Thread(target=self._run, daemon=True, name="ledger-courier")
            self._carrier.start()
        return True

    def wait(self, prefix: str, patience_seconds: float) -> None:
        """Wait, at most so long, until nothing below `prefix` is missing or nobody carries."""
        deadline = time.monotonic() + patience_seconds
        with self._changed:
            while self._carrier and any(key.startswith(prefix) for key in self._missing):
                left = deadline - time.monotonic()
                if left <= 0:
                    return
                self._changed.wait(left)
        if self._defect is not None:
            raise self._defect

    def may_follow(self, prefix: str, patience_seconds: float) -> bool:
        """Whether a record may be written there behind those below `prefix`: they were carried there within the
        patience, or no copy that answers has them. Of a copy that was silent the carrying finds out, not the record.
        """
        scouting = bool(self.circuit.trouble)
        if self.lacks("" if scouting else prefix):
            self.begin()
            self.wait("" if scouting else prefix, patience_seconds)
        with self._changed:
            if self._carrier is None and not self.circuit.rests:
                return True
            return not self.circuit.trouble and not any(key.startswith(prefix) for key in self._missing)

    def carry(self) -> int:
        """Carry all that is missing and can be had, here and now; gives how many documents. Ends at a silence."""
        carried = 0
        tried: set[str] = set()
        while batch := self._batch(tried):
            for key, known in batch:
                tried.add(key)
                body = known if known is not None else self._fetch(key)
                if body is None:
                    continue  # no other copy answers with it now; it stays missing
                stored = self.circuit.ask(
                    lambda key=key, body=body: self._copy(key, body),  # type: ignore[misc]
                    silence=DrError,
                )
                if stored is None:
                    return carried
                if stored[0] == "conflict":
                    self.conflicts.add(key)
                carried += stored[0] == "copied"
                self.strike(key)
        return carried

    def _batch(self, tried: set[str]) -> list[tuple[str, bytes | None]]:
        with self._changed:
            found = sorted((each for each in self._missing.items() if each[0] not in tried), key=lambda each: each[0])
            if not found:
                self._rest()  # in the same breath, so that who notes the next key finds nobody who carries
            return found

    def _run(self) -> None:
        try:
            self.carry()
        except Exception as defect:  # noqa: BLE001 -- raised to whoever waits next: a thread has nobody to tell
            self._defect = defect
        finally:
            with self._changed:
                self._rest()

    def _rest(self) -> None:
        if self._carrier is threading.current_thread():
            self._carrier = None
            self._changed.notify_all()

    def _copy(self, key: str, body: bytes) -> str:
        """Put it there. Where two drivers wrote one run apart from each other, the one's records are not put behind the
        other's: each copy stays whole as it is, since nothing is ever taken out of it again."""
        before = comes_behind(key, body)
        if before is not None and before != self._carried:
            there = self.ledger.get(before[0])
            if before[0] in self.conflicts or (there is not None and sha256(there).hexdigest() != before[1]):
                return "conflict"
        found = "copied"
        try:
            self.ledger.put(key, body)
        except AlreadyThere:
            found = "same" if self.ledger.get(key) == body else "conflict"
        if found != "conflict":
            self._carried = (key, sha256(body).hexdigest())
        return found

    def forked(self, folder: str) -> bool:
        """Whether other documents were met there than the other copies hold below `folder`."""
        return any(key.startswith(folder) for key in self.conflicts)
