"""Looks at the catalog's names in Route53, before anything depends on moving them. Only asks; nothing is changed.

Separate from the judging (recovery/zone_lint.py), and from route53/look.py, which has a second and a half at the act.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from recovery.catalog import Catalog
from recovery.check import Check
from recovery.errors import DrError
from recovery.zone_lint import lint
from tasks.route53.zone import ZoneDoor

T = TypeVar("T")
PATIENCE_SECONDS = 5.0


def look(catalog: Catalog, name: str) -> tuple[Check, ...]:
    """All checks of one name. Raises BadInput when no client can be made of the catalog's words."""
    dns = catalog.dns[name]
    door = ZoneDoor(catalog, patience_seconds=PATIENCE_SECONDS)
    checks = dict.fromkeys(each.health_check for each in dns.records.values() if each.health_check)
    sets = _asked(lambda: door.sets(dns))
    if isinstance(sets, str):  # the same door: to ask it again for each check would only take longer
        configs = {str(check): sets for check in checks}
        return lint(name, dns, catalog.health_checks, sets=sets, configs=configs)
    known = [catalog.health_checks[check] for check in checks if check in catalog.health_checks]
    asked = {each.id: _asked(lambda each=each: door.config(each.id)) for each in known}  # type: ignore[misc]
    configs_of = {name: asked[each.id] for name, each in catalog.health_checks.items() if each.id in asked}
    return lint(name, dns, catalog.health_checks, sets=sets, configs=configs_of)


def _asked(ask: Callable[[], T]) -> T | str:
    """The answer, or why there is none."""
    try:
        return ask()
    except DrError as trouble:
        return trouble.fact
