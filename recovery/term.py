"""Who may be a database's primary: the term as a value, and the decision whether this site's server may run. Pure.

Separate from lease.py (who may drive a service): a term has no owner and no expiry. It says which site is the primary
from a generation on; what lapses is the old primary's permit, which lives only as long as it can confirm that there is
no newer term (TRUTH.md, fence).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from recovery.step import Name
from recovery.value import Instant, Value


class Term(Value):
    """Since `generation` (the plan's epoch plus one), `primary` is the only site that may write. `turn` counts changes
    of mind inside one generation: a change that was given up, and the next one made in the same epoch. `lease` is the
    generation of the lease under which it was written (0: by hand)."""

    schema_version: Literal[1] = 1
    resource: Name
    generation: Annotated[int, Field(ge=1)]
    turn: Annotated[int, Field(ge=0)] = 0
    primary: Name
    run: str
    lease: Annotated[int, Field(ge=0)] = 0
    at: Instant

    @property
    def order(self) -> tuple[int, int]:
        """What terms are compared by."""
        return self.generation, self.turn


@dataclass(frozen=True, kw_only=True, slots=True)
class Write:
    """Write this term, by compare-and-put."""

    term: Term


@dataclass(frozen=True, kw_only=True, slots=True)
class Ours:
    """The stored term says so already."""

    term: Term


@dataclass(frozen=True, kw_only=True, slots=True)
class Overtaken:
    """A newer change has been begun: ours may not go on."""

    by: Term


def newest(*terms: Term | None) -> Term | None:
    """The newest of those that are known."""
    return max((each for each in terms if each is not None), key=lambda each: each.order, default=None)


def next_term(stored: Term | None, wanted: Term) -> Write | Ours | Overtaken:
    """What is to be done so that `wanted` holds, in its turn or a later one. An engine that slept while another took
    its lease changes nothing. Raises ValueError for another resource."""
    if stored is None:
        return Write(term=wanted)
    if stored.resource != wanted.resource:
        raise ValueError(f"the term is of {stored.resource}, not of {wanted.resource}")
    if stored.generation > wanted.generation or stored.lease > wanted.lease:
        return Overtaken(by=stored)
    if stored.generation < wanted.generation:
        return Write(term=wanted)
    if stored.primary == wanted.primary:
        return Ours(term=stored)
    return Write(term=wanted.but(turn=max(wanted.turn, stored.turn + 1)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Permit:
    """For how much longer the server may write without asking again. `trusted`: the generation for which people signed
    the split-brain hazard, so that it runs without a permit as long as nothing newer is known."""

    left_seconds: float | None = None
    """None: never confirmed since this process began."""
    trusted: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """The server may run; `why` for people."""

    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Hold:
    """The server may not run. `final` until a newer term, a standby's data or a person changes it; else until a
    confirmation comes."""

    why: str
    final: bool


def may_run(site: str, *, standby: bool, held: str, known: Term | None, permit: Permit) -> Run | Hold:
    """Whether a site's server may run now. `held`: why an order keeps it stopped, or nothing. `known`: the newest term
    that this site ever heard of. A standby can write nothing, so that it needs no permit."""
    if held:
        return Hold(why=held, final=True)
    if standby:
        return Run(why="a standby needs no permit")
    if known is not None and known.primary != site:
        why = f"{known.primary} is the primary of {known.resource} since generation {known.generation}"
        return Hold(why=why, final=True)
    if permit.trusted is not None and (known is None or known.generation <= permit.trusted):
        return Run(why=f"it may run unconfirmed in generation {permit.trusted}")
    if permit.left_seconds is None or permit.left_seconds <= 0:
        when = "has confirmed yet" if permit.left_seconds is None else "confirms any more"
        return Hold(why=f"nobody {when} that there is no newer primary", final=False)
    return Run(why="confirmed" if known is None else f"confirmed in generation {known.generation}")


def term_key(resource: str) -> str:
    """Where a resource's term lives in the bucket of leases."""
    return f"terms/{resource}.json"


class Leashed(Value):
    """A leash's own word, kept at the witness: this member's server runs only as its child. Written before the server
    starts, renewed while it runs; it stands when the site is lost."""

    schema_version: Literal[1] = 1
    resource: Name
    site: Name
    member: Name
    lease_seconds: Annotated[float, Field(gt=0)]
    clock_bound_seconds: Annotated[float, Field(gt=0)]
    asks: tuple[Name, ...]
    """The sites at which it confirms: the witness, and other sites by their agents."""
    at: Instant
    generation: Annotated[int, Field(ge=0)] = 0
    """The newest generation of roles that it knew then."""
    system_id: str = ""
    """The system of its data; empty while there is none."""

    def binds_like(self, other: Leashed) -> bool:
        """Whether both bind a server alike: when they were said, and what was known then, may differ."""
        return self.but(at=other.at, generation=other.generation) == other


def leashed_key(resource: str, member: str) -> str:
    """Where a leash's word lives in the bucket of leases."""
    return f"leash/{resource}/{member}.json"


WORD_SECONDS = 60.0
"""How often a leash renews its word at the witness."""


def strictest(words: Collection[Leashed]) -> Leashed:
    """The words of the leashes of one site as one: what holds for all of them."""
    first = next(iter(words))
    return first.but(
        lease_seconds=max(each.lease_seconds for each in words),
        clock_bound_seconds=max(each.clock_bound_seconds for each in words),
        asks=tuple(sorted({site for each in words for site in each.asks})),
    )


def doubt(
    words: Collection[Leashed], *, site: str, system_id: str = "", since: int = 0, committed_at: datetime | None = None
) -> str:
    """Why the lapsed leases of these words prove no end of the primary at `site`; empty: they do.

    A word says what was so when it was said. `system_id` is the primary's, `since` the generation in which it became
    that, `committed_at` its newest commit that is known: a server that went on committing long after its leash renewed
    its word for the last time may have no leash any more.
    """
    for each in words:
        name, silent = each.member, 2 * WORD_SECONDS + each.lease_seconds
        if site in each.asks:
            return f"the leash of {name} lets its own site confirm it: cut off, it would never end"
        if system_id and each.system_id not in ("", system_id):
            return f"the leash of {name} holds a server of system {each.system_id}, not of {system_id}"
        if each.generation < since:
            return (
                f"the leash of {name} has not been at the witness since {site} is the primary, by generation {since}:"
                " people may have let it run unconfirmed"
            )
        if committed_at is not None and (late := (committed_at - each.at).total_seconds()) > silent:
            return (
                f"the leash of {name} renewed its word {late:.0f} s before the last commit that is known of {site}, and"
                f" it does so every {WORD_SECONDS:g} s: the server may run without it"
            )
    return ""


def wait_seconds(leashed: Leashed, *, lease_seconds: float, clock_bound_seconds: float) -> float:
    """How long after the term is written everywhere a leash's permit may still last: the longer of what the leash says
    and what the catalog says, and the bound of the clocks."""
    return max(leashed.lease_seconds, lease_seconds) + max(leashed.clock_bound_seconds, clock_bound_seconds)
