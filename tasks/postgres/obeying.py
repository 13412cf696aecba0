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
from recovery.term import leashed_key
from tasks.postgres.agent_config import AgentConfig
from tasks.postgres.agent_http import Door
from tasks.postgres.agent_memory import Alerts
from tasks.postgres.leash_control import LeashControl, gone
from tasks.postgres.orders import Orders
from tasks.postgres.stopping import Home, control_state, servers_in, under_a_leash
from tasks.postgres.terms import Asking, OwnTerm, WitnessTerms, read_small

WITNESS_SECONDS = 0.4
"""How long an answer about the term waits for the witness, at most: a leash that asks waits a quarter of its lease."""
LEASH_SECONDS, AT_WITNESS_SECONDS = 0.5, 3.0
BARRED_SECONDS = 1.0


@dataclass(kw_only=True)
class Obeying:
    """Orders and terms of one agent."""

    config: AgentConfig
    alerts: Alerts
    orders: Orders
    home: Home
    asking: Asking
    _barred: tuple[str, float] = ("", float("-inf"))

    def open(self, door: Door) -> None:
        """Its routes: POST /orders, GET /orders/ID?wait=SECONDS, GET /term?resource=NAME."""
        self.orders.read()
        door.add("POST", "/orders", lambda _query, body: self.orders.post(body))
        door.add("GET", "/orders/", lambda query, _body: self.orders.get(query["below"], _seconds(query)))
        door.add("GET", "/term", lambda query, _body: self._term(query))

    def run(self, stop: threading.Event) -> None:
        """Go on with what was underway when the agent was killed; then watch over term and leash."""
        self.orders.load()
        while not stop.wait(self.config.lease_seconds):
            self._told("leash", self._unleashed())
            self._told("term", self._carry())

    def _told(self, subject: str, trouble: tuple[str, str] | None) -> None:
        if trouble is None:
            self.alerts.over(subject)
        else:
            self.alerts.tell(subject, *trouble)

    def _unleashed(self) -> tuple[str, str] | None:
        """A primary that runs under no leash, though it should: then its leash's word at the witness is taken back,
        since no fence may rely on it."""
        config = self.config
        opened = control_state(config.data_dir) == "in production"  # then a signal file is for its next start
        standby = not opened and (config.data_dir / "standby.signal").exists()
        if standby or not self._beside() or not servers_in(config.data_dir):
            return None
        kept = "its word at the witness was taken back"
        if config.witness is not None:
            try:
                config.witness.small(AT_WITNESS_SECONDS).delete(leashed_key(config.resource, config.named))
            except DrError as trouble:
                kept = trouble.fact
        hint = "start it by its leash (python -m tasks.postgres.leash); until then no lapsed lease fences it"
        return f"Postgres of {config.site} runs without its leash; {kept}", hint

    def _beside(self) -> bool:
        """Whether no leash is there (any more), or its own word is that what runs is not its child."""
        leash = self.config.leash
        if leash is None:
            return not under_a_leash(self.config.data_dir) and self._worded()
        return gone(leash) or (self._leash() or {}).get("foreign") is True

    def _worded(self) -> bool:
        """Whether the witness has the word of a leash that this agent was never told of, or that was uninstalled."""
        place = self.config.witness
        try:
            key = leashed_key(self.config.resource, self.config.named)
            return place is not None and place.small(AT_WITNESS_SECONDS).get(key) is not None
        except DrError:
            return False  # asked again soon

    def _carry(self) -> tuple[str, str] | None:
        """A term that this agent was told of while the witness was silent is written there as soon as that answers."""
        mine, place = self.home.own.read(), self.config.witness
        if mine is None or place is None:
            return None
        try:
            theirs = read_small(place.small(AT_WITNESS_SECONDS), self.config.resource)
            if theirs is None or theirs.order < mine.order:
                WitnessTerms(store=place.open(AT_WITNESS_SECONDS)).carry(mine)
        except DrError as trouble:
            return trouble.fact, trouble.hint
        return None

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

    def kept_down(self) -> str:
        """Why this site's server is kept stopped on purpose, or nothing: its leash holds it; without a leash that
        answers, another site is the primary by the newest term, and no standby's data lies here."""
        leash = self._leash()
        if leash is not None and leash["answers"]:
            return str(leash.get("why", "")) if leash.get("state") == "held" else ""
        standby = (self.config.data_dir / "standby.signal").exists()
        return "" if standby or servers_in(self.config.data_dir) else self.barred()

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


def obey(config: AgentConfig, alerts: Alerts) -> Obeying:
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
        config=config,
        alerts=alerts,
        orders=orders,
        home=home,
        asking=Asking(own=own, resource=config.resource, witness=witness),
    )


def _seconds(query: Mapping[str, str]) -> float:
    try:
        return max(0.0, float(query.get("wait", "0")))
    except ValueError:
        raise BadInput("`wait` is no number", hint="write seconds, like ?wait=2") from None
