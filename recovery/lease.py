"""Who may drive a service: leases as values, and the decision about taking one. Pure.

Clocks: every machine's clock is within half of `clock_bound` of the true time, so two differ by at most the bound; of
one that is further from the bucket's clock, where that tells it, the bucket's is taken instead (tasks/leases.py). An
owner stops at the expiry by its own clock; another takes the lease only when the expiry and the bound have passed by
its own. The two can then not overlap. A release is the owner's word that it has stopped, and needs no such wait.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Literal

from pydantic import Field

from recovery.errors import Refused
from recovery.step import Name
from recovery.value import Instant, Value, rfc3339

MOST_SECONDS = 600.0
"""No lease is longer: it is what a crash costs."""


class Lease(Value):
    """The right to drive `service` until `expires_at`. `owner` names one process; generations only grow."""

    schema_version: Literal[1] = 1
    service: Name
    owner: str
    run: str
    generation: Annotated[int, Field(ge=1)]
    expires_at: Instant
    released: bool = False

    def check(self, now: datetime) -> None:
        """Raises Refused when the lease has expired or was released: a stale owner cannot act."""
        if self.released or now >= self.expires_at:
            ended = "was released" if self.released else f"expired at {rfc3339(self.expires_at)}"
            raise Refused(
                f"the lease on {self.service} (generation {self.generation}) {ended}",
                hint="nothing more is done by this run; act again to take the lease and resume",
            )


class Under(Value):
    """The lease that an order is given under. Whoever takes it next has a newer generation, and obeys no older one."""

    lease: Name
    generation: Annotated[int, Field(ge=0)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """How leases are held: for how long, and by how much two clocks may differ."""

    seconds: float = 30.0
    clock_bound: timedelta = timedelta(seconds=2)


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """Somebody wants to drive. `dead` are owners known to have ended, from a positive fact on their machine."""

    service: str
    owner: str
    run: str
    dead: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True, slots=True)
class Take:
    """The lease is free: take it in this generation, by compare-and-put."""

    generation: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Mine:
    """The asking process holds it already, in this generation, and may renew."""

    lease: Lease


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """Another holds it; it is free for the asking clock at `until` at the latest, unless renewed."""

    by: Lease
    until: datetime

    def refusal(self) -> Refused:
        """The refusal as a person reads it."""
        return Refused(
            f"{self.by.service} is being driven by {self.by.owner} in run {self.by.run} "
            f"(generation {self.by.generation}, until {rfc3339(self.until)} unless renewed)",
            hint=f"see it with 'dr show {self.by.run[:12]}'; wait for it, or stop it there and act again",
        )


Decision = Take | Held | Mine


def decide(existing: Lease | None, request: Request, now: datetime, clock_bound: timedelta) -> Decision:
    """Whether `request` may have the lease. Raises ValueError when `existing` is of another service."""
    if existing is None:
        return Take(generation=1)
    if existing.service != request.service:
        raise ValueError(f"the lease is of {existing.service}, not of {request.service}")
    if existing.released or existing.owner in request.dead:
        return Take(generation=existing.generation + 1)
    if (existing.owner, existing.run) == (request.owner, request.run) and now < existing.expires_at:
        return Mine(lease=existing)
    free_at = existing.expires_at + clock_bound
    if now >= free_at:
        return Take(generation=existing.generation + 1)
    return Held(by=existing, until=free_at)


def following(existing: Lease | None, run: str, now: datetime) -> int:
    """The generation behind that of a lease as it is stored at one of several places; its own while the same run may
    hold it still. Where there is none it may have been lost with its place, while agents, which obey no older one,
    remember its generations: then it is the second, since 1970, which is newer than all of them."""
    if existing is None:
        return int(now.timestamp())
    return existing.generation + (existing.released or existing.run != run)


def made(request: Request, generation: int, now: datetime, seconds: float) -> Lease:
    """The lease that a request writes, beginning `now`. Raises ValueError for a length that is not in (0, 600] s."""
    if not 0 < seconds <= MOST_SECONDS:
        raise ValueError(f"a lease of {seconds:g} s; it must be above 0 and at most {MOST_SECONDS:g} s")
    return Lease(
        service=request.service,
        owner=request.owner,
        run=request.run,
        generation=generation,
        expires_at=now + timedelta(seconds=seconds),
    )


def lease_key(service: str) -> str:
    """Where the lease of a service lives in the bucket of leases."""
    return f"leases/{service}.json"
