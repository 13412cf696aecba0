"""Looks at a site's S3: reachable, its buckets there, versioned and locked as the catalog needs them; its clock.

Separate from preflight.py, which needs no network.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from recovery.catalog import Catalog, Site
from recovery.check import Check
from recovery.errors import DrError
from tasks import aws
from tasks.preflight import failed, passed, unproven, warned
from tasks.s3_store import open_store

LINE_SECONDS = 3.0
SKEW_SECONDS = 1.0
"""S3's Date header has whole seconds, so less can't be told by it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """A bucket that a site needs. `locked`: None when it doesn't matter, else whether object lock must be on."""

    bucket: str
    why: str
    versioned: bool = False
    locked: bool | None = None


def wanted_at(catalog: Catalog, site: str) -> tuple[Wanted, ...]:
    """The buckets that the catalog needs at a site, each once."""
    found: list[Wanted] = []
    for name, resource in catalog.resources.items():
        policy = catalog.backups[resource.backup]
        if site in policy.copies or site in resource.sites:
            found.append(Wanted(bucket=resource.bucket, why=f"backups of {name}"))
    if site == catalog.ledger.home or site in catalog.ledger.mirrors:
        found.append(Wanted(bucket=catalog.ledger.bucket, why="evidence", versioned=True, locked=True))
    if site in catalog.lease_sites:
        found.append(Wanted(bucket=catalog.ledger.leases, why="leases", locked=False))
    return tuple({each.bucket: each for each in found}.values())


def look(catalog: Catalog, site: str) -> tuple[Check, ...]:
    """All checks of one site's S3. Raises BadInput when no client can be made of the catalog's words."""
    place = catalog.sites[site]
    client = aws.client("s3", place.s3, region=place.region)
    found: list[Check] = []
    needed = wanted_at(catalog, site)
    for wanted in needed:
        checks, reached = _bucket(client, site, wanted)
        found += checks
        if not reached:
            break
        if wanted is needed[0]:
            found.append(_on_the_day(place, site, wanted))
    clock = f"{site} s3 clock"  # every bucket's answer tells it; once is enough, and the worst of them
    told = sorted((each for each in found if each.name == clock), key=lambda each: not each.findings)
    return (*(each for each in found if each.name != clock), *told[:1])


def _bucket(client: Any, site: str, wanted: Wanted) -> tuple[list[Check], bool]:
    name = f"{site} s3 {wanted.bucket}"
    answer = _asked(lambda: client.head_bucket(Bucket=wanted.bucket))
    if isinstance(answer, Exception):
        return [_trouble(name, wanted, answer)], aws.meaning(answer) not in {"retry", "other"}
    checks = [passed(name, f"there, for {wanted.why}")]
    if wanted.versioned:
        checks.append(_versioned(client, name, wanted))
    if wanted.locked is not None:
        checks.append(_locked(client, name, wanted))
    if wanted.locked is False:
        checks.append(_conditional(client, name, wanted))
    checks += _clock(site, answer)
    return checks, True


def _on_the_day(place: Site, site: str, wanted: Wanted) -> Check:
    """The question as runs ask it: over the light line, which goes by this machine's own certificates and not by the
    SDK's, and signs by itself."""
    name = f"{site} s3 as runs ask it"
    try:
        open_store(place.s3, wanted.bucket, region=place.region, patience_seconds=LINE_SECONDS).head("keys/")
    except DrError as trouble:
        return failed(name, trouble.fact, trouble.hint)
    return passed(name, "answers")


def _asked(ask: Callable[[], Any]) -> Any:
    """The answer, or the error instead of it: whatever went wrong is what a look has to tell."""
    try:
        return ask()
    except Exception as error:  # noqa: BLE001 -- botocore has dozens of kinds; none is swallowed, each becomes an outcome
        return error


def _trouble(name: str, wanted: Wanted, error: Exception) -> Check:
    match aws.meaning(error):
        case "absent" | "no bucket":
            hint = f"make the bucket (it is for {wanted.why}), or correct its name in the catalog"
            return failed(name, "there is no such bucket", hint)
        case "denied":
            return failed(
                name, "the site's credentials may not see it", "correct `credentials`, or grant s3:ListBucket"
            )
        case "retry":
            return failed(name, "the endpoint can't be reached", "is it up, and is `endpoint_url` right?")
    return unproven(name, f"looking ended with {type(error).__name__}", "see whether the endpoint speaks S3")


def _versioned(client: Any, name: str, wanted: Wanted) -> Check:
    name = f"{name} versioning"
    answer = _asked(lambda: client.get_bucket_versioning(Bucket=wanted.bucket))
    if isinstance(answer, Exception):
        return _unknown(name, answer)
    if answer.get("Status") == "Enabled":
        return passed(name, "on")
    return failed(name, "off", f"turn it on: {wanted.why} must not be overwritten")


def _locked(client: Any, name: str, wanted: Wanted) -> Check:
    name = f"{name} object lock"
    answer = _asked(lambda: client.get_object_lock_configuration(Bucket=wanted.bucket))
    if isinstance(answer, Exception):
        code = str(getattr(answer, "response", {}).get("Error", {}).get("Code", ""))
        if code != "ObjectLockConfigurationNotFoundError" and aws.meaning(answer) != "absent":
            return _unknown(name, answer)
        locked = False
    else:
        locked = answer.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled") == "Enabled"
    if locked == wanted.locked:
        return passed(name, "on" if locked else "off, as leases need it")
    if locked:
        return failed(name, "on", "leases have to be replaced and deleted: give them a bucket without object lock")
    return failed(name, "off", "evidence has to outlive whoever would change it: make the bucket with object lock")


def _conditional(client: Any, name: str, wanted: Wanted) -> Check:
    """Two engines are kept apart by puts that an endpoint refuses when another was faster; one that does not know the
    condition lets both through and says nothing. Asked by a put that has to be refused, so that nothing is written."""
    name, key = f"{name} conditional writes", f"leases/.check-{secrets.token_hex(6)}"
    answer = _asked(lambda: client.put_object(Bucket=wanted.bucket, Key=key, Body=b"", IfMatch='"another version"'))
    if not isinstance(answer, Exception):
        _asked(lambda: client.delete_object(Bucket=wanted.bucket, Key=key))
        return failed(name, "the endpoint ignores If-Match", "two engines could drive at once: keep leases elsewhere")
    if aws.meaning(answer) in {"absent", "exists", "conflict"}:
        return passed(name, "kept")
    return _unknown(name, answer)


def _unknown(name: str, error: Exception) -> Check:
    if aws.meaning(error) == "denied":
        return unproven(name, "the credentials may not ask", "grant the reading of the bucket's configuration")
    return unproven(name, f"asking ended with {type(error).__name__}", "ask the endpoint's own tools")


def _clock(site: str, answer: Any) -> list[Check]:
    date = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    name = f"{site} s3 clock"
    if date is None:
        return [unproven(name, "the endpoint tells no time", "compare its clock by hand")]
    apart = abs((datetime.now(UTC) - parsedate_to_datetime(date)).total_seconds() - 0.5)
    if apart > SKEW_SECONDS + 0.5:
        return [
            warned(name, f"about {apart:.0f} s from ours", "set both clocks by NTP: signatures and RPO rest on them")
        ]
    return [passed(name, "within a second of ours")]
