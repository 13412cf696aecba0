"""The witness's probe as a part: what every vantage point asks, start, test, stop."""

from __future__ import annotations

import json
from typing import Any

from deployments.lab import layout
from deployments.lab.app.part import ask
from deployments.lab.environment import for_python, module
from deployments.lab.part import Part, Unwell
from deployments.lab.process import wait_until
from deployments.lab.world import World
from recovery.errors import Failed

NAME = f"{layout.WITNESS}.probe"
PORT = layout.PORTS["probe"]
READY_PATH = "/ready"


def wanted(world: World) -> bool:
    """Whether this lab has one: without the platform there is nothing to ask."""
    return "app" not in world.without and world.named


def probes(world: World, *, source: str) -> list[dict[str, str]]:
    """The service's probes as a vantage point at `source` asks them: each through its own path."""
    return [
        {
            "name": f"app-{site}",
            "site": site,
            "url": world.url("app", site, source=source) + READY_PATH,
            "expect": f'"site": "{site}"',
        }
        for site in layout.SITES
    ]


def start(world: World) -> Part:
    """Start it and wait until it answers."""
    address, processes, folder = layout.hidden(world.block, layout.WITNESS), world.processes, world.lab / "witness"
    if not processes.alive(NAME):
        config: dict[str, Any] = {
            "name": layout.WITNESS,
            "site": layout.WITNESS,
            "address": address,
            "port": PORT,
            "probes": probes(world, source=layout.WITNESS),
        }
        folder.mkdir(exist_ok=True)
        (folder / "probe.json").write_text(json.dumps(config, indent=1))
        processes.spawn(NAME, module("tasks.service.vantage", folder / "probe.json"), env=for_python())
    wait_until(
        lambda: _alive(world) and ask(f"http://{address}:{PORT}", "GET", "/probes")[0] == 200,
        what="the witness's probe",
        patience_seconds=20,
        hint=f"read {processes.log(NAME)}",
    )
    return Part(name=NAME, pid=processes.pid(NAME) or 0, address=address, ports={"probe": PORT})


def test(world: World) -> None:
    """Ask it through its door what it sees. Raises Unwell."""
    code, said = ask(world.url("probe", layout.WITNESS), "GET", "/probes")
    if code != 200 or set(json.loads(said)["probes"]) != {each["name"] for each in probes(world, source="witness")}:
        raise Unwell(f"the witness's probe answers {code} {said!r}")


def stop(world: World) -> None:
    """End it."""
    world.processes.end(NAME, patience_seconds=3)


def _alive(world: World) -> bool:
    if not world.processes.alive(NAME):
        raise Failed("the witness's probe ended", hint=f"read {world.processes.log(NAME)}")
    return True
