"""Looking at a service before anything is decided: every kind's eyes at once, joined into one observation. Facts only.

Separate from the kinds, which each see their own, and from deciding. Nothing here raises for silence: what did not
answer is a word in the observation, and what was asked is bounded, since a plan is wanted in the worst hour.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from pydantic import ValidationError

from recovery.binding import resources
from recovery.epoch import Change
from recovery.errors import DrError, Failed
from recovery.evidence import Record, manifest_key
from recovery.journal import outcome
from recovery.lease import Lease
from recovery.observation import (
    DnsSeen,
    FenceSeen,
    LedgerSeen,
    MemberSeen,
    Observation,
    ProbeSeen,
    UnfinishedSeen,
)
from tasks.engine import Act
from tasks.home import Home
from tasks.journal import read_records

T = TypeVar("T")


def changes(home: Home, service: str) -> tuple[Change, ...]:
    """The changes of roles that a service went through, oldest first. Which there are is asked each time; each is read
    once, since it never changes. Raises Failed for one that cannot be read."""
    ledger, known = home.ledger(), home.changes
    keys = list(ledger.list(f"epochs/{service}/"))
    if unread := [key for key in keys if key not in known]:
        with ThreadPoolExecutor(max_workers=8, thread_name_prefix="changes") as eyes:
            bodies = list(eyes.map(ledger.get, unread))
        for key, body in zip(unread, bodies, strict=True):
            try:
                known[key] = Change.model_validate_json(body or b"")
            except ValidationError:
                raise Failed(
                    f"the change of roles at {key} cannot be read",
                    hint="take it from a mirror of the ledger; without it nobody knows which site is primary",
                ) from None
    return tuple(sorted((known[key] for key in keys), key=lambda each: each.epoch))


def observe(home: Home, service: str, *, target: str | None = None, run: str = "") -> Observation:
    """All that a plan's making looks at, in about two seconds at most. `target`: the site that would take over (for the
    fence of the other). `run`: that run's own change of roles is not counted, so that it can be taken up again."""
    catalog, begun_at = home.catalog, home.now()
    with ThreadPoolExecutor(max_workers=16, thread_name_prefix="observe") as eyes:
        probes = eyes.submit(_probes, home, service)
        databases = resources(catalog, service, "database")
        members = {name: eyes.submit(_members, home, name) for name in databases}
        dns = {name: eyes.submit(_dns, home, name) for name in catalog.services[service].dns}
        ledger = eyes.submit(_ledger, home)
        lease = eyes.submit(_lease, home, service, run)
        capacity = eyes.submit(_capacity, home, service)
        likely = _likely(home, target)  # a silent copy of the ledger and a silent agent are then waited for at once
        fences = {name: eyes.submit(_fence, home, name, *likely) for name in databases}
        told = [each for each in changes(home, service) if each.run != run]
        primary = told[-1].primary if told else _written(home)
        to = target or next((name for name in _serving(home) if name != primary), primary)
        if (primary, to) != likely:
            fences = {name: eyes.submit(_fence, home, name, primary, to) for name in databases}
        return Observation(
            at=begun_at,
            service=service,
            primary=primary,
            epoch=told[-1].epoch if told else 0,
            running=lease.result()[0],
            unfinished=lease.result()[1],
            probes=probes.result(),
            members={name: each.result() for name, each in members.items()},
            fences={name: each.result() for name, each in fences.items()},
            dns={name: each.result() for name, each in dns.items()},
            ledger=ledger.result(),
            **capacity.result(),
        )


def _serving(home: Home) -> list[str]:
    return [name for name, site in home.catalog.sites.items() if site.role != "witness"]


def _likely(home: Home, target: str | None) -> tuple[str, str]:
    """The site that is left and the one that takes over, as they most likely are before the ledger has told which is
    primary: of two sites the other one of the target."""
    written = _written(home)
    to = target or next((name for name in _serving(home) if name != written), written)
    return next((name for name in _serving(home) if name != to), to), to


def _written(home: Home) -> str:
    """Before the first change of roles the catalog's word counts."""
    return next(name for name, site in home.catalog.sites.items() if site.role == "primary")


def _probes(home: Home, service: str) -> dict[str, ProbeSeen]:
    from tasks.service import look

    return look.probes(home, service)


def _members(home: Home, name: str) -> tuple[MemberSeen, ...]:
    from tasks.postgres.roles import look

    return look.members(home, name)


def _fence(home: Home, name: str, source: str, target: str) -> FenceSeen:
    from tasks.postgres.roles import look

    return look.fence(home, name, source, target)


def _dns(home: Home, name: str) -> DnsSeen:
    from tasks.route53 import look

    return look.dns(home, name)


def _capacity(home: Home, service: str) -> dict[str, Any]:
    """The instances at each site and the quotas that bound them; nothing is loaded or asked where there are none."""
    here, sites = home.catalog.services[service], _serving(home)
    if not here.compute:
        return {}
    from tasks.service import instances

    with ThreadPoolExecutor(max_workers=1) as eye:
        quotas = eye.submit(instances.vcpus, home.catalog, here, sites)
        seen = instances.look(home.catalog, here, sites)
    return {
        "capacity": seen,
        "vcpus": {site: each for site, each in quotas.result().items() if isinstance(each, float)},
    }


def _ledger(home: Home) -> LedgerSeen:
    from tasks.home import ledger_seen

    return ledger_seen(home)


def _lease(home: Home, service: str, run: str) -> tuple[dict[str, str], UnfinishedSeen | None]:
    """The service's lease and the run that holds it now, and the last run under it where that has not ended and is not
    `run`; a lease that could not be read is asked again at the act."""
    lease = _quietly(lambda: Act(home=home).leases().look(service))
    if lease is None:
        return {}, None
    left = _quietly(lambda: left_open(home, lease)) if lease.run != run else None
    over = lease.released or lease.expires_at <= home.now()
    return {} if over else {service: lease.run}, None if left is None else _unfinished(lease.run, left)


def _unfinished(run: str, records: tuple[Record, ...]) -> UnfinishedSeen:
    return UnfinishedSeen(run=run, runbook=str(records[0].facts.get("purpose", "")))


def left_open(home: Home, lease: Lease | None) -> tuple[Record, ...] | None:
    """The records of the last run under a lease, where it has begun and not ended; None where nothing is left open."""
    if lease is None or not lease.run or home.ledger().get(manifest_key(lease.run)) is not None:
        return None  # the usual case costs one question, not the reading of a whole run
    records = read_records(home.ledger(), lease.run)
    return records if records and outcome(records) is None else None


def _quietly(ask: Callable[[], T]) -> T | None:
    try:
        return ask()
    except DrError:
        return None
