"""The proxy as a part: start, test, stop."""

from __future__ import annotations

import json
import socket
from contextlib import suppress

from deployments.lab import layout
from deployments.lab.environment import for_python, module
from deployments.lab.part import Part, Unwell
from deployments.lab.process import wait_until
from deployments.lab.proxy import control
from deployments.lab.proxy.weather import FINE, both
from deployments.lab.world import World
from recovery.errors import Failed

NAME = "proxy"


def start(world: World) -> Part:
    """Start the proxy with the doors of this world; when it runs already it is left alone."""
    state_file = world.lab / "proxy.json"
    links = [
        each.model_dump(mode="json")
        for each in layout.links(
            world.block, standbys=world.standbys, s3_ports={k: v + 6 for k, v in world.s3_base_ports.items()}
        )
    ]
    processes = world.processes
    # Raising a lab heals it, so the weather of an earlier fault is not kept here; a proxy that dies keeps it itself.
    remembered = json.loads(state_file.read_text()) if state_file.exists() else {}
    if processes.alive(NAME) and remembered.get("links") != links:
        processes.end(NAME)
    if not processes.alive(NAME):
        state_file.write_text(json.dumps({"links": links, "weather": {}}))
        processes.spawn(NAME, module("deployments.lab.proxy.serve", world.control, state_file), env=for_python())
    wait_until(
        lambda: control.answers(world.control) or _ended(world),
        what="the proxy",
        patience_seconds=15,
        hint=f"read {processes.log(NAME)}",
    )
    control.change(world.control, {f"{each['path']}:{each['role']}": FINE for each in links})
    return Part(name=NAME, pid=processes.pid(NAME) or 0, address=world.block)


def _ended(world: World) -> bool:
    if world.processes.alive(NAME):
        return False
    raise Failed("the proxy ended at its start", hint=f"read {world.processes.log(NAME)}")


def test(world: World) -> None:
    """Cut one door, see it refuse, give it its weather back, see it carry. Raises Unwell."""
    name, door = "engine-witness:s3", (world.address(layout.WITNESS), layout.PORTS["s3"])
    before = control.weather(world.control)[name]
    control.change(world.control, {name: both("cut")})
    try:
        with suppress(ConnectionRefusedError), socket.create_connection(door, timeout=5):
            raise Unwell("a door that was cut accepted a connection")
    finally:
        control.change(world.control, {name: before})
    if before == FINE:
        socket.create_connection(door, timeout=5).close()


def stop(world: World) -> None:
    """End the proxy; open connections are closed."""
    world.processes.end(NAME, patience_seconds=5)
