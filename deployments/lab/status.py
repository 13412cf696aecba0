"""What the lab is, as SPEC section 3 describes it: addresses, ports, pids, folders, and which faults stand."""

from __future__ import annotations

from typing import Any

from deployments.lab import breaking, layout, people, status_names
from deployments.lab.arc import part as arc
from deployments.lab.load import counts
from deployments.lab.postgres import leash
from deployments.lab.probe import part as probe
from deployments.lab.world import World
from tasks.postgres.stopping import postmaster_pid


def status(world: World) -> dict[str, Any]:
    """The document of `dr lab status --json`. Addresses are doors (what engine and clients use), pids the real ones."""
    return {
        "home": str(world.home),
        "state": "up" if complete(world) else "down" if not _running(world) else "partly up",
        "sites": {site: _site(world, site) for site in layout.SITES},
        "witness": _witness(world),
        **status_names.status(world),
        "resources": [{"name": "orders-db", "kind": "postgres", "site": site} for site in layout.SITES],
        "approvers": list(people.approvers(world)),
        "proxy": {"pid": world.processes.pid("proxy"), "control": str(world.control)},
        "faults": [fault.model_dump() for fault in breaking.standing(world)],
        "observer": {"pid": world.processes.pid("observer")},
        "load": {"pid": world.processes.pid("load"), **counts(world)},
    }


def expected(world: World) -> list[str]:
    """The processes of a whole lab."""
    return [
        "proxy",
        *(f"{place}.s3" for place in layout.BUCKETS),
        *(f"{member}.postgres" for member in world.members),
        *(["aws", "dns", "resolver", *map(arc.name, layout.ARC)] if world.named else []),
        *([probe.NAME] if probe.wanted(world) else []),
        *(f"{site}.app" for site in layout.SITES if "app" not in world.without),
        *(f"{member}.agent" for member in world.members if "agent" not in world.without),
    ]


def complete(world: World) -> bool:
    """Whether every part runs, awake, and no fault stands."""
    processes = world.processes
    awake = all(processes.alive(name) and not processes.frozen(name) for name in expected(world))
    return awake and not breaking.standing(world)


def _running(world: World) -> bool:
    return any(world.processes.alive(name) for name in expected(world))


def _site(world: World, site: str) -> dict[str, Any]:
    here = [member for member in world.members if layout.site_of(member) == site]
    postgres = [_postgres(world, member) for member in here]
    told: dict[str, Any] = {"postgres": postgres[0], "s3": _s3(world, site)}
    if len(postgres) > 1:
        told["postgres_2"] = postgres[1]
    if "aws" not in world.without:
        url = world.url("aws", site)
        told["aws"] = {**_part(world, "aws", site, "aws"), "endpoint_url": url, "region": world.region(site)}
        if any(each.kind in {"aws", "site"} and each.place == site for each in breaking.standing(world)):
            told["aws"]["state"] = "door closed"
    if "app" not in world.without:
        told["app"] = {**_part(world, f"{site}.app", site, "app"), "url": world.url("app", site)}
    for member in here if "agent" not in world.without else ():
        role = "agent" if member == site else "agent-2"
        part = _part(world, f"{member}.agent", site, role)
        told[role.replace("-", "_")] = {**part, "url": world.agent_url(member)}
    return told


def _witness(world: World) -> dict[str, Any]:
    told = {"s3": _s3(world, layout.WITNESS)}
    if probe.wanted(world):
        told["probe"] = {
            **_part(world, probe.NAME, layout.WITNESS, "probe"),
            "url": world.url("probe", layout.WITNESS),
        }
    return told


def _part(world: World, name: str, place: str, role: str) -> dict[str, Any]:
    processes = world.processes
    state = "stopped" if processes.frozen(name) else "up" if processes.alive(name) else "down"
    return {
        "address": world.address(place),
        "port": layout.PORTS[role],
        "pid": processes.pid(name),
        "state": state,
        "log": str(processes.log(name)),
    }


def _postgres(world: World, member: str) -> dict[str, Any]:
    site = layout.site_of(member)
    role = "postgres" if member == site else "postgres-2"
    part = _part(world, f"{member}.postgres", site, role)
    said = leash.state(world, member) if part["state"] == "up" else None
    held = {"state": said.state, "held": said.why} if said is not None and said.state in {"held", "asking"} else {}
    return {
        **part,
        "pid": postmaster_pid(world.data_dir(member)) if part["pid"] and not held else None,
        **held,
        "dsn": world.dsn(member),
        "data_dir": str(world.data_dir(member)),
    }


def _s3(world: World, place: str) -> dict[str, Any]:
    return {
        **_part(world, f"{place}.s3", place, "s3"),
        "endpoint_url": world.s3(place).endpoint_url,
        "data_dir": str(world.folder(place, "s3") / "data"),
        "buckets": [*layout.BUCKETS[place], layout.EVIDENCE],
        "credentials_file": str(world.s3_credentials(place)),
    }
