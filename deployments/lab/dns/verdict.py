"""When a health check's verdict turns: thresholds, inversion, disabling, calculated checks. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from deployments.lab.dns.zone import Check
from recovery.value import Value

DEEPEST = 5
"""How deep calculated checks may stand in one another; deeper counts as healthy."""


class Standing(Value):
    """What the probes of one check have said so far. `well` None: nothing yet, which counts as healthy, and the first
    result decides at once; afterwards as many in a row as the check's `failures` turn it."""

    well: bool | None = None
    against: int = 0
    why: str = ""
    probed_at: float | None = None
    turned_at: float | None = None


def after(standing: Standing, check: Check, well: bool, why: str, *, now: float) -> Standing:
    """The standing after one more result. `now` is in seconds since the epoch."""
    if standing.well is None:
        return Standing(well=well, why=why, probed_at=now, turned_at=now)
    if well == standing.well:
        return standing.but(against=0, why=why, probed_at=now)
    against = standing.against + 1
    if against >= check.failures:
        return Standing(well=well, why=why, probed_at=now, turned_at=now)
    return standing.but(against=against, why=why, probed_at=now)


def healthy(
    check_id: str,
    checks: Mapping[str, Check],
    standings: Mapping[str, Standing],
    controls: Mapping[str, bool],
    depth: int = 0,
) -> bool:
    """The verdict that answers are made of. `controls`: routing controls by ARN, on or off. A disabled check counts as
    healthy before it is inverted (D5: who wants to drain sets Inverted); one that nobody knows counts as healthy."""
    check = checks.get(check_id)
    if check is None:
        return True
    if check.disabled or depth > DEEPEST:
        raw = True
    elif check.type == "CALCULATED":
        well = [healthy(child, checks, standings, controls, depth + 1) for child in check.children]
        raw = sum(well) >= check.threshold
    elif check.type == "RECOVERY_CONTROL":
        raw = controls.get(check.control or "", False)
    else:
        standing = standings.get(check_id)
        if standing is None or standing.well is None:
            return True
        raw = standing.well
    return raw != check.inverted
