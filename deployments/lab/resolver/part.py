"""The caching resolver as a part: start, test, stop."""

from __future__ import annotations

import json
import socket
from pathlib import Path

from deployments.lab import layout
from deployments.lab.dns import names
from deployments.lab.environment import for_python, module
from deployments.lab.part import Part, Unwell
from deployments.lab.process import wait_until
from deployments.lab.world import World
from recovery.errors import Failed

NAME = "resolver"


def folder(world: World) -> Path:
    """HOME/lab/resolver."""
    return world.lab / "resolver"


def start(world: World) -> Part:
    """Start it and wait until it listens."""
    address, processes, here = layout.hidden(world.block, NAME), world.processes, folder(world)
    here.mkdir(exist_ok=True)
    if not processes.alive(NAME):
        config = {
            "address": address,
            "port": layout.DNS_PORT,
            "server": [layout.hidden(world.block, "dns"), layout.DNS_PORT],
            "weather": str(here / "weather.json"),
        }
        (here / "config.json").write_text(json.dumps(config))
        processes.spawn(NAME, module("deployments.lab.resolver.serve", here / "config.json"), env=for_python())
    wait_until(
        lambda: _listens(world),
        what="the resolver",
        patience_seconds=20,
        hint=f"read {processes.log(NAME)}",
    )
    return Part(name=NAME, pid=processes.pid(NAME) or 0, address=address, ports={"dns": layout.DNS_PORT})


def test(world: World) -> None:
    """Ask it twice for the zone's TXT: the second answer has aged, or is as new. Raises Unwell."""
    import dns.exception
    import dns.message
    import dns.query

    question = dns.message.make_query(f"{names.ZONE}.", "TXT")
    ttls: list[int] = []
    for _ in range(2):
        try:
            told = dns.query.udp(question, layout.hidden(world.block, NAME), port=layout.DNS_PORT, timeout=4)
        except (dns.exception.DNSException, OSError) as silence:
            raise Unwell(f"the resolver does not answer: {silence}") from silence
        ttls += [rrset.ttl for rrset in told.answer]
    if len(ttls) != 2 or ttls[1] > ttls[0]:
        raise Unwell(f"the resolver's answers have the TTLs {ttls}: it does not keep them")


def stop(world: World) -> None:
    """End it."""
    world.processes.end(NAME, patience_seconds=3)


def _listens(world: World) -> bool:
    if not world.processes.alive(NAME):
        raise Failed("the resolver ended at its start", hint=f"read {world.processes.log(NAME)}")
    try:
        socket.create_connection((layout.hidden(world.block, NAME), layout.DNS_PORT), timeout=2).close()
    except OSError:
        return False
    return True
