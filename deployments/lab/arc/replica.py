"""One endpoint's replica of the routing controls' states, and what a set of replicas agrees on.

The five agree as CASPaxos does: a ballot is promised by a majority, the accepted value of the highest ballot is changed
and accepted by a majority. So a write that was acknowledged survives any two endpoints, an endpoint that was down or
stopped never brings an old state back, and with three down nothing can be written: exactly ARC's promise. No clock and
no lock takes part. The replica is on disk before it answers.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Ballot = tuple[int, int]
"""A counter, then the endpoint's number, so that no two endpoints ever have the same."""
NONE: Ballot = (0, 0)
State = dict[str, bool]
"""Routing control's ARN → on or off."""


class Replica:
    """The replica in a file: {"promised": [n, i], "accepted": [n, i], "state": {...}}."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        found = json.loads(path.read_text()) if path.exists() else {}
        self.promised: Ballot = _ballot(found.get("promised"))
        self.accepted: Ballot = _ballot(found.get("accepted"))
        self.state: State | None = found.get("state")

    def promise(self, ballot: Ballot) -> dict[str, Any]:
        """Promise to accept nothing below this ballot; tells what was accepted. A lower one than promised: refused."""
        with self._lock:
            if ballot <= self.promised:
                return {"ok": False, "promised": self.promised}
            self.promised = ballot
            self._keep()
            return {"ok": True, "accepted": self.accepted, "state": self.state}

    def accept(self, ballot: Ballot, state: State) -> dict[str, Any]:
        """Accept the state, unless a higher ballot was promised since."""
        with self._lock:
            if ballot < self.promised:
                return {"ok": False, "promised": self.promised}
            self.promised, self.accepted, self.state = ballot, ballot, dict(state)
            self._keep()
            return {"ok": True}

    def _keep(self) -> None:
        fresh = self.path.with_suffix(".new")
        fresh.write_text(json.dumps({"promised": self.promised, "accepted": self.accepted, "state": self.state}))
        fresh.replace(self.path)


def newest(answers: Sequence[Mapping[str, Any]]) -> State | None:
    """The state of the highest accepted ballot among promises; None when nothing was ever accepted."""
    best = max(answers, key=lambda each: _ballot(each["accepted"]), default=None)
    return dict(best["state"]) if best is not None and best["state"] is not None else None


def agreed(replicas: Sequence[Mapping[str, Any]], *, of: int) -> State | None:
    """What a majority of `of` replicas has accepted with one ballot: Route53 acts on that. None: nothing was."""
    votes: dict[Ballot, list[State]] = {}
    for each in replicas:
        if each.get("state") is not None:
            votes.setdefault(_ballot(each.get("accepted")), []).append(dict(each["state"]))
    for ballot in sorted(votes, reverse=True):
        if ballot != NONE and len(votes[ballot]) > of // 2:
            return votes[ballot][0]
    return None


def _ballot(found: Any) -> Ballot:
    return (int(found[0]), int(found[1])) if found else NONE
