"""ARC's endpoints as parts: start, test, stop. Each behind a door of its own; two may be down."""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from typing import Any

from deployments.lab import layout
from deployments.lab.dns import names
from deployments.lab.environment import for_python, module
from deployments.lab.part import Part, Unwell
from deployments.lab.process import wait_until
from deployments.lab.world import World
from recovery.errors import Failed

PORT = layout.PORTS["arc"]


def name(number: int) -> str:
    """The process name: `arc-3`."""
    return f"arc-{number}"


def folder(world: World) -> Path:
    """HOME/lab/arc: the cluster's description and each endpoint's replica of the states."""
    return world.lab / "arc"


def config(world: World) -> dict[str, Any]:
    """The cluster: who is in it, its routing controls with the state that they begin with, its safety rule."""
    return {
        "folder": str(folder(world)),
        "endpoints": {str(number): [layout.hidden(world.block, name(number)), PORT] for number in layout.ARC},
        "control_panel": names.CONTROL_PANEL,
        "controls": {
            each: {"arn": arn, "first": each == next(iter(names.CONTROLS))} for each, arn in names.CONTROLS.items()
        },
        "rules": [
            {
                "arn": names.SAFETY_RULE,
                "name": names.SAFETY_RULE_SAYS,
                "controls": list(names.CONTROLS.values()),
                "at_least": 1,
            }
        ],
    }


def start(world: World, number: int) -> Part:
    """Start one endpoint and wait until it listens."""
    processes, file = world.processes, folder(world) / f"config-{number}.json"
    address = layout.hidden(world.block, name(number))
    if not processes.alive(name(number)):
        folder(world).mkdir(exist_ok=True)
        file.write_text(json.dumps(config(world)))
        processes.spawn(name(number), module("deployments.lab.arc.serve", file, number), env=for_python())
    wait_until(
        lambda: _listens(world, number, address),
        what=f"ARC's endpoint {number}",
        patience_seconds=20,
        hint=f"read {processes.log(name(number))}",
    )
    return Part(name=name(number), pid=processes.pid(name(number)) or 0, address=address, ports={"arc": PORT})


def settle(world: World) -> None:
    """Have the cluster agree once: a fresh one then has its first states on disk, where the name servers read them."""
    code, said = ask(layout.hidden(world.block, name(1)), "ListRoutingControls", {})
    if code != 200:
        raise Failed(f"ARC's endpoints do not agree: {said}", hint=f"read {world.processes.log(name(1))}")


def test(world: World, number: int) -> None:
    """Ask it through its door for the controls and write one's own state back. Raises Unwell."""
    address = world.address(name(number))
    code, said = ask(address, "ListRoutingControls", {})
    if code != 200 or len(said.get("RoutingControls", [])) != len(names.CONTROLS):
        raise Unwell(f"ARC's endpoint {number} answers {code} {said}")
    one = said["RoutingControls"][0]
    entry = {key: one[key] for key in ("RoutingControlArn", "RoutingControlState")}
    code, said = ask(address, "UpdateRoutingControlStates", {"UpdateRoutingControlStateEntries": [entry]})
    if code != 200:
        raise Unwell(f"ARC's endpoint {number} refuses a write: {code} {said}")


def stop(world: World, number: int) -> None:
    """End it."""
    world.processes.end(name(number), patience_seconds=3)


def ask(address: str, operation: str, asked: dict[str, Any], *, patience_seconds: float = 3) -> tuple[int, Any]:
    """One operation by hand; gives status and answer, or 0 and the trouble's name. boto3 would cost seconds to load."""
    line = http.client.HTTPConnection(address, PORT, timeout=patience_seconds)
    headers = {"X-Amz-Target": f"ToggleCustomerAPI.{operation}", "Content-Type": "application/x-amz-json-1.0"}
    try:
        line.request("POST", "/", json.dumps(asked), headers)
        answer = line.getresponse()
        return answer.status, json.loads(answer.read())
    except (OSError, ValueError, http.client.HTTPException) as trouble:
        return 0, type(trouble).__name__
    finally:
        line.close()


def _listens(world: World, number: int, address: str) -> bool:
    if not world.processes.alive(name(number)):
        raise Failed(f"ARC's endpoint {number} ended at its start", hint=f"read {world.processes.log(name(number))}")
    line = http.client.HTTPConnection(address, PORT, timeout=2)
    try:
        line.connect()
    except OSError:
        return False
    finally:
        line.close()
    return True
