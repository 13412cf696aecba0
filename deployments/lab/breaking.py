"""Break and heal: the acts behind faults.py. What stands is remembered in HOME/lab/faults.json."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from deployments.lab import faults, layout
from deployments.lab.agent import part as agent
from deployments.lab.app import part as app
from deployments.lab.arc import part as arc
from deployments.lab.dns import files
from deployments.lab.dns import part as dns
from deployments.lab.faults import Fault
from deployments.lab.postgres import part as postgres
from deployments.lab.probe import part as probe
from deployments.lab.proxy import control
from deployments.lab.resolver import part as resolver
from deployments.lab.s3 import part as s3
from deployments.lab.world import World
from recovery.errors import BadInput

WAKING_SECONDS = 1.0


def standing(world: World) -> list[Fault]:
    """The faults that stand, oldest first."""
    try:
        return [Fault.model_validate(each) for each in json.loads(_file(world).read_text())]
    except FileNotFoundError:
        return []


def begin(world: World, fault: Fault) -> None:
    """Break it; again is harmless, and another `how` replaces the first. Remembered before it is done."""
    others = [each for each in standing(world) if each.name != fault.name]
    if len(others) < len(standing(world)):
        end(world, fault.name)
    _remember(world, [*others, fault])
    for name in faults.processes(fault, members=world.members):
        world.processes.kill(name) if fault.how == "kill" else world.processes.freeze(name)
    _blow(world)


def end(world: World, name: str = "all") -> list[str]:
    """Heal one fault or all: what was killed starts again with its data. Gives the faults healed. Raises BadInput."""
    if name != "all" and name not in faults.names():
        raise BadInput(f"there is no fault {name!r}", hint=f"choose all or one of: {', '.join(faults.names())}")
    before = standing(world)
    healed = [fault for fault in before if name in {"all", fault.name}]
    kept = [fault for fault in before if fault not in healed]
    struck = {each for fault in kept for each in faults.processes(fault, members=world.members)}
    # Doors first: a standby or an agent that starts needs its paths.
    _blow(world, kept)
    for fault in healed:
        _revive(world, fault, struck)
    _remember(world, kept)
    return [fault.name for fault in healed]


def forget(world: World) -> None:
    """For up and down: wake what sleeps; no fault stands any more."""
    for name in world.processes.names():
        world.processes.thaw(name)
    _file(world).unlink(missing_ok=True)
    _sky(world, [])
    _capacity(world, [])


def _revive(world: World, fault: Fault, struck: set[str]) -> None:
    mine = [name for name in faults.processes(fault, members=world.members) if name not in struck]
    for name in reversed(mine):  # objects and database before agent and application
        if fault.how == "stop":
            world.processes.thaw(name)
            if name.endswith(".postgres") and not _goes_on(world, name):
                _start(world, name)()
        elif not world.processes.alive(name) and name in world.processes.names():
            _start(world, name)()


def _goes_on(world: World, name: str) -> bool:
    """Whether a part that was woken lives on: a server that a fence killed in its sleep ends its leash a moment
    after it wakes, and whoever runs such a service starts it again."""
    deadline = time.monotonic() + WAKING_SECONDS
    while world.processes.alive(name) and time.monotonic() < deadline:
        time.sleep(0.05)
    return world.processes.alive(name) or name not in world.processes.names()


def _start(world: World, name: str) -> Callable[[], object]:
    place, _, part = name.rpartition(".")
    if part.startswith("arc-"):
        return lambda: arc.start(world, int(part.removeprefix("arc-")))
    return {
        "postgres": lambda: postgres.start(world, place),
        "s3": lambda: s3.start(world, place),
        "app": lambda: app.start(world, place),
        "agent": lambda: agent.start(world, place),
        "probe": lambda: probe.start(world),
        "dns": lambda: dns.start(world),
        "resolver": lambda: resolver.start(world),
    }[part]


def _blow(world: World, stand: list[Fault] | None = None) -> None:
    stand = standing(world) if stand is None else stand
    links = layout.links(world.block, standbys=world.standbys, s3_ports=dict.fromkeys(layout.BUCKETS, 1))
    control.change(world.control, faults.weather(links, stand))
    _sky(world, stand)
    _capacity(world, stand)


def _sky(world: World, stand: list[Fault]) -> None:
    """The weather of the name servers: they look at it at every question."""
    for name, folder in ((dns.NAME, dns.folder(world)), (resolver.NAME, resolver.folder(world))):
        if folder.is_dir():
            files.write(folder / "weather.json", faults.sky(name, stand).model_dump(mode="json"))


def _capacity(world: World, stand: list[Fault]) -> None:
    """The switch that the sample platform looks at. Only a change of it takes away what the site was given since."""
    for site in layout.SITES:
        switch, word = world.folder(site, "app") / "capacity", faults.small(site, stand)
        if word == (switch.read_text() if switch.exists() else ""):
            continue
        (switch.parent / "at_least").unlink(missing_ok=True)
        if word:
            switch.parent.mkdir(parents=True, exist_ok=True)
            switch.write_text(word)
        else:
            switch.unlink()


def _remember(world: World, stand: list[Fault]) -> None:
    fresh = _file(world).with_suffix(".new")
    fresh.write_text(json.dumps([each.model_dump() for each in stand]))
    fresh.replace(_file(world))


def _file(world: World) -> Path:
    return world.lab / "faults.json"
