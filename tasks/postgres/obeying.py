"""The part of an agent that obeys: orders, its own copy of the term, its leash. Put together from its configuration.

Separate from agent.py, which archives and ships: what obeys must work when nothing else does.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import JsonValue

from recovery.errors import BadInput, DrError
from tasks.postgres.agent_config import AgentConfig
from tasks.postgres.agent_http import Door
from tasks.postgres.leash_control import LeashControl
from tasks.postgres.orders import Orders
from tasks.postgres.stopping import Home
from tasks.postgres.terms import Asking, OwnTerm

WITNESS_SECONDS = 0.4
"""How long an answer about the term waits for the witness, at most: a leash that asks waits a quarter of its lease."""
LEASH_SECONDS = 0.5
BARRED_SECONDS = 1.0


@dataclass(kw_only=True)
class Obeying:
    """Orders and terms of one agent."""

    config: AgentConfig
    orders: Orders
    home: Home
    asking: Asking
    _barred: tuple[str, float] = ("", float("-inf"))

    def open(self, door: Door) -> None:
        """Its routes: POST /orders, GET /orders/ID?wait=SECONDS, GET /term?resource=NAME."""
        door.add("POST", "/orders", lambda _query, body: self.orders.post(body))
        door.add("GET", "/orders/", lambda query, _body: self.orders.get(query["below"], _seconds(query)))
        door.add("GET", "/term", lambda query, _body: self._term(query))

    def run(self, stop: threading.Event) -> None:
        """Go on with what was underway when the agent was killed."""
        self.orders.load()
        stop.wait()

    def status(self) -> dict[str, JsonValue]:
        """For the agent's status: `leash` (null without one), `term`, orders underway."""
        own = self.home.own.read()
        return {
            "leash": self._leash(),
            "term": None if own is None else own.model_dump(mode="json"),
            "orders": list(self.orders.underway()),
            "barred": self.barred(),
        }

    def barred(self) -> str:
        """Why this site's server may not archive any more, or nothing: another site is the primary by the newest term
        that is known here or at the witness. Asked at most once in BARRED_SECONDS, each time for a bounded while."""
        told, at = self._barred
        if time.monotonic() - at < BARRED_SECONDS:
            return told
        said = self.asking.answer()
        term = said.get("term") if isinstance(said, dict) else None
        told = ""
        if isinstance(term, dict) and term["primary"] != self.config.site:
            told = f"{term['primary']} is the primary since generation {term['generation']}"
        self._barred = (told, time.monotonic())
        return told

    def _term(self, query: Mapping[str, str]) -> JsonValue:
        if query.get("resource") != self.config.resource:
            raise BadInput(f"this agent is of {self.config.resource}", hint="ask GET /term?resource=NAME")
        return self.asking.answer()

    def _leash(self) -> dict[str, Any] | None:
        if self.home.leash is None:
            return None
        try:
            return {"answers": True, **self.home.leash.status(patience_seconds=LEASH_SECONDS)}
        except DrError as trouble:
            return {"answers": False, "why": trouble.fact}


def obey(config: AgentConfig) -> Obeying:
    """Put it together; nothing is asked of anybody yet."""
    from tasks.postgres.roles import at_home

    own = OwnTerm(path=config.state_dir / f"term-{config.resource}.json")
    home = Home(config=config, own=own, leash=LeashControl(path=config.leash) if config.leash else None)
    witness = config.witness.small(min(WITNESS_SECONDS, config.lease_seconds / 8)) if config.witness else None
    orders = Orders(
        folder=config.state_dir / "orders",
        site=config.site,
        resource=config.resource,
        trusted=config.trusted,
        handlers={**home.handlers(), **at_home.handlers(home)},
    )
    return Obeying(
        config=config, orders=orders, home=home, asking=Asking(own=own, resource=config.resource, witness=witness)
    )


def _seconds(query: Mapping[str, str]) -> float:
    try:
        return max(0.0, float(query.get("wait", "0")))
    except ValueError:
        raise BadInput("`wait` is no number", hint="write seconds, like ?wait=2") from None
