"""The catalog: sites, services, resources, objectives and policies. Facts and promises, never conditions. Pure.

Reading the file and its positions is an effect and lives in tasks/catalog_file.py; here is what a catalog may say.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from recovery.doors import Consent, DnsName, HealthCheck, Probe, RoutingCluster
from recovery.objective import Objective
from recovery.operations import Operations
from recovery.policy import BackupPolicy, ProofPolicy
from recovery.step import Name
from recovery.value import Value


class S3Endpoint(Value):
    """An S3 endpoint; without `endpoint_url` it is AWS's own of the region. `credentials` is a reference:
    `file:PATH` (JSON with access_key_id, secret_access_key), `env:PREFIX`, `profile:NAME` or `default`."""

    endpoint_url: str | None = None
    credentials: str = "default"


class Site(Value):
    """A place that can serve the platform, or a witness: a third place that holds only a bucket."""

    role: Literal["primary", "recovery", "witness"]
    region: str
    s3: S3Endpoint = S3Endpoint()


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


class PostgresResource(Value):
    """A self-managed Postgres cluster; `members` by site. Its role (primary, standby) is observed, never written."""

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


Resource = Annotated[PostgresResource, Field(discriminator="kind")]


class Service(Value):
    """What users need, and the resources it stands on."""

    owner: str
    resources: tuple[Name, ...] = Field(min_length=1)
    dns: tuple[Name, ...] = ()
    probes: dict[Name, Probe] = {}
    """What says that a site serves the service; a redirect asks those of the site that it goes to."""


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
    consent: Consent = Consent()
