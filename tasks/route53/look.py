"""A name as it stands, before anything is decided: TTL, health checks, sites with a record. Never raises for silence.

From Route53 where its control plane answers soon; else the TTL from the name servers' own answers, and of the rest what
the catalog says. What neither knows stays unknown.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from recovery.errors import DrError
from recovery.observation import DnsSeen
from recovery.zone_edit import RecordSet, sites
from tasks.home import Home
from tasks.probing import at_once
from tasks.route53.asking import ask_all
from tasks.route53.zone import ZoneDoor

PATIENCE_SECONDS = 1.5
_ASK_SECONDS = 1.0
State = Literal["enabled", "disabled", "unknown"]


def dns(home: Home, name: str) -> DnsSeen:
    """What is seen of the name within about 1.5 s. A name that the catalog doesn't have is seen as nothing."""
    here = home.catalog.dns.get(name)
    if here is None:
        return DnsSeen()
    ids = {each.health_check for each in here.records.values() if each.health_check}
    checks = {check: home.catalog.health_checks[check] for check in sorted(ids) if check in home.catalog.health_checks}
    jobs: dict[str, Callable[[], Any]] = {
        "servers": partial(ask_all, here.name_servers, here, patience_seconds=_ASK_SECONDS),
    }
    door = _quietly(lambda: ZoneDoor(home.catalog, patience_seconds=_ASK_SECONDS))()
    if door is not None:
        jobs["sets"] = _quietly(partial(door.sets, here))
        jobs |= {f"check {check}": _quietly(partial(door.disabled, each.id)) for check, each in checks.items()}
    came = at_once(jobs, PATIENCE_SECONDS)
    sets: list[RecordSet] | None = came.get("sets")
    answers = came.get("servers", {})
    seen = [each.ttl_seconds for each in answers.values() if each.ttl_seconds is not None]
    return DnsSeen(
        ttl_seconds=max([*_ttls(sets or []), *seen], default=None),
        checks={check: _state(came.get(f"check {check}"), written.disabled) for check, written in checks.items()},
        sites=None if sets is None else sites(sets, here),
    )


def _ttls(sets: list[RecordSet]) -> list[float]:
    """An alias has no TTL of its own."""
    return [float(each["TTL"]) for each in sets if "TTL" in each]


def _state(disabled: bool | None, written: bool) -> State:
    """What Route53 says; silent, the catalog's word that it is disabled, but never its word that it isn't."""
    if disabled is None:
        return "disabled" if written else "unknown"
    return "disabled" if disabled else "enabled"


def _quietly(ask: Callable[[], Any]) -> Callable[[], Any]:
    """None for whatever could not be asked: wrong credentials are the preflight's to tell."""

    def job() -> Any:
        try:
            return ask()
        except DrError:
            return None

    return job
