"""What a way of moving a name is told: the name, the site that it goes to, and how long it may take.

Separate so that each way is a file of its own that knows nothing of the verb, and the verb nothing of any way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from recovery.catalog import Catalog
from recovery.doors import DnsName, HealthCheck
from tasks.home import Home


@dataclass(frozen=True, kw_only=True, slots=True)
class Errand:
    """One move. `well` raises Refused when the site is not well enough to be sent users (rule 3)."""

    home: Home
    run: str
    step: str
    name: str
    dns: DnsName
    site: str
    shift: tuple[int, ...]
    """Percentages on the way of a weighted name, the last one 100."""
    patience_seconds: float
    now: Callable[[], datetime]
    say: Callable[[str, float | None], None]
    well: Callable[[], None]
    may_act: Callable[[], None]
    """Raises Refused when the lease is lost."""

    @property
    def catalog(self) -> Catalog:
        """Where everything is written down."""
        return self.home.catalog

    def checks(self) -> dict[str, HealthCheck]:
        """The health check behind each site's record, where there is one."""
        found = {
            site: self.catalog.health_checks.get(each.health_check or "") for site, each in self.dns.records.items()
        }
        return {site: check for site, check in found.items() if check is not None}
