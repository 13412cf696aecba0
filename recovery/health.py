"""Health: what is checked, the levels of service that follow, how the platform mends itself, what is measured."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from recovery.objective import Duration
from recovery.step import Name
from recovery.units import Percent
from recovery.value import Value

Times = Annotated[int, Field(ge=1, le=1000)]


class Level(Value):
    """A level of service: it holds while overall health is above `above`; the last one has no bound."""

    name: Name
    above: Percent | None = None
    functions: tuple[str, ...]


class Health(Value):
    """The health checks, what each reports, and the levels of service from best to worst."""

    every: Duration
    checks: tuple[Name, ...]
    states: tuple[Literal["healthy", "unhealthy", "error"], ...]
    reports: tuple[Literal["time", "response-time"], ...]
    levels: tuple[Level, ...] = Field(min_length=1)


class Restart(Value):
    """Restarts of a failed instance: at most `times`, the first after `delay`, each wait `factor` times the last."""

    times: Times
    delay: Duration
    factor: Annotated[float, Field(ge=1)]


class Breaker(Value):
    """A circuit breaker: opens after `failures`, tries again after `retry_after` with `half_open_calls` at most."""

    failures: Times
    retry_after: Duration
    half_open_calls: Times


class Retry(Value):
    """Retries of a call: at most `times`, waits from `first` up to `at_most`, with jitter or without."""

    times: Times
    first: Duration
    at_most: Duration
    jitter: bool


class SelfHealing(Value):
    """What is mended without a person."""

    restart: Restart
    breaker: Breaker
    retry: Retry
    database: Literal["failover-to-healthy-replica"]
    storage: Literal["repair-from-good-copy"]


class Integrity(Value):
    """What is guaranteed of data and checked about it."""

    transactions: tuple[Literal["atomic", "consistent", "isolated", "durable"], ...]
    durable_by: tuple[Name, ...]
    uploads: tuple[Literal["format", "checksum", "metadata", "corruption"], ...]
    database: tuple[Literal["referential-integrity", "constraints", "index-consistency", "transaction-logs"], ...]


class Metrics(Value):
    """What is measured, by where it is seen."""

    system: tuple[Name, ...]
    application: tuple[Name, ...]
    business: tuple[Name, ...]
    infrastructure: tuple[Name, ...]
