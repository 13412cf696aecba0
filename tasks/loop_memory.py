"""What a loop remembers from one look to the next: the journal as it is folded so far, and what held a moment ago.

Separate from the loop because it is only speed: without it every look would read the whole journal and see all anew.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from recovery.drive import History, Seen
from recovery.journal import history, results
from tasks.journal import Journal
from tasks.kind import Facts

FRESH_SECONDS = 0.25
"""What held this short a time ago is taken to hold: it bounds how often the truths of a long plan are looked at, and is
far below the clock bound of any lease that a fence relies on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """The journal folded up to a record: at each look only what was added since is read."""

    count: int = 0
    past: History = field(default_factory=History)
    results: Mapping[str, Facts] = field(default_factory=dict)
    attempts: Mapping[str, int] = field(default_factory=dict)
    confirmed: Mapping[str, str] = field(default_factory=dict)

    def and_since(self, journal: Journal) -> Told:
        """With what was added since."""
        added = journal.records(self.count)
        if not added:
            return self
        past = history(added, self.past)
        touched = {str(record.facts["step"]) for record in added if "step" in record.facts}
        fresh = {step: found for step, found in results(added).items() if isinstance(found, dict)}
        confirmed = {name: past.of(name).confirmed for name in touched if past.of(name).confirmed}
        return Told(
            count=self.count + len(added),
            past=past,
            results={**self.results, **fresh},
            attempts={**self.attempts, **{name: past.of(name).begun for name in touched}},
            confirmed={**self.confirmed, **confirmed},
        )


@dataclass(kw_only=True, slots=True)
class Held:
    """What was seen to hold a moment ago, and is taken to hold still. Each is forgotten when its moment has passed."""

    _seen: dict[str, Seen] = field(default_factory=dict)
    _looks: deque[tuple[float, str, Seen]] = field(default_factory=deque)

    @property
    def names(self) -> AbstractSet[str]:
        """Which steps."""
        return self._seen.keys()

    def fresh(self) -> dict[str, Seen]:
        """What is fresh enough still; what is not is forgotten."""
        oldest = time.monotonic() - FRESH_SECONDS
        while self._looks and self._looks[0][0] <= oldest:
            _, name, seen = self._looks.popleft()
            if self._seen.get(name) is seen:  # else it was looked at again, or dropped
                del self._seen[name]
        return dict(self._seen)

    def add(self, name: str, seen: Seen) -> None:
        """It holds now."""
        self._seen[name] = seen
        self._looks.append((time.monotonic(), name, seen))

    def drop(self, name: str) -> None:
        """It may hold no longer."""
        self._seen.pop(name, None)

    def clear(self) -> None:
        """Look at everything anew."""
        self._seen.clear()
        self._looks.clear()
