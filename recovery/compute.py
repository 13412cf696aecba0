"""How many instances a site needs before all users come to it, what limits them, and the dangers of that. Pure.

Separate from capacity.py, which holds what was promised: here it is read for one site. The figures of the catalog are
pinned into the step, so that people consent to them; what the other site carries is only known at the act, and may only
add to them. Nothing is ever made smaller.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import ceil

from pydantic import JsonValue

from recovery.capacity import Count
from recovery.catalog import Catalog, Service
from recovery.hazard import Hazard
from recovery.observation import CapacitySeen, Observation
from recovery.value import Value

LIMITED = "capacity-limit"
UNKNOWN = "capacity-unknown"
QUOTA = "capacity-quota"
ASKS = "capacity"
"""The argument of a bound step that holds what is asked for; no runbook writes it."""


class Ask(Value):
    """So many instances carry all users (`least`); more than `most` are never asked for. `cpus` of one instance, where
    the cloud's quota counts them."""

    least: Count
    most: Count | None = None
    cpus: float | None = None


def asks(catalog: Catalog, service: Service, site: str) -> dict[str, Ask]:
    """What is asked for of each component that has instances at that site."""
    found: dict[str, Ask] = {}
    for name, component in service.compute.items():
        there = component.sites.get(site)
        if there is None:
            continue
        policy, limits = catalog.operations.scaling.get(name), catalog.operations.limits.get(name)
        found[name] = Ask(
            least=component.full_load or (policy.replicas.at_least if policy is not None else 1),
            most=policy.replicas.at_most if policy is not None else None,
            cpus=limits.cpus if limits is not None and there.group is not None else None,
        )
    return found


def pinned(arguments: Mapping[str, JsonValue]) -> dict[str, Ask]:
    """What a bound step asks for, by component; empty where the catalog has no instances for it."""
    told = arguments.get(ASKS)
    return {name: Ask.model_validate(each) for name, each in told.items()} if isinstance(told, dict) else {}


def goal(ask: Ask, left: CapacitySeen | None) -> int:
    """How many there shall be: those that carry all users, and as many as the other site wanted, if it is known and the
    policy allows them."""
    if left is None or left.answer == "silent":
        return ask.least
    return max(ask.least, left.desired if ask.most is None else min(left.desired, ask.most))


def short(wanted: int, here: CapacitySeen) -> int:
    """How many of the wanted ones the site may not have."""
    return 0 if here.at_most is None else max(0, wanted - here.at_most)


def allowed(name: str, wanted: int, here: CapacitySeen, site: str) -> str:
    """For people: what the limit allows of what is wanted."""
    why = f": {here.why}" if here.why else ""
    return f"{site} may have {here.at_most} of the {wanted} instances of {name} that carry all users{why}"


def hazards_of(step_arguments: Mapping[str, JsonValue], seen: Observation, ends: tuple[str, str]) -> Iterator[Hazard]:
    """The dangers of a step that scales a site (default: the one that takes over). `ends`: the site that is left, and
    the one that takes over."""
    source, target = ends
    site = str(step_arguments.get("site", target))
    vcpus = 0.0
    for name, ask in pinned(step_arguments).items():
        sites = seen.capacity.get(name, {})
        here = sites.get(site, CapacitySeen(why="it was not asked"))
        wanted = goal(ask, sites.get(source) if source != site else None)
        if here.answer == "silent":
            text = f"it is not known how many instances of {name} {site} has and may have: {here.why}"
            yield Hazard(id=f"{UNKNOWN}-{name}"[:63], klass=UNKNOWN, text=text)
        elif lacking := short(wanted, here):
            text = allowed(name, wanted, here, site)
            yield Hazard(id=f"{LIMITED}-{name}"[:63], klass=LIMITED, figure=lacking, unit="instances", text=text)
        vcpus += max(wanted, here.desired) * (ask.cpus or 0.0)
    quota = seen.vcpus.get(site)
    if quota is not None and vcpus > quota:
        text = f"{site} would need {vcpus:g} vCPUs for all users, and the account's quota there is {quota:g}"
        yield Hazard(id=f"{QUOTA}-{site}"[:63], klass=QUOTA, figure=ceil(vcpus - quota), unit="vCPUs", text=text)
