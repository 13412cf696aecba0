"""What is seen of a service and its sites before anything is decided: plain values, with a word for what was not seen.

Separate from looking (hands) and from deciding (failover.py, hazards.py): a plan can be made, tested and argued with
from these values alone. Silent is never taken for stopped, and unknown never for well.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from recovery.step import Name
from recovery.value import Instant, Value

Answer = Literal["answers", "silent"]


class ProbeSeen(Value):
    """A probe now, for how long it has failed without a break, and since which instant by the last pass before."""

    outcome: Literal["passed", "failed", "unproven"]
    failing_seconds: Annotated[float, Field(ge=0)] = 0.0
    failing_since: Instant | None = None


class MemberSeen(Value):
    """A database's server at a site. `behind_seconds`: now minus the latest instant up to which every commit can be had
    there, with what the archive holds beyond it (TRUTH.md, exposure); None when that is not known."""

    site: Name
    role: Literal["primary", "standby", "silent"]
    system_id: str = ""
    timeline: int | None = None
    lsn: int | None = None
    behind_seconds: Annotated[float, Field(ge=0)] | None = None


class FenceSeen(Value):
    """By what the old primary's end could be proved now. `lease`: whether its agent is known to stop it by itself when
    the lease lapses, and the witness can be asked."""

    agent: Answer = "silent"
    cloud: Answer = "silent"
    lease: Literal["kept", "absent", "unknown"] = "unknown"

    def provable(self, ways: tuple[str, ...]) -> tuple[str, ...]:
        """The ways, of those, that can prove it now."""
        able = {"agent": self.agent == "answers", "cloud": self.cloud == "answers", "lease": self.lease == "kept"}
        return tuple(way for way in ways if able.get(way, False))


class DnsSeen(Value):
    """A name as its zone has it. None and `unknown`: could not be asked."""

    ttl_seconds: Annotated[float, Field(ge=0)] | None = None
    checks: dict[Name, Literal["enabled", "disabled", "unknown"]] = {}
    sites: tuple[Name, ...] | None = None
    """The sites that have a record."""


class CapacitySeen(Value):
    """A component's instances at a site: the fewest and the most that there may be, how many are wanted and how many
    serve. `at_most` None: nothing bounds them. `why`: why nothing answers, or why there may not be more."""

    answer: Answer = "silent"
    at_least: int = 0
    desired: int = 0
    in_service: int = 0
    at_most: int | None = None
    why: str = ""


class LedgerSeen(Value):
    """The ledger's home, and the mirrors that answer."""

    home: Answer = "answers"
    mirrors: tuple[Name, ...] = ()


class UnfinishedSeen(Value):
    """The last run that changed the service, where it has begun and not ended; whether anybody drives it or not."""

    run: str
    runbook: str


class Observation(Value):
    """Everything that a plan's making looks at. `primary`: the site that is primary by the newest evidence, whether it
    answers or not. `running`: lease → the run that holds it. `unfinished`: never the run that is looked for itself."""

    at: Instant
    service: Name
    primary: Name
    epoch: Annotated[int, Field(ge=0)] = 0
    running: dict[Name, str] = {}
    unfinished: UnfinishedSeen | None = None
    probes: dict[Name, ProbeSeen] = {}
    members: dict[Name, tuple[MemberSeen, ...]] = {}
    fences: dict[Name, FenceSeen] = {}
    dns: dict[Name, DnsSeen] = {}
    ledger: LedgerSeen = LedgerSeen()
    capacity: dict[Name, dict[Name, CapacitySeen]] = {}
    """By component and site."""
    vcpus: dict[Name, float] = {}
    """By site, the account's quota for instances of the cloud's standard families; absent: it was not told."""

    def best(self, resource: str, site: str) -> MemberSeen | None:
        """The most advanced standby of a database at a site: the highest timeline, then the highest LSN."""
        standbys = [each for each in self.members.get(resource, ()) if each.site == site and each.role == "standby"]
        return max(standbys, key=lambda each: (each.timeline or 0, each.lsn or 0), default=None)

    def failing(self) -> dict[str, float]:
        """For standing approvals: how long each failing probe has failed."""
        return {name: seen.failing_seconds for name, seen in self.probes.items() if seen.outcome == "failed"}
