"""The catalog: sites, services, resources, objectives and policies. Facts and promises, never conditions. Pure.

Reading the file and its positions is an effect and lives in tasks/catalog_file.py; here is what a catalog may say.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field, JsonValue

from recovery.capacity import Component
from recovery.doors import Consent, DnsName, HealthCheck, Probe, RoutingCluster
from recovery.objective import Duration, Objective
from recovery.operations import Operations
from recovery.policy import BackupPolicy, FencePolicy, ProofPolicy
from recovery.step import Name
from recovery.value import Value


class S3Endpoint(Value):
    """An S3 endpoint; without `endpoint_url` it is AWS's own of the region. `credentials` is a reference:
    `file:PATH` (JSON with access_key_id, secret_access_key), `env:PREFIX`, `profile:NAME` or `default`.
    A relative PATH counts from the home, here and in every other reference to a file."""

    endpoint_url: str | None = None
    credentials: str = "default"


class Site(Value):
    """A place that can serve the platform, or a witness: a third place that holds only a bucket."""

    role: Literal["primary", "recovery", "witness"]
    region: str
    s3: S3Endpoint = S3Endpoint()
    compute: S3Endpoint = S3Endpoint()
    """The door of the APIs by which instances are counted and asked for (Auto Scaling, quotas), and its credentials."""


class LedgerPlace(Value):
    """Where evidence lives: `home` is a site's name, or `directory:PATH` for break glass without S3."""

    home: str
    bucket: str = "standfast-evidence"
    leases: str = "standfast-leases"
    mirrors: tuple[str, ...] = ()


class Assertion(Value):
    """A user's check: the first column of the first row of `sql` must equal `expect` (compared as text)."""

    name: Name
    database: str = "postgres"
    sql: str
    expect: str


class Member(Value):
    """One Postgres server of a cluster. `host` is `local` or `ssh:USER@NAME`; `agent` is the agent's URL."""

    dsn: str
    data_dir: str
    bin_dir: str
    host: str = "local"
    agent: str | None = None
    run_as: str | None = None
    instance: str | None = None
    """The cloud's identifier of the machine: what a fence by the cloud's API, or a person, isolates."""
    site: Name | None = None
    """Where it is, when its name in the catalog is not its site's: a second standby at one site."""


class PostgresResource(Value):
    """A self-managed Postgres cluster; `members` by name, which is the site's but for a second one at a site. Their
    roles (primary, standby) are observed, never written."""

    kind: Literal["postgres"]
    objective: Name
    backup: Name
    proof: Name
    owner: str
    members: dict[Name, Member] = Field(min_length=1)
    bucket: str
    prefix: str = ""
    engine: Literal["native", "pgbackrest", "barman-cloud"] = "native"
    engine_options: dict[str, JsonValue] = {}
    assertions: tuple[Assertion, ...] = ()
    heartbeat: bool = True
    """The agent writes a heartbeat row each second into schema `standfast` of database `postgres`."""
    fence: FencePolicy | None = None
    """Its servers run under leashes (`python -m tasks.postgres.leash`); without, an old primary never ends itself."""

    @property
    def sites(self) -> tuple[str, ...]:
        """The sites that have a member, each once."""
        return tuple(dict.fromkeys(self.site_of(each) for each in self.members))

    def site_of(self, member: str) -> str:
        """The site of a member."""
        return self.members[member].site or member

    def at(self, site: str) -> tuple[tuple[str, Member], ...]:
        """The members at a site, by name."""
        return tuple((name, each) for name, each in self.members.items() if self.site_of(name) == site)


Resource = Annotated[PostgresResource, Field(discriminator="kind")]


class Service(Value):
    """What users need, and the resources it stands on."""

    owner: str
    resources: tuple[Name, ...] = Field(min_length=1)
    dns: tuple[Name, ...] = ()
    probes: dict[Name, Probe] = {}
    """What says that a site serves the service; a redirect asks those of the site that it goes to."""
    vantage: dict[Name, str] = {}
    """Vantage points besides the agents: the base URL of each (`GET /probes` is asked below it)."""
    quorum: Annotated[int, Field(ge=1)] | None = None
    """How many vantage points must agree that a site fails; without it most of those that don't stand at that site."""
    side_effects: dict[Name, str] = {}
    """By site, the URL that parks and releases mail, webhooks and jobs: GET says, PUT of {"parked": true} sets."""
    drain: dict[Name, str] = {}
    """By site, the base URL of what moves long-lived connections: `GET /connections`, `POST /drain` below it."""
    compute: dict[Name, Component] = {}
    """Its components that run in instances; a change of roles brings those of the site that takes over to full load."""
    bake: Duration = timedelta(minutes=5)
    """How long a step that watches whether it stays well watches, where the step doesn't say `for`."""
    notify: dict[Name, str] = {}
    """Who is told → a reference to the channel's URL, since it may be a secret: `env:NAME` or `file:PATH`."""


class Catalog(Value):
    """The whole catalog."""

    schema_version: Literal[1] = Field(alias="schema")
    name: str
    sites: dict[Name, Site]
    ledger: LedgerPlace
    objectives: dict[Name, Objective]
    backups: dict[Name, BackupPolicy]
    proofs: dict[Name, ProofPolicy]
    services: dict[Name, Service]
    resources: dict[Name, Resource]
    operations: Operations = Operations()
    dns: dict[Name, DnsName] = {}
    health_checks: dict[Name, HealthCheck] = {}
    routing: RoutingCluster | None = None
    route53: S3Endpoint = S3Endpoint()
    """The door of Route53's control plane (records, health checks) and the credentials for it; without `endpoint_url`
    AWS's own, which is in us-east-1 wherever the sites are."""
    consent: Consent = Consent()

    @property
    def lease_sites(self) -> tuple[str, ...]:
        """Where leases live, the ledger's home first, then the recovery sites; meaningless for a directory's home."""
        recovery = (name for name, site in self.sites.items() if site.role == "recovery")
        return tuple(dict.fromkeys((self.ledger.home, *recovery)))
