"""Looks at the instances of a service at each site, and at the quotas that bound them, before the event. Only asks.

Separate from the judging (recovery/compute_lint.py), and from a plan's own look, which has two seconds.
"""

from __future__ import annotations

from recovery.catalog import Catalog
from recovery.check import Check
from recovery.compute_lint import lint
from tasks.service import instances


def look(catalog: Catalog, service: str) -> tuple[Check, ...]:
    """All checks of one service's instances; none where the catalog has no compute of it."""
    here = catalog.services[service]
    if not here.compute:
        return ()
    sites = [name for name, site in catalog.sites.items() if site.role != "witness"]
    seen = instances.look(catalog, here, sites)
    return lint(catalog, service, seen, instances.vcpus(catalog, here, sites))
