"""What is published: zones, record sets and health checks, and which record set answers by weight and health. Pure.

Separate from the emulator, which writes it, and from the server, which lives on from it when the emulator is gone.
The rules are Route53's (facts about AWS, D5), also where they surprise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Literal

from recovery.value import Value

Healthy = Callable[[str], bool]
"""The verdict on a health check by its id."""
MULTIVALUE_MOST = 8


class RecordSet(Value):
    """One record set; `name` ends with a dot and is in lower case. Without `health_check` it counts as healthy."""

    name: str
    type: str
    ttl: int
    values: tuple[str, ...]
    set_identifier: str | None = None
    weight: int | None = None
    failover: Literal["PRIMARY", "SECONDARY"] | None = None
    multivalue: bool = False
    health_check: str | None = None


class Zone(Value):
    """A hosted zone with its record sets."""

    id: str
    name: str
    records: tuple[RecordSet, ...]


class Check(Value):
    """A health check as the checkers need it. `every_seconds` is the real figure; the lab scales it when it waits."""

    id: str
    reference: str
    type: str
    address: str | None = None
    port: int = 80
    path: str = "/"
    host: str | None = None
    search: str | None = None
    every_seconds: float = 30.0
    failures: int = 3
    inverted: bool = False
    disabled: bool = False
    children: tuple[str, ...] = ()
    threshold: int = 0
    control: str | None = None


class Published(Value):
    """Everything that the name servers know; `serial` grows with each publication."""

    serial: int = 0
    zones: tuple[Zone, ...] = ()
    checks: tuple[Check, ...] = ()


Choice = tuple[Fraction, tuple[RecordSet, ...]]
"""A share of the answers and the record sets that make it up (several only for multivalue)."""


def choices(sets: Iterable[RecordSet], healthy: Healthy) -> tuple[Choice, ...]:
    """How the answers to one name and type are shared out; the shares add up to 1. Empty only for no set."""
    those = tuple(sets)
    if not those:
        return ()
    well = tuple(each for each in those if each.health_check is None or healthy(each.health_check))
    if any(each.failover for each in those):
        return ((Fraction(1), (_failover(those, well),)),)
    if any(each.weight is not None for each in those):
        return _weighted(those, well)
    if any(each.multivalue for each in those):
        return ((Fraction(1), (well or those)[:MULTIVALUE_MOST]),)
    return ((Fraction(1), those[:1]),)


def _failover(those: tuple[RecordSet, ...], well: tuple[RecordSet, ...]) -> RecordSet:
    """The primary while it is healthy, else the secondary while that is, else the primary regardless."""
    order = sorted(those, key=lambda each: each.failover != "PRIMARY")
    return next((each for each in order if each in well), order[0])


def _weighted(those: tuple[RecordSet, ...], well: tuple[RecordSet, ...]) -> tuple[Choice, ...]:
    """By weight among the healthy; weight zero only when no other is healthy; all unhealthy counts as all healthy."""
    chosen = [each for each in well if each.weight] or list(well) or [each for each in those if each.weight] or those
    total = sum(each.weight or 0 for each in chosen)
    if not total:
        return tuple((Fraction(1, len(chosen)), (each,)) for each in chosen)
    return tuple((Fraction(each.weight or 0, total), (each,)) for each in chosen)
