"""The lab's faults as values: what may be broken, how, and the weather that all standing faults make together. Pure.

Separate from breaking.py, which acts, so that healing one of two faults leaves exactly the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, get_args

from deployments.lab.layout import ARC, PATHS, SECOND, SITES, WITNESS, site_of
from deployments.lab.proxy.weather import FINE, Link, PathWeather, Weather, both
from recovery.errors import BadInput
from recovery.value import Value

How = Literal["kill", "stop", "blackhole", "cut", "delay", "small", "limited"]
ROLES = ("postgres", "s3", "aws", "app", "agent")
NAME_SERVERS = ("dns", "resolver")
BLUNT: tuple[How, ...] = ("kill", "stop", "blackhole")
WAYS: dict[str, tuple[How, ...]] = {
    "network": ("cut", "blackhole", "delay"),
    **dict.fromkeys(NAME_SERVERS, (*BLUNT, "delay")),
    "capacity": ("small", "limited"),
}
"""By kind; every other kind has the blunt ones."""
SAME: dict[str, dict[str, How]] = {"network": {"kill": "cut", "stop": "blackhole"}}
"""A network has no process: killed it is cut, stopped it takes everything and gives nothing."""


class Fault(Value):
    """One standing fault, like `postgres:east` by `kill`. `delay_ms` only for `delay`."""

    name: str
    how: How
    delay_ms: float = 0.0

    @property
    def kind(self) -> str:
        """`postgres`, `site`, `network`, `witness`…"""
        return self.name.partition(":")[0]

    @property
    def place(self) -> str:
        """The site, `east-west` of a network fault, `arc-2`; the witness and the name servers are their own places."""
        kind, _, place = self.name.partition(":")
        return f"arc-{place}" if kind == "arc" else place or kind


def names() -> list[str]:
    """All faults there are."""
    places = [f"{role}:{site}" for role in (*ROLES, "site", "capacity") for site in SITES]
    pairs = sorted(path for path in PATHS if "arc" not in path)
    arcs = [f"arc:{number}" for number in ARC]
    return [*places, *(f"network:{pair}" for pair in pairs), *arcs, *NAME_SERVERS, WITNESS]


def parse(name: str, how: str | None, *, delay_ms: float = 200.0) -> Fault:
    """The fault of that name; `how` None takes the kind's first. Raises BadInput with the valid ones."""
    if name not in names():
        raise BadInput(f"there is no fault {name!r}", hint=f"choose one of: {', '.join(names())}")
    kind = name.partition(":")[0]
    ways = WAYS.get(kind, BLUNT)
    how = ways[0] if how is None else SAME.get(kind, {}).get(how, how)
    if how not in ways or how not in get_args(How):
        raise BadInput(f"{name} cannot be broken by {how!r}", hint=f"choose --how {' or '.join(ways)}")
    if how == "delay" and not 0 < delay_ms <= 60_000:
        raise BadInput(f"a delay of {delay_ms:g} ms makes no sense", hint="choose --delay-ms above 0 and up to 60000")
    return Fault.model_validate({"name": name, "how": how, "delay_ms": delay_ms if how == "delay" else 0.0})


def processes(fault: Fault, *, members: Iterable[str]) -> list[str]:
    """The processes that a kill or a stop of this fault strikes (aws has none: its door closes instead)."""
    if fault.how not in {"kill", "stop"}:
        return []
    here = [member for member in members if site_of(member) == fault.place]
    servers = [f"{member}.postgres" for member in here]
    parts = {
        "postgres": servers,
        "s3": [f"{fault.place}.s3"],
        "app": [f"{fault.place}.app"],
        "agent": [f"{member}.agent" for member in here],
        "witness": [f"{WITNESS}.s3", f"{WITNESS}.probe"],
        **{each: [each] for each in NAME_SERVERS},
        "arc": [fault.place],
    }
    if fault.kind == "site":
        return [*parts["app"], *parts["agent"], *servers, *parts["s3"]]
    return parts.get(fault.kind, [])


def weather(links: Iterable[Link], standing: Iterable[Fault]) -> dict[str, PathWeather]:
    """The weather of every door under all standing faults; where two meet, the worse wins."""
    faults = list(standing)
    return {link.name: _worst(link, faults) for link in links}


def sky(server: str, standing: Iterable[Fault]) -> Weather:
    """The weather of a name server, which has no door: it is silent or slow by itself."""
    mine = [fault for fault in standing if fault.name == server]
    if any(fault.how == "blackhole" for fault in mine):
        return Weather(mode="blackhole")
    return Weather(delay_ms=max((fault.delay_ms for fault in mine), default=0.0))


def small(site: str, standing: Iterable[Fault]) -> str:
    """Whether the site is too small to carry the platform: `small` until it is given more instances, `limited` where
    it may not have more; empty when it is not."""
    return next((fault.how for fault in standing if fault.kind == "capacity" and fault.place == site), "")


def _worst(link: Link, faults: list[Fault]) -> PathWeather:
    ranks = ("pass", "cut", "blackhole")
    found = [each for fault in faults for each in _of(fault, link)]
    return max(found, key=lambda each: (ranks.index(each.forth.mode), each.forth.delay_ms), default=FINE)


def _of(fault: Fault, link: Link) -> Iterator[PathWeather]:
    source, _, destination = link.path.partition("-")
    role = link.role.removesuffix(SECOND)
    doors = {"site": ("aws",), "witness": ("s3", "probe")}.get(fault.kind, (fault.kind,))
    hang = both("blackhole")
    if fault.kind == "network":
        if {source, destination} == set(fault.place.split("-")):
            yield {"cut": both("cut"), "blackhole": hang}.get(fault.how, both("pass", fault.delay_ms))
    elif fault.kind in {"site", "witness"} and fault.how == "blackhole":
        if fault.place in {source, destination}:
            yield hang
    elif destination == fault.place and role in doors:
        # The emulator is one for all regions: its door closes or hangs, its process lives on.
        if role == "aws":
            yield both("cut") if fault.how == "kill" else hang
        elif fault.how == "blackhole":
            yield hang
