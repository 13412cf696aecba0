"""Where a home keeps its terms: at the witness, and nowhere when there is none. Leashes' words lie there too.

Separate because fence, unfence and looking all ask it, each with a patience of its own.
"""

from __future__ import annotations

from pydantic import ValidationError

from recovery.catalog import Member
from recovery.epoch import Change, change_key
from recovery.errors import DrError, Failed
from recovery.plan import Plan
from recovery.term import Leashed, Term, leashed_key, strictest
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


def words(
    home: Home, resource: str, members: tuple[tuple[str, Member], ...], *, timeout_seconds: float
) -> tuple[Leashed, ...]:
    """The words of the leashes of all these members; none when one of them never had a leash, or took its word back.
    Raises Failed when the witness does not answer."""
    place = small(home, timeout_seconds=timeout_seconds)
    if place is None:
        return ()
    found: list[Leashed] = []
    for name, _ in members:
        body = place.get(leashed_key(resource, name))
        if body is None:
            return ()
        found.append(leashed_of(body))
    return tuple(found)


def leashed(
    home: Home, resource: str, members: tuple[tuple[str, Member], ...], *, timeout_seconds: float
) -> Leashed | None:
    """The words of all these members as the strictest of them; None as for `words`. Raises Failed."""
    found = words(home, resource, members, timeout_seconds=timeout_seconds)
    return strictest(found) if found else None


def take_back(home: Home, resource: str, members: tuple[tuple[str, Member], ...], *, timeout_seconds: float) -> None:
    """No lapsed lease of these members fences any more, until their leashes are at the witness again. Raises Failed."""
    place = small(home, timeout_seconds=timeout_seconds)
    if place is not None:
        for name, _ in members:
            place.delete(leashed_key(resource, name))


def since(home: Home, plan: Plan, resource: str) -> int:
    """The generation in which the site that the plan leaves became the primary of a database; 0 where it always was.
    What can't be read counts as a change of this very epoch: nothing older is believed."""
    if plan.epoch == 0:
        return 0
    try:
        body = home.ledger().get(change_key(plan.service, plan.epoch))
        change = Change.model_validate_json(body or b"")
    except (DrError, ValidationError):
        return plan.epoch
    return plan.epoch if resource in change.databases else 0
