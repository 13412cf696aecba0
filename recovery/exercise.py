"""Exercises: drills with due dates, chaos, load, changes without downtime, and the reliability checklist."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from recovery.capacity import Count
from recovery.objective import Duration
from recovery.policy import Schedule
from recovery.step import Name
from recovery.units import Percent
from recovery.value import Value


class Drill(Value):
    """An exercise of people or of the engine, and when it is due."""

    what: str
    schedule: Schedule
    runbook: Name | None = None
    """What the engine itself runs for it; None: people do it."""


class Chaos(Value):
    """A fault that is injected on purpose, and what its record has to say."""

    fault: Literal["node-failure", "network-latency", "disk-full", "memory-pressure", "database-connections-lost"]
    reports: tuple[Literal["recovery-time", "scope", "recovered"], ...]


class Sustained(Value):
    """A steady load."""

    lasts: Duration
    users: Count
    ramp: Duration
    scenarios: tuple[Name, ...]


class Stress(Value):
    """A load that grows to `users`; more errors than `fails_over` and the test has failed."""

    lasts: Duration
    users: Count
    ramp: Duration
    fails_over: Percent


class Spike(Value):
    """A sudden load, after which the platform has to come back by itself."""

    from_users: Count
    to_users: Count
    lasts: Duration
    recovery_validated: bool


class Load(Value):
    """The load tests."""

    sustained: Sustained
    stress: Stress
    spike: Spike


class BlueGreen(Value):
    """A change by an idle environment: validated, then traffic is shifted, watched, completed or rolled back."""

    validate_first: bool
    shift_over: Duration
    watch: Duration


class Canary(Value):
    """A change by growing shares of traffic."""

    stages: tuple[Percent, ...] = Field(min_length=1)
    over: Duration
    roll_back_on: tuple[Literal["errors", "slowness"], ...]
    validate_each_stage: bool


class Changes(Value):
    """Changes without downtime."""

    blue_green: BlueGreen
    canary: Canary


Point = Annotated[str, Field(min_length=3, max_length=120)]


class Checklist(Value):
    """The reliability checklist; each point is ticked by evidence only."""

    infrastructure: tuple[Point, ...]
    application: tuple[Point, ...]
    operations: tuple[Point, ...]
