"""Who may be a database's primary: the term as a value, and the decision whether this site's server may run. Pure.

Separate from lease.py (who may drive a service): a term has no owner and no expiry. It says which site is the primary
from a generation on; what lapses is the old primary's permit, which lives only as long as it can confirm that there is
no newer term (TRUTH.md, fence).
"""

from __future__ import annotations

from dataclasses import dataclass
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


def leashed_key(resource: str, member: str) -> str:
    """Where a leash's word lives in the bucket of leases."""
    return f"leash/{resource}/{member}.json"


def wait_seconds(leashed: Leashed, *, lease_seconds: float, clock_bound_seconds: float) -> float:
    """How long after the term is written everywhere a leash's permit may still last: the longer of what the leash says
    and what the catalog says, and the bound of the clocks."""
    return max(leashed.lease_seconds, lease_seconds) + max(leashed.clock_bound_seconds, clock_bound_seconds)
