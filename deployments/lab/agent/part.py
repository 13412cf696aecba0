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


def name(member: str) -> str:
    """The process name: `east.agent`. Each Postgres server has one beside it."""
    return f"{member}.agent"


def config(world: World, member: str) -> dict[str, Any]:
    """What an agent is told: its database, its bucket and the other site's, its socket and its address."""
    site = layout.site_of(member)
    other = "west" if site == "east" else "east"
    return {
        "site": site,
        "member": member,
        "resource": "orders-db",
        "dsn": world.dsn(member, source=site),
        "data_dir": str(world.data_dir(member)),
        "bin_dir": str(postgres_bin_dir()),
        "socket": str(agent_socket(world, member)),
        "address": layout.hidden(world.block, member),
        "port": layout.PORTS["agent"],
        "local": _store(world, site, source=site),
        "remote": _store(world, other, source=site),
        "heartbeat": True,
        "base_seconds": 1.0,
        "key": f"file:{key}" if (key := world.home / "keys" / "backup.aes").exists() else None,
        "trusted": [f"folder:{world.home / 'keys'}"],
        "leash": str(leash.socket(world, member)),
        "witness": leash.witness(world, source=site).model_dump(),
        "other_agents": leash.other_agents(world, site),
        "upstreams": {each: world.dsn(each, source=site) for each in world.members if each != member},
        "replicator": "replicator",
        "lease_seconds": leash.LEASE_SECONDS,
        "clock_bound_seconds": leash.CLOCK_BOUND_SECONDS,
        "probes": {"name": member, "site": site, "probes": probe.probes(world, source=site)},
    }


def start(world: World, member: str) -> Part:
    """Start the agent of a server and wait for its socket."""
    file, processes = world.folder(member) / "agent.json", world.processes
    if not processes.alive(name(member)):
        agent_socket(world, member).unlink(missing_ok=True)
        file.write_text(json.dumps(config(world, member), indent=1))
        processes.spawn(
            name(member), module("deployments.cli.main", "agent", "run", "--config", file), env=for_python()
        )
    wait_until(
        lambda: _alive(world, member) and agent_socket(world, member).exists(),
        what=f"the agent of {member}",
        patience_seconds=40,
        hint=f"read {processes.log(name(member))}",
    )
    return Part(
        name=name(member),
        pid=processes.pid(name(member)) or 0,
        address=layout.hidden(world.block, member),
        ports={"agent": layout.PORTS["agent"]},
    )


def test(world: World, member: str) -> None:
    """Ask it through its door how it is. Raises Unwell."""
    code, said = ask(world.agent_url(member), "GET", "/status")
    if code != 200:
        raise Unwell(f"the agent of {member} answers {code} {said!r}")


def stop(world: World, member: str) -> None:
    """End it."""
    world.processes.end(name(member), patience_seconds=8)
    agent_socket(world, member).unlink(missing_ok=True)


def _store(world: World, place: str, *, source: str) -> dict[str, Any]:
    endpoint = world.s3(place, source=source)
    return {"site": place, **endpoint.model_dump(), "bucket": "backups", "prefix": "", "region": world.region(place)}


def _alive(world: World, member: str) -> bool:
    if not world.processes.alive(name(member)):
        raise Failed(f"the agent of {member} ended", hint=f"read {world.processes.log(name(member))}")
    return True
