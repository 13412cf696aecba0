"""Capacity: zones, redundancy, scaling and limits of the platform's components, as promised; where each is counted."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from recovery.objective import Duration
from recovery.step import Name
from recovery.units import BitsPerSecond, Bytes, BytesPerSecond, Percent
from recovery.value import Value

Count = Annotated[int, Field(ge=1, le=1_000_000)]


class Zone(Value):
    """A zone: what runs there, and the share of the whole load that it can carry."""

    role: Literal["primary", "secondary", "tertiary"]
    site: Name
    runs: tuple[Name, ...]
    capacity: Percent


class Replica(Value):
    """A standby of the database and the lag past which it is a finding."""

    standby: Literal["hot", "warm"]
    lag_limit: Duration


class DatabaseRedundancy(Value):
    """How the database survives the loss of a server."""

    failover: Literal["automatic", "by-people"]
    failover_timeout: Duration
    backup_every: Duration
    replicas: dict[Name, Replica]


class Redundancy(Value):
    """How services survive the loss of an instance, a host or a zone."""

    instances_at_least: Count
    spread_over: Literal["hosts", "zones"]
    probes: tuple[Literal["liveness", "readiness"], ...]
    circuit_breakers: bool
    load_balancer_check_every: Duration
    horizontal_scaling_on: tuple[Literal["cpu", "memory"], ...]
    database: DatabaseRedundancy


class Replicas(Value):
    """The fewest and the most replicas of a component."""

    at_least: Count
    at_most: Count


class CoolDown(Value):
    """How long to wait after scaling before scaling again."""

    up: Duration
    down: Duration


class Scaling(Value):
    """When a component scales. A threshold that isn't given doesn't count."""

    replicas: Replicas
    cpu: Percent | None = None
    memory: Percent | None = None
    queue_depth: Count | None = None
    processing_time: Duration | None = None
    cool_down: CoolDown | None = None


class Limits(Value):
    """What one instance of a component may use. `cpus` counts cores."""

    cpus: Annotated[float, Field(gt=0)]
    memory: Bytes
    disk: BytesPerSecond
    network: BitsPerSecond


class Instances(Value):
    """Where a component's instances at one site are counted and asked for: one of both. Neither may be told a smaller
    number by us."""

    group: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    """The name of an EC2 Auto Scaling group in the site's region."""
    url: str | None = None
    """GET says {"at_least", "desired", "in_service", "at_most"}; PUT of {"at_least": N} makes them N or leaves more."""


class Component(Value):
    """A part of a service that runs in instances; its policy and its limits have the same name in `operations`."""

    full_load: Count | None = None
    """So many instances carry all users; without it the fewest of its scaling policy do."""
    sites: dict[Name, Instances] = Field(min_length=1)
