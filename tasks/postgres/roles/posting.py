"""Posting a term: at the witness and at every agent that could still confirm an older one, all at once.

Separate from the fence because a lease lapses only from the moment at which everybody who could renew it knows better:
that moment is what this gives.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from recovery.catalog import Member
from recovery.errors import DrError
from recovery.term import Term
from tasks.postgres.order_client import Agent, Done, Silent
from tasks.postgres.terms import WitnessTerms

AGENT_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Posted:
    """Where the term is known now, and why not elsewhere. `at_mono`: when the last of them had it (monotonic)."""

    term: Term
    at_mono: float
    witness: str
    """Empty: written there; else why not."""
    agents: Mapping[str, str]
    """Site → empty when its agents have it, else why not."""

    def lacking(self, sites: tuple[str, ...], witness_site: str | None) -> dict[str, str]:
        """Of the sites at which somebody confirms, those that don't know the term, with why."""
        told = {site: self.witness if site == witness_site else self.agents.get(site, "no agent") for site in sites}
        return {site: why for site, why in told.items() if why}


@dataclass(frozen=True, kw_only=True, slots=True)
class Post:
    """How a term is posted. `agents`: by site, those whose word a leash may take. `order_id` names the orders."""

    witness: WitnessTerms | None
    agents: tuple[tuple[str, Agent], ...]
    order_id: str

    def __call__(self, wanted: Term, *, unconfirmed: bool = False, through_witness: bool = False) -> Posted:
        """Post it. `through_witness`: while that has it not, no agent is told either; nothing could come of it but that
        the old primary's leash hears of it there and stops, for a fence that is then refused. Raises Refused when a
        newer term stands at the witness."""
        told: dict[str, str] = {}
        witness = "the catalog has no witness"
        if self.witness is not None:
            store = self.witness
            witness, wanted = _at_witness(lambda: store.write(wanted), wanted)
        if witness and through_witness:
            not_told = {site: "not told, since the witness does not have it" for site, _ in self.agents}
            return Posted(term=wanted, at_mono=time.monotonic(), witness=witness, agents=not_told)
        with ThreadPoolExecutor(max_workers=max(1, len(self.agents))) as pool:
            answers = [
                (site, pool.submit(self._send, number, site, agent, wanted, unconfirmed))
                for number, (site, agent) in enumerate(self.agents)
            ]
            for site, answer in answers:
                told[site] = told.get(site, "") or answer.result()
        return Posted(term=wanted, at_mono=time.monotonic(), witness=witness, agents=told)

    def _send(self, number: int, site: str, agent: Agent, term: Term, unconfirmed: bool) -> str:
        try:
            said = agent.order(
                f"{self.order_id}-term-{number}{'-unconfirmed' if unconfirmed else ''}",
                "term",
                resource=term.resource,
                site=site,
                generation=term.generation,
                run=term.run,
                arguments={"term": term.model_dump(mode="json"), "unconfirmed": unconfirmed},
                patience_seconds=AGENT_SECONDS,
            )
        except DrError as trouble:
            return trouble.fact
        match said:
            case Done():
                return ""
            case Silent(why=why):
                return why


def _at_witness(write: Callable[[], Term], wanted: Term) -> tuple[str, Term]:
    from recovery.errors import Refused

    try:
        return "", write()
    except Refused:
        raise
    except DrError as trouble:
        return trouble.fact, wanted


def agents_of(members: tuple[tuple[str, Member], ...], make: Callable[[str], Agent]) -> tuple[Agent, ...]:
    """The agents of these members, each once."""
    return tuple(make(url) for url in dict.fromkeys(each.agent for _, each in members if each.agent))
