"""Where a home keeps its terms: at the witness, and nowhere when there is none. Leashes' words lie there too.

Separate because fence, unfence and looking all ask it, each with a patience of its own.
"""

from __future__ import annotations

from recovery.catalog import Member
from recovery.errors import Failed
from recovery.term import Leashed, Term, leashed_key
from tasks.home import Home
from tasks.postgres.terms import WitnessTerms, leashed_of, read_small
from tasks.s3_small import SmallObjects

WRITE_SECONDS = 3.0


def witness_site(home: Home) -> str | None:
    """The third place that holds the leases; None when the catalog has none: then no lease can fence."""
    where = home.catalog.ledger.home
    site = home.catalog.sites.get(where)
    return where if site is not None and site.role == "witness" else None


def terms(home: Home) -> WitnessTerms | None:
    """The terms, to be written."""
    site = witness_site(home)
    if site is None:
        return None
    return WitnessTerms(store=home.store(site, home.catalog.ledger.leases, patience_seconds=WRITE_SECONDS))


def small(home: Home, *, timeout_seconds: float) -> SmallObjects | None:
    """The bucket of leases for a quick look."""
    site = witness_site(home)
    if site is None:
        return None
    place = home.catalog.sites[site]
    return SmallObjects(
        endpoint=place.s3, bucket=home.catalog.ledger.leases, region=place.region, timeout_seconds=timeout_seconds
    )


def term_now(home: Home, resource: str, *, timeout_seconds: float) -> Term | None:
    """The term at the witness. Raises Failed when it does not answer, or there is none."""
    place = small(home, timeout_seconds=timeout_seconds)
    if place is None:
        raise Failed("the catalog has no witness", hint="add a third site with the role witness as the ledger's home")
    return read_small(place, resource)


def leashed(
    home: Home, resource: str, members: tuple[tuple[str, Member], ...], *, timeout_seconds: float
) -> Leashed | None:
    """The word of the leashes of all these members, as the strictest of them; None when one of them never had a leash.
    Raises Failed when the witness does not answer."""
    place = small(home, timeout_seconds=timeout_seconds)
    if place is None:
        return None
    words: list[Leashed] = []
    for name, _ in members:
        body = place.get(leashed_key(resource, name))
        if body is None:
            return None
        words.append(leashed_of(body))
    if not words:
        return None
    asks = tuple(sorted({site for each in words for site in each.asks}))
    longest = max(each.lease_seconds for each in words)
    return words[0].but(
        lease_seconds=longest, clock_bound_seconds=max(each.clock_bound_seconds for each in words), asks=asks
    )
