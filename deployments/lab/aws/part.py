"""The emulator as a part: start, test, stop. One process for all regions; breaking `aws:east` closes its door."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from pathlib import Path

from deployments.lab import layout
from deployments.lab.dns.part import folder as dns_folder
from deployments.lab.environment import for_python, module
from deployments.lab.part import Part, Unwell
from deployments.lab.process import wait_until
from deployments.lab.world import World
from recovery.errors import Failed

NAME = "aws"
PORT = layout.PORTS["aws"]
PENDING_SECONDS = 0.1
"""How long a change of Route53 stays PENDING; on AWS it is generally up to a minute."""


def credentials(world: World) -> Path:
    """The file of credentials for the emulator, made when it is missing. It takes any, but a client wants some."""
    path = world.lab / "aws" / "credentials.json"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(json.dumps({"access_key_id": "lab", "secret_access_key": "lab"}))
    return path


def start(world: World) -> Part:
    """Start the emulator and wait until it answers. What its Route53 knew is in HOME/lab/aws/route53.json."""
    address, processes, folder = layout.hidden(world.block, "aws"), world.processes, world.lab / "aws"
    if not processes.alive(NAME):
        for each in (folder, dns_folder(world)):
            each.mkdir(exist_ok=True)
        config = {
            "addresses": {site: layout.hidden(world.block, layout.aws_place(site)) for site in layout.SITES},
            "global": "east",
            "port": PORT,
            "state": str(folder / "route53.json"),
            "published": str(dns_folder(world) / "zone.json"),
            "desk_url": world.desk,
            "delay_seconds": PENDING_SECONDS,
        }
        (folder / "config.json").write_text(json.dumps(config))
        processes.spawn(NAME, module("deployments.lab.aws.serve", folder / "config.json"), env=for_python())
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
