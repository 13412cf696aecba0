"""The name servers as a part: start, test, stop. Neutral: no fault of a site or of the emulator ends them."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from deployments.lab import layout
from deployments.lab.dns import names
from deployments.lab.environment import for_python, module
from deployments.lab.part import Part, Unwell
from deployments.lab.process import wait_until
from deployments.lab.world import World
from recovery.errors import Failed

NAME = "dns"
SCALE = 0.025
"""Of the real interval between two probes: 10 s three times become 0.5 to 0.75 s."""
PROBE_PATIENCE_SECONDS = 2.0
"""Not scaled: on a busy machine a short one would move names for nothing. AWS gives 4 s to connect, 2 s to answer."""


def folder(world: World) -> Path:
    """HOME/lab/dns: the last published zone, the last verdicts, the weather."""
    return world.lab / "dns"


def start(world: World) -> Part:
    """Start the name server and wait until it answers; it needs no zone for that."""
    address, processes, here = layout.hidden(world.block, NAME), world.processes, folder(world)
    here.mkdir(exist_ok=True)
    if not processes.alive(NAME):
        config = {
            "address": address,
            "port": layout.DNS_PORT,
            "desk_port": layout.DESK_PORT,
            "folder": str(here),
            "scale": SCALE,
            "patience_seconds": PROBE_PATIENCE_SECONDS,
            "arc": [str(world.lab / "arc" / f"arc-{number}.json") for number in layout.ARC],
        }
        (here / "config.json").write_text(json.dumps(config))
        processes.spawn(NAME, module("deployments.lab.dns.serve", here / "config.json"), env=for_python())
    wait_until(
        lambda: _answers(world),
        what="the name server",
        patience_seconds=20,
        hint=f"read {processes.log(NAME)}",
    )
    return Part(
        name=NAME,
        pid=processes.pid(NAME) or 0,
        address=address,
        ports={"dns": layout.DNS_PORT, "desk": layout.DESK_PORT},
    )


def test(world: World) -> None:
    """Ask it for the live name over UDP and TCP: the answer is one of the sites. Raises Unwell."""
    import dns.exception
    import dns.message
    import dns.query

    question = dns.message.make_query(f"{names.LIVE}.{names.ZONE}.", "A")
    at, port = layout.hidden(world.block, NAME), layout.DNS_PORT
    sites = {world.address(site, source="user") for site in layout.SITES}
    for ask in (dns.query.udp, dns.query.tcp):
        try:
            told = ask(question, at, port=port, timeout=2)
        except (dns.exception.DNSException, OSError) as silence:
            raise Unwell(f"the name server does not answer: {silence}") from silence
        given = {each.to_text() for rrset in told.answer for each in rrset}
        if len(given) != 1 or not given <= sites:
            raise Unwell(f"the name server answered {sorted(given) or 'nothing'}, not an address of a site")


def verdicts(world: World) -> dict[str, Any] | None:
    """What its desk tells of the health checks; None while it is silent."""
    try:
        with urllib.request.urlopen(f"{world.desk}/health-checks", timeout=1) as answer:  # noqa: S310 -- our own address
            told: dict[str, Any] = json.loads(answer.read())
            return told
    except (urllib.error.URLError, OSError, ValueError):
        return None


def stop(world: World) -> None:
    """End it."""
    world.processes.end(NAME, patience_seconds=3)


def _answers(world: World) -> bool:
    if not world.processes.alive(NAME):
        raise Failed("the name server ended at its start", hint=f"read {world.processes.log(NAME)}")
    return verdicts(world) is not None
