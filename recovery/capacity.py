"""Capacity: zones, redundancy, scaling and limits of the platform's components, as promised."""

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
