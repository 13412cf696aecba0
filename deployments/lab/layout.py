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
PORTS: Final = {"postgres": 5432, "postgres-2": 5433, "s3": 8333, "aws": 5000, "app": 8080, "agent": 7070}
"""One port a role, the same at every site. The second standby of the west has 5433 at the same address."""
HIDDEN: Final = {"east": 11, "west": 12, "west-2": 13, "witness": 14, "aws": 15}
SOURCES: Final = ("engine", "east", "west")
PATHS: Final = {
    "engine-east": 21,
    "engine-west": 22,
    "engine-witness": 23,
    "east-west": 32,
    "east-witness": 33,
    "west-east": 41,
    "west-witness": 43,
}
BUCKETS: Final = {
    "east": ("backups", "videos"),
    "west": ("backups", "videos", "standfast-leases"),
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
        destination = path.partition("-")[2]
        for role, port in PORTS.items():
            place, to_port = destination, port
            match role:
                case "s3":
                    to_port = s3_ports[destination]
                case _ if destination == WITNESS:
                    continue
                case "aws":
                    place = "aws"
                case "postgres-2":
                    if destination != "west" or standbys < 2:
                        continue
                    place, to_port = "west-2", PORTS["postgres"]
            yield Link(
                path=path,
                role=role,
                address=f"{block}.{PATHS[path]}",
                port=port,
                to_address=hidden(block, place),
                to_port=to_port,
            )


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
    wanted += [(last, PORTS["postgres"]) for last in HIDDEN.values()] + [(HIDDEN["aws"], PORTS["aws"])]
    wanted += [(HIDDEN[site], PORTS[role]) for site in SITES for role in ("app", "agent")]
    return all(_free(f"{block}.{last}", port) for last, port in wanted)


def _free(address: str, port: int) -> bool:
    with socket.socket() as probe, suppress(OSError):
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((address, port))
        return True
    return False
