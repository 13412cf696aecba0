"""What the lab's status says of names: servers, zone, health checks with real and scaled intervals, ARC's endpoints."""

from __future__ import annotations

from typing import Any

from deployments.lab import layout
from deployments.lab.arc import part as arc
from deployments.lab.aws.ids import zone_id
from deployments.lab.dns import names
from deployments.lab.dns import part as dns
from deployments.lab.resolver import part as resolver
from deployments.lab.world import World


def status(world: World) -> dict[str, Any]:
    """`dns`, `health_checks` and `arc` of `dr lab status --json`; empty for a lab without names."""
    if not world.named:
        return {}
    told = dns.verdicts(world) if world.processes.alive(dns.NAME) and not world.processes.frozen(dns.NAME) else None
    return {
        "dns": _dns(world),
        "health_checks": _checks(told),
        "arc": {
            "endpoints": [_endpoint(world, number) for number in layout.ARC],
            "controls": names.CONTROLS,
            "safety_rules": {names.SAFETY_RULE: names.SAFETY_RULE_SAYS},
        },
    }


def _dns(world: World) -> dict[str, Any]:
    processes = world.processes
    return {
        "address": layout.hidden(world.block, dns.NAME),
        "port": layout.DNS_PORT,
        "pid": processes.pid(dns.NAME),
        "state": _state(world, dns.NAME),
        "desk_url": world.desk,
        "resolver_address": layout.hidden(world.block, resolver.NAME),
        "resolver_port": layout.DNS_PORT,
        "resolver_pid": processes.pid(resolver.NAME),
        "resolver_state": _state(world, resolver.NAME),
        "zone": names.ZONE,
        "zone_id": zone_id(names.ZONE),
        "name": f"{names.LIVE}.{names.ZONE}",
        "ttl_seconds": names.TTL_SECONDS,
        "app_port": layout.PORTS["app"],
        "health_path": names.HEALTH_PATH,
        "answers": {site: world.address(site, source="user") for site in layout.SITES},
        "published": str(dns.folder(world) / "zone.json"),
    }


def _checks(told: dict[str, Any] | None) -> dict[str, Any]:
    """The checks by name. `healthy` null: the name server that holds the verdicts does not answer."""
    known = {each["id"]: each for each in told["checks"]} if told else {}
    checks: dict[str, Any] = {}
    for name in names.REFERENCES:
        found = known.get(names.id_of(name), {})
        checks[name] = {
            "id": names.id_of(name),
            "healthy": found.get("healthy"),
            "interval_seconds": None if name in names.CONTROLS else names.EVERY_SECONDS,
            "lab_interval_seconds": None if name in names.CONTROLS else names.EVERY_SECONDS * dns.SCALE,
            "failures": None if name in names.CONTROLS else names.FAILURES,
            "why": found.get("why", ""),
        }
    return {"scale": dns.SCALE, "checks": checks}


def _endpoint(world: World, number: int) -> dict[str, Any]:
    name = arc.name(number)
    return {
        "name": name,
        "region": layout.ARC[number],
        "address": world.address(name),
        "port": layout.PORTS["arc"],
        "endpoint_url": world.url("arc", name),
        "pid": world.processes.pid(name),
        "state": _state(world, name),
    }


def _state(world: World, name: str) -> str:
    return "stopped" if world.processes.frozen(name) else "up" if world.processes.alive(name) else "down"
