"""The stage of a run that changes roles: the home, the plan, who consented, and what its verbs may ask of each other.

Separate from the kinds, which don't import each other: a verb that needs another kind's eyes (a redirect asks the
probes of the site that it goes to) comes to them here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from recovery.catalog import Member, PostgresResource, Service
from recovery.errors import Unproven
from recovery.hazard import Acceptance
from recovery.lease import Under
from recovery.plan import Plan
from tasks.home import Home
from tasks.signatures import Signer

Outcome = Literal["passed", "failed", "unproven"]


def _nobody(site: str) -> Mapping[str, Outcome]:
    raise Unproven(f"nobody here can ask the probes of {site}", hint="this is a defect of the engine: report it")


@dataclass(frozen=True, kw_only=True, slots=True)
class Consented:
    """Who consented to the run, to which hazards; `standing` is the standing approval's id where one admitted it."""

    by: tuple[str, ...] = ()
    accepted: tuple[Acceptance, ...] = ()
    standing: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """Where a run acts. `sign` is the engine's key (it signs orders to agents); `generation` the lease's, as it is now.
    `consented` is asked anew each time: a switch to ungraceful in mid-run brings acceptances of its own."""

    home: Home
    plan: Plan
    sign: Signer
    generation: Callable[[], int] = lambda: 0
    consented: Callable[[], Consented] = Consented
    ask: Callable[[str], Mapping[str, Outcome]] = field(default=_nobody)
    """The probes of a site, asked now: probe → outcome."""

    @property
    def source(self) -> str:
        """The site that is left."""
        return str(self.plan.pinned["from"])

    @property
    def target(self) -> str:
        """The site that takes over."""
        return str(self.plan.pinned["to"])

    @property
    def live(self) -> bool:
        """Whether the run changes what users live on; a drill and a rehearsal do not."""
        return self.plan.live

    @property
    def term(self) -> int:
        """The generation of roles that the run brings about: one more than the epoch in which it was planned."""
        return self.plan.epoch + 1

    def under(self) -> Under:
        """The lease under which the run acts, as it is now: fenced effects carry it."""
        from recovery.failover import lease_of  # what derives plans: not wanted by everybody who has a stage

        return Under(lease=lease_of(self.plan), generation=self.generation())

    @property
    def service(self) -> Service:
        """The service that is driven."""
        return self.home.catalog.services[self.plan.service]

    def resource(self, name: str) -> PostgresResource:
        """A database of the catalog."""
        return self.home.resource(name)

    def members(self, name: str, site: str) -> tuple[tuple[str, Member], ...]:
        """A database's servers at a site: (member's name, member)."""
        return self.resource(name).at(site)

    def accepted(self, klass: str) -> bool:
        """Whether the people who consented accepted that class of hazard."""
        return any(each.klass == klass for each in self.consented().accepted)
