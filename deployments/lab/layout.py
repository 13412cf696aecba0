"""Where everything of a lab lies: its block of loopback addresses, its doors, its folders. Pure but for trying to bind.

Separate because the proxy, the parts, the catalog and the status must agree on it. Real servers listen on hidden
addresses; everybody else speaks to a door: an address for each (source, destination), a port for each role.
"""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from deployments.lab.proxy.weather import Link
from recovery.errors import Failed

SITES: Final = ("east", "west")
WITNESS: Final = "witness"
REGIONS: Final = {"east": "us-east-1", "west": "us-west-2", "witness": "us-east-2"}
PORTS: Final = {
    "postgres": 5432,
    "postgres-2": 5433,
    "s3": 8333,
    "aws": 5000,
    "app": 8080,
    "agent": 7070,
    "agent-2": 7072,
    "probe": 7071,
    "arc": 9100,
}
"""One port a role, the same at every site. The second standby of the west and its agent are at the same address."""
SECOND: Final = "-2"
"""The end of the names of the west's second standby, and of the roles of its doors."""
DNS_PORT: Final = 5300
DESK_PORT: Final = 5380
ARC: Final = {1: "us-east-1", 2: "us-west-2", 3: "eu-west-1", 4: "ap-northeast-1", 5: "ap-southeast-2"}
"""ARC's endpoints by number: their regions, as in a real cluster."""
HIDDEN: Final = {
    "east": 11,
    "west": 12,
    "west-2": 13,
    "witness": 14,
    "aws": 15,
    "aws-west": 16,
    "dns": 53,
    "resolver": 54,
    **{f"arc-{number}": 60 + number for number in ARC},
}
"""The emulator has an address for each region's door. Name servers have no door: their weather is their own."""
SOURCES: Final = ("engine", "user", "east", "west", "witness")
"""`user`: everybody outside, and Route53's health checkers. The witness's own outgoing paths are its probe's."""
PATHS: Final = {
    "engine-east": 21,
    "engine-west": 22,
    "engine-witness": 23,
    "east-west": 32,
    "east-witness": 33,
    "west-east": 41,
    "west-witness": 43,
    "user-east": 26,
    "user-west": 27,
    "witness-east": 51,
    "witness-west": 52,
    **{f"engine-arc-{number}": 70 + number for number in ARC},
}
DOORS: Final = "doors"
"""The bucket of markers by which a standby takes over: health checkers read it, so it can be read by anybody."""
BUCKETS: Final = {
    "east": ("backups", "videos", DOORS),
    "west": ("backups", "videos", DOORS, "standfast-leases"),
    "witness": ("standfast-leases",),
}
EVIDENCE: Final = "standfast-evidence"
"""At every place: the ledger's home is the witness, its mirrors are the sites. Versioned, object lock."""


def hidden(block: str, place: str) -> str:
    """The address on which the real servers of `place` listen."""
    return f"{block}.{HIDDEN[place]}"


def door(block: str, source: str, destination: str) -> str:
    """The address at which `source` reaches `destination`; inside a site that is the real server's own."""
    if source == destination:
        return hidden(block, destination)
    return f"{block}.{PATHS[f'{source}-{destination}']}"


def links(block: str, *, standbys: int, s3_ports: dict[str, int]) -> Iterator[Link]:
    """Every door of the lab. `s3_ports`: the real port of each place's S3 server."""
    for path in PATHS:
        source, _, destination = path.partition("-")
        for role in _roles(source, destination):
            place, to_port = destination, PORTS[role]
            match role:
                case "s3":
                    to_port = s3_ports[destination]
                case "aws":
                    place = aws_place(destination)
                case "postgres-2" | "agent-2":
                    if destination != "west" or standbys < 2:
                        continue
                    place, to_port = destination + SECOND, PORTS[role.removesuffix(SECOND)]
            yield Link(
                path=path,
                role=role,
                address=f"{block}.{PATHS[path]}",
                port=PORTS[role],
                to_address=hidden(block, place),
                to_port=to_port,
            )


def _roles(source: str, destination: str) -> tuple[str, ...]:
    """What `source` may want of `destination`."""
    if destination == WITNESS:
        return ("s3", "probe")
    if destination not in SITES:
        return ("arc",)
    return {"user": ("app", "s3"), WITNESS: ("app", "agent")}.get(
        source, ("postgres", "postgres-2", "s3", "aws", "app", "agent", "agent-2")
    )


def site_of(member: str) -> str:
    """The site of a Postgres server."""
    return member.removesuffix(SECOND)


def aws_place(site: str) -> str:
    """Which of the emulator's addresses a region's door leads to."""
    return "aws" if site == "east" else f"aws-{site}"


def free_block(home: str) -> str:
    """`127.A.B` for the lab of `home`: derived from it, moved while somebody listens there. Raises Failed."""
    digest = hashlib.sha256(home.encode()).digest()
    for step in range(64):
        number = (int.from_bytes(digest[:4], "big") + step * 7919) % (190 * 250)
        block = f"127.{64 + number // 250 % 190}.{2 + number % 250}"
        if is_free(block):
            return block
    raise Failed("no free block of loopback addresses found in 64 tries", hint="stop other labs: dr lab down --home …")


def is_free(block: str) -> bool:
    """Whether nobody listens on any address and port that a lab in this block would use."""
    wanted = [(last, port) for last in PATHS.values() for port in PORTS.values()]
    wanted += [(last, PORTS["postgres"]) for last in HIDDEN.values()]
    wanted += [(HIDDEN[aws_place(site)], PORTS["aws"]) for site in SITES]
    wanted += [(HIDDEN[place], DNS_PORT) for place in ("dns", "resolver")] + [(HIDDEN["dns"], DESK_PORT)]
    wanted += [(HIDDEN[f"arc-{number}"], PORTS["arc"]) for number in ARC] + [(HIDDEN[WITNESS], PORTS["probe"])]
    wanted += [(HIDDEN[site], PORTS[role]) for site in SITES for role in ("app", "agent")]
    return all(_free(f"{block}.{last}", port) for last, port in wanted)


def _free(address: str, port: int) -> bool:
    with socket.socket() as probe, suppress(OSError):
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((address, port))
        return True
    return False
