"""`python -m tests.bench.outage`: from the loss of a site to users being served again, acting by standing consent.

In the lab, at TTL 1, against a user outside; its segments beside what the same steps would take with real Route53
and AWS, and what stands between the figure and TTL + 1 s. Each round loses the east anew and brings the service home.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from deployments.lab import observer
from deployments.lab.process import wait_until
from deployments.lab.storm_changes import One, alone, consent
from deployments.lab.world import down, up
from recovery.catalog import Catalog
from recovery.rto import SEGMENTS
from tasks.home import Home, open_home
from tasks.postgres.roles import look as roles

AIM_SECONDS = 8.0
RESOLVER_SECONDS = 1.0
"""A caching resolver counts whole seconds: TTL + 1 is the longest that it keeps an answer (facts on AWS, section 3)."""


def real(catalog: Catalog, name: str = "app") -> dict[str, tuple[float, str]]:
    """What a segment takes at least with real Route53, and why: segment → (seconds, words)."""
    dns = catalog.dns[name]
    checks = [catalog.health_checks[each.health_check] for each in dns.records.values() if each.health_check]
    slowest = max((each.every.total_seconds() * each.failures for each in checks), default=0.0)
    ttl = dns.ttl.total_seconds()
    return {
        "act": (slowest, f"a health check turns after its {slowest:g} s (interval times threshold); in the lab scaled"),
        "converge": (ttl + RESOLVER_SECONDS, f"TTL {ttl:g} s + {RESOLVER_SECONDS:g} s, as resolvers count"),
    }


def whole(home: Home, patience_seconds: float = 90.0) -> None:
    """Wait until the east's server is primary and the west's a standby, for every database: a fair beginning."""

    def there() -> bool:
        seen = [roles.members(home, name) for name in home.catalog.resources]
        return all({each.site: each.role for each in one} == {"east": "primary", "west": "standby"} for one in seen)

    what = "the east as primary and the west as standby"
    wait_until(there, what=what, patience_seconds=patience_seconds, hint="dr status tells more")


def main() -> int:
    """Measure and tell."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was raised is ended
    parser = argparse.ArgumentParser(prog="python -m tests.bench.outage", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    console, made = Console(width=150, highlight=False), list[One]()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="standfast-bench-") as folder:
        home_folder = Path(folder) / "home"
        try:
            world = up(home_folder)
            home = open_home(world.home)
            observer.begin(world)
            consent(home)
            for number in range(asked.rounds):
                whole(home)
                made.append(alone(world, home, 0, 2.0, lambda text: None))
                console.print(f"round {number + 1} of {asked.rounds}: observed {made[-1].observed_seconds:.2f} s")
        finally:
            down(home_folder, wipe=True)
    if made:
        _tell(made, home.catalog, load, console)
    return 0


def _tell(made: list[One], catalog: Catalog, load: float, console: Console) -> None:
    title = f"Site lost to served again, medians of {len(made)}, {os.cpu_count()} cores, load {load:.1f} before"
    table = Table(title=title)
    for head in ("segment", "lab s", "real Route53 and AWS, at least s", "why"):
        table.add_column(head)
    beside, total = real(catalog), 0.0
    for name in SEGMENTS:
        figures = [each.changed.rto_segments.get(name, 0.0) for each in made]
        seconds = median(each for each in figures if not isinstance(each, str))
        more, why = beside.get(name, (0.0, ""))
        total += max(seconds, more) if name == "converge" else seconds + more
        table.add_row(
            name, f"{seconds:.2f}", f"{max(seconds, more) if name == 'converge' else seconds + more:.2f}", why
        )
    observed = median(each.observed_seconds for each in made)
    claimed = median(each.claimed_seconds or 0.0 for each in made)
    table.add_row("claimed", f"{claimed:.2f}", f"{total:.2f}", "the sum")
    table.add_row("observed", f"{observed:.2f}", "", f"by a user outside; the aim is under {AIM_SECONDS:g} s")
    console.print(table)
    ttl = catalog.dns["app"].ttl.total_seconds()
    console.print(f"between it and TTL + 1 s ({ttl + 1:g} s) stand {observed - ttl - 1:.2f} s:")
    steps: dict[str, list[float]] = {}
    for each in made:
        for phase in each.changed.rto_steps:
            steps.setdefault(phase.name, []).append(phase.seconds)
    for name, seconds in sorted(steps.items(), key=lambda pair: -median(pair[1])):
        console.print(f"  {name}: {median(seconds):.2f} s")
    console.print("  detect: the condition of the standing approval is part of it (app-east failing for 2 s)")


if __name__ == "__main__":
    sys.exit(main())
