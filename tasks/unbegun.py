"""A proof that could not begin, on record: a run of its own without any step. That nothing was proven is evidence.

Separate from proving.py, which has a plan to act on.
"""

from __future__ import annotations

from typing import Protocol

from pydantic import JsonValue

from recovery.errors import DrError
from recovery.journal import RUN_BEGUN
from recovery.proof import Proof, not_made
from recovery.value import rfc3339, sha256_of
from tasks.home import Home
from tasks.journal import Journal


class Asked(Protocol):
    """What was to be proven, as far as its record tells it."""

    @property
    def resource(self) -> str:
        """Its name in the catalog."""
        ...

    @property
    def sort(self) -> str:
        """Which point: mark, latest, random."""
        ...

    @property
    def level(self) -> str:
        """How deep."""
        ...

    @property
    def mutate(self) -> str | None:
        """The fault to plant, if any."""
        ...


def not_begun(home: Home, wanted: Asked, trouble: DrError) -> Proof:
    """The document, unproven with its reason, and its run. Raises what the ledger raises."""
    now = home.now()
    asked: dict[str, JsonValue] = {"resource": wanted.resource, "sort": wanted.sort, "level": wanted.level}
    if wanted.mutate:
        asked["mutate"] = wanted.mutate
    run = sha256_of({"proof": asked, "at": rfc3339(now), "who": home.who})
    kind = home.resource(wanted.resource).kind
    told = not_made(
        resource=wanted.resource, kind=kind, sort=wanted.sort, fact=trouble.fact, hint=trouble.hint, now=now
    ).but(run=run)
    journal = Journal(home.ledger(), run, who=home.who, generation=0, clock=home.now)
    journal.append(RUN_BEGUN, wanted.resource, facts={"purpose": "prove", "arguments": asked})
    facts: dict[str, JsonValue] = told.model_dump(mode="json")
    journal.append("proof", wanted.resource, facts=facts, end=home.now())
    journal.end(told.verdict.value, home.signer())
    return told
