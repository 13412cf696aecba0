"""The way `health-check`: Route53's own checkers move the name once the old site fails them. Nothing is to be done.

Separate as the first of the ways: it works when everything of ours is gone (facts about AWS, D2).
"""

from __future__ import annotations

from recovery.errors import BadInput
from tasks.kind import Facts
from tasks.route53.errand import Errand


def move(errand: Errand) -> Facts:
    """Facts: the checks that decide. Raises BadInput where none stands behind the old sites' records."""
    deciding = {site: check for site, check in errand.checks().items() if not check.inverted}
    if not deciding:
        raise BadInput(
            f"no record of {errand.dns.name} has a health check that could move it",
            hint="give the primary record a health check, or name another way under `by`",
        )
    record = errand.dns.records
    return {"checks": {site: str(record[site].health_check) for site in deciding}}
