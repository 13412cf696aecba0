"""The emulator as a part: start, test, stop. One process for all regions; breaking `aws:east` closes its door."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request

from deployments.lab import layout
from deployments.lab.environment import for_python, module
from deployments.lab.part import Part, Unwell
from deployments.lab.process import wait_until
from deployments.lab.world import World
from recovery.errors import Failed

NAME = "aws"
PORT = layout.PORTS["aws"]


def start(world: World) -> Part:
    """Start the emulator and wait until it answers."""
    address, processes = layout.hidden(world.block, "aws"), world.processes
    if not processes.alive(NAME):
        processes.spawn(NAME, module("deployments.lab.aws.serve", address, PORT), env=for_python())
    wait_until(
        lambda: _answers(world, f"http://{address}:{PORT}/moto-api/"),
        what="the AWS emulator",
        patience_seconds=40,
        hint=f"read {processes.log(NAME)}",
    )
    return Part(name=NAME, pid=processes.pid(NAME) or 0, address=address, ports={"aws": PORT})


def test(world: World, site: str) -> None:
    """Use it through a region's door: who am I. Raises Unwell."""
    import boto3

    sts = boto3.client(
        "sts",
        endpoint_url=world.url("aws", site),
        region_name=world.region(site),
        aws_access_key_id="lab",
        aws_secret_access_key="lab",  # noqa: S106 -- the emulator takes any
    )
    if not sts.get_caller_identity().get("Account"):
        raise Unwell(f"the emulator does not know its caller through {site}'s door")


def stop(world: World) -> None:
    """End it."""
    world.processes.end(NAME, patience_seconds=3)


def _answers(world: World, url: str) -> bool:
    if not world.processes.alive(NAME):
        raise Failed("the AWS emulator ended at its start", hint=f"read {world.processes.log(NAME)}")
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 -- http to our own loopback address
            return bool(answer.status == 200)
    except (urllib.error.URLError, http.client.HTTPException, OSError):
        return False
