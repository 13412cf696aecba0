"""One endpoint's dealings with the four others: read or change the states with a majority, within a patience."""

from __future__ import annotations

import http.client
import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from typing import Any

from deployments.lab.arc.replica import Ballot, Replica, State, newest

ASK_SECONDS = 0.5
"""How long another endpoint may take; one that sleeps costs nothing as long as a majority answers."""
PATIENCE_SECONDS = 1.5
Peer = tuple[str, int]


class NoMajority(Exception):
    """Fewer than three of the five answered in time: nothing can be read or written here now."""


class Cluster:
    """The cluster as endpoint number `number` (1…5) sees it; `peers` are the addresses of the others."""

    def __init__(self, number: int, replica: Replica, peers: Sequence[Peer], first: Mapping[str, bool]) -> None:
        self.number, self.replica, self.peers, self.first = number, replica, tuple(peers), dict(first)
        self.majority = (len(peers) + 1) // 2 + 1
        self._pool = ThreadPoolExecutor(64, thread_name_prefix="arc")
        self._highest = replica.promised[0]

    def change(self, by: Callable[[State], State]) -> State:
        """Apply `by` to the agreed states; what it raises ends the change. Raises NoMajority past the patience."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            self._highest += 1
            ballot = (self._highest, self.number)
            promises = self._all("promise", {"ballot": ballot}, self.replica.promise(ballot))
            if len(promises) >= self.majority:
                state = by({**self.first, **(newest(promises) or {})})
                took = self._all("accept", {"ballot": ballot, "state": state}, self.replica.accept(ballot, state))
                if len(took) >= self.majority:
                    return state
            time.sleep(random.uniform(0.005, 0.05))  # noqa: S311 -- two writers step aside by chance
        raise NoMajority

    def _all(self, what: str, asked: dict[str, Any], own: dict[str, Any]) -> list[dict[str, Any]]:
        """The yes answers of a majority, as soon as there is one; fewer when no more come."""
        pending = [self._pool.submit(_ask, peer, what, asked) for peer in self.peers]
        yes = [own] if self._learned(own)["ok"] else []
        try:
            for each in as_completed(pending, timeout=ASK_SECONDS):
                said = each.result()
                if said is not None and self._learned(said)["ok"]:
                    yes.append(said)
                if len(yes) >= self.majority:
                    return yes
        except TimeoutError:
            return yes
        return yes

    def _learned(self, said: dict[str, Any]) -> dict[str, Any]:
        if not said["ok"]:
            self._highest = max(self._highest, int(said["promised"][0]))
        return said


def _ask(peer: Peer, what: str, asked: Mapping[str, Any]) -> dict[str, Any] | None:
    """Another endpoint's answer; None when it gives none."""
    try:
        with closing(http.client.HTTPConnection(*peer, timeout=ASK_SECONDS)) as line:
            line.request("POST", f"/replica/{what}", json.dumps(asked))
            said: dict[str, Any] = json.loads(line.getresponse().read())
            return said
    except (OSError, ValueError, http.client.HTTPException):
        return None


def ballot_of(asked: Mapping[str, Any]) -> Ballot:
    """The ballot in a request."""
    return int(asked["ballot"][0]), int(asked["ballot"][1])
