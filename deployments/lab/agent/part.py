"""The agents as parts: their configuration, start, test, stop. The agent itself is the product's, not the lab's."""

from __future__ import annotations

import json
from typing import Any

from deployments.lab import layout
from deployments.lab.app.part import ask
from deployments.lab.environment import for_python, module
from deployments.lab.part import Part, Unwell
from deployments.lab.parts import postgres_bin_dir
from deployments.lab.postgres import leash
from deployments.lab.postgres.part import agent_socket
from deployments.lab.probe import part as probe
from deployments.lab.process import wait_until
from deployments.lab.world import World
from recovery.errors import Failed


def name(site: str) -> str:
    """The process name: `east.agent`."""
    return f"{site}.agent"


def config(world: World, site: str) -> dict[str, Any]:
    """What the agent of a site is told: its database, its bucket and the other site's, its socket and its address."""
    other = "west" if site == "east" else "east"
    return {
        "site": site,
        "resource": "orders-db",
        "dsn": world.dsn(site, source=site),
        "data_dir": str(world.data_dir(site)),
        "bin_dir": str(postgres_bin_dir()),
        "socket": str(agent_socket(world, site)),
        "address": layout.hidden(world.block, site),
        "port": layout.PORTS["agent"],
        "local": _store(world, site, source=site),
        "remote": _store(world, other, source=site),
        "heartbeat": True,
        "base_seconds": 1.0,
        "key": f"file:{key}" if (key := world.home / "keys" / "backup.aes").exists() else None,
        "trusted": [f"folder:{world.home / 'keys'}"],
        "leash": str(leash.socket(world, site)),
        "witness": leash.witness(world, source=site).model_dump(),
        "other_agents": leash.other_agents(world, site),
        "upstreams": {other: world.dsn(other, source=site)},
        "replicator": "replicator",
        "lease_seconds": leash.LEASE_SECONDS,
        "clock_bound_seconds": leash.CLOCK_BOUND_SECONDS,
        "probes": {"name": site, "site": site, "probes": probe.probes(world, source=site)},
    }


def start(world: World, site: str) -> Part:
    """Start the agent of a site and wait for its socket."""
    file, processes = world.folder(site) / "agent.json", world.processes
    if not processes.alive(name(site)):
        agent_socket(world, site).unlink(missing_ok=True)
        file.write_text(json.dumps(config(world, site), indent=1))
        processes.spawn(name(site), module("deployments.cli.main", "agent", "run", "--config", file), env=for_python())
    wait_until(
        lambda: _alive(world, site) and agent_socket(world, site).exists(),
        what=f"the agent of {site}",
        patience_seconds=40,
        hint=f"read {processes.log(name(site))}",
    )
    return Part(
        name=name(site),
        pid=processes.pid(name(site)) or 0,
        address=layout.hidden(world.block, site),
        ports={"agent": layout.PORTS["agent"]},
    )


def test(world: World, site: str) -> None:
    """Ask it through its door how it is. Raises Unwell."""
    code, said = ask(world.url("agent", site), "GET", "/status")
    if code != 200:
        raise Unwell(f"the agent of {site} answers {code} {said!r}")


def stop(world: World, site: str) -> None:
    """End it."""
    world.processes.end(name(site), patience_seconds=8)
    agent_socket(world, site).unlink(missing_ok=True)


def _store(world: World, place: str, *, source: str) -> dict[str, Any]:
    endpoint = world.s3(place, source=source)
    return {"site": place, **endpoint.model_dump(), "bucket": "backups", "prefix": "", "region": world.region(place)}


def _alive(world: World, site: str) -> bool:
    if not world.processes.alive(name(site)):
        raise Failed(f"the agent of {site} ended", hint=f"read {world.processes.log(name(site))}")
    return True
