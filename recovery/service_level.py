"""Service levels: availability, latency and errors as promised, error budgets, and windows for maintenance."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field

from recovery.objective import Duration
from recovery.step import Name
from recovery.units import Percent, RequestsPerSecond
from recovery.value import Value


class Latency(Value):
    """The response time that `percentile` of the calls stay under, over a rolling window."""

    percentile: Percent
    under: Duration
    window: Duration


class ErrorRate(Value):
    """The share of failed calls to stay under, over a rolling window."""

    under: Percent
    window: Duration


class ServiceLevels(Value):
    """What was promised to users. `availability` is by name of what they use, over the rolling `window`."""

    window: Duration
    availability: dict[Name, Percent] = Field(min_length=1)
    latency: Latency
    errors: ErrorRate
    peak: RequestsPerSecond


def error_budget(availability_percent: float, over: timedelta) -> timedelta:
    """How long it may be down within `over`, to the microsecond: 99.9 % of 30 days → 43.2 min."""
    return over * round(100 - availability_percent, 9) / 100


class RegularWindow(Value):
    """A monthly window in UTC: on the `week`th `weekday` of each month from `begins` (HH:MM) on."""

    every: Literal["month"]
    week: Annotated[int, Field(ge=1, le=4)]
    weekday: Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
    begins: Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]
    lasts: Duration


class EmergencyWindow(Value):
    """Maintenance that can't wait: how long at most, and the notice given when that is possible."""

    at_most: Duration
    notice: Duration


class Maintenance(Value):
    """When work on the platform is expected, and what kind of work belongs where."""

    regular: RegularWindow
    emergency: EmergencyWindow
    security_patches: tuple[Literal["regular", "emergency"], ...]
    releases: tuple[Literal["regular", "emergency"], ...]
    releases_need_rollback: bool
