"""How users and people reach a service: DNS names, health checks, routing controls, probes; who may consent. Pure.

Separate from catalog.py because only failover speaks of them. All of it is written down before the event, since nothing
of it may have to be looked up on the day (facts about AWS: D1, D3, D7). Identifiers are the provider's own.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field

from recovery.objective import Duration
from recovery.step import Name
from recovery.value import Value

Fingerprint = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Method = Literal["health-check", "inverted-health-check", "routing-control", "record-edit"]


class HealthCheck(Value):
    """A Route53 health check. With `marker` (s3://BUCKET/KEY at its site) and `inverted`, the object's presence makes
    it unhealthy: the standby takes over by writing to its own bucket. A disabled check counts as healthy (D5)."""

    id: str
    site: Name
    watches: str
    """The URL that is probed."""
    every: Duration = timedelta(seconds=10)
    failures: Annotated[int, Field(ge=1, le=10)] = 3
    inverted: bool = False
    marker: str | None = None
    disabled: bool = False


class DnsRecord(Value):
    """One record of a name: the site's answer and what decides whether it is given."""

    value: str
    set_identifier: str
    health_check: Name | None = None
    control: Name | None = None
    """The routing control that stands behind it."""


class DnsName(Value):
    """A name that users resolve. `zone_id` is Route53's; `moved_by` is how a failover moves it."""

    name: str
    zone: str
    zone_id: str
    type: Literal["A", "AAAA", "CNAME"] = "A"
    policy: Literal["failover", "weighted"] = "failover"
    ttl: Duration = timedelta(seconds=60)
    moved_by: Method
    use: Literal["live", "rehearsal"] = "live"
    """A rehearsal's name is asked by no user: rehearsals move it, and failovers leave it alone."""
    records: dict[Name, DnsRecord] = Field(min_length=1)
    """By site."""
    name_servers: tuple[str, ...] = ()
    """Every authoritative server: a name or an address, or `ADDRESS:PORT` where it is not port 53. Resolvers too."""
    resolvers: tuple[str, ...] = ()


class RoutingCluster(Value):
    """An ARC cluster: its five regional endpoints (two may be down), and each routing control's ARN."""

    endpoints: dict[str, str] = Field(min_length=1)
    """Region → URL."""
    controls: dict[Name, str] = Field(min_length=1)
    safety_rules: tuple[str, ...] = ()
    credentials: str = "default"
    """A reference as for S3; long-lived ones that need nobody else on the day (D3)."""


class Probe(Value):
    """A question to a site: `expect` must stand in the answer of `url`."""

    site: Name
    url: str
    expect: str = ""


class Approver(Value):
    """A person who may consent: the fingerprint of the public key, and how to reach the person."""

    key: Fingerprint
    contact: str = ""


class StandingTerms(Value):
    """What people may agree to in advance: by itself it allows nothing, the signed approval in the ledger does."""

    runbook: Name
    service: Name
    to: Name | None = None
    """The site that takes over. Without it nothing can be signed; a catalog of before is still read."""
    conditions: dict[Name, Duration] = Field(min_length=1)
    """Probe → for how long it must have failed."""
    accept: dict[Name, str] = {}
    """Class of hazard → figure with its unit, like `10 s`; empty for one without a figure."""
    lasts: Duration = timedelta(days=90)


class Consent(Value):
    """Who may approve, how many must, and what may be agreed in advance."""

    approvers: dict[Name, Approver] = {}
    n_of_m: Annotated[int, Field(ge=1)] = 1
    standing: dict[Name, StandingTerms] = {}
