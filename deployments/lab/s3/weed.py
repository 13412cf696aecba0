"""How a SeaweedFS server is run: its ports, its arguments, its credentials, its files. No process is started here.

Separate because its defaults are unfit for a lab: telemetry is on, every role also binds 127.0.0.1, and its gRPC
sockets are files in /tmp named by port. So the ports of each server are its own here, on the whole machine: two servers
of one number, on whatever addresses, would speak to each other's parts. Its sockets are removed.
"""

from __future__ import annotations

import json
import secrets
import socket
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deployments.lab.parts import weed
from recovery.catalog import S3Endpoint
from recovery.errors import Failed

ROLES = ("master", "master.grpc", "volume", "volume.grpc", "filer", "filer.grpc", "s3", "s3.grpc")
FIRST_PORT, LAST_PORT = 12000, 31900
"""Below the ephemeral ports, so that no client of anybody sits on one."""
ENVIRONMENT = {"WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"}
"""One volume a bucket to begin with, instead of seven."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Weed:
    """One server: its folder (0700, all its files), the address it listens on and the first of its eight ports."""

    folder: Path
    address: str
    base_port: int
    open_buckets: tuple[str, ...] = ()

    @property
    def s3_port(self) -> int:
        """The port of the S3 API."""
        return self.base_port + ROLES.index("s3")

    @property
    def credentials_file(self) -> Path:
        """JSON with access_key_id and secret_access_key, mode 0600."""
        return self.folder / "credentials.json"

    @property
    def anybody(self) -> list[dict[str, Any]]:
        """What may be done without credentials: reading the buckets that are open."""
        actions = [f"Read:{bucket}" for bucket in self.open_buckets]
        return [{"name": "anonymous", "actions": actions}] if actions else []

    @property
    def endpoint(self) -> S3Endpoint:
        """The server itself, not through any proxy."""
        return S3Endpoint(
            endpoint_url=f"http://{self.address}:{self.s3_port}", credentials=f"file:{self.credentials_file}"
        )

    @property
    def sockets(self) -> list[Path]:
        """The files outside its folder that it makes and leaves."""
        return sockets_of(self.base_port)


def prepare(folder: Path, *, address: str, base_port: int | None = None, open_buckets: tuple[str, ...] = ()) -> Weed:
    """The server of `folder`, its folder and credentials made when missing. `base_port` is kept while it is free."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name in ("data", "log"):
        (folder / name).mkdir(exist_ok=True)
    server = Weed(
        folder=folder,
        address=address,
        base_port=free_base_port(address, str(folder), base_port),
        open_buckets=open_buckets,
    )
    _make_credentials(server)
    return server


def argv(server: Weed, runtime: Path) -> list[str]:
    """The arguments; `runtime` is a short folder for its two other unix sockets."""
    port = {role: server.base_port + number for number, role in enumerate(ROLES)}
    options: dict[str, Any] = {
        "dir": server.folder / "data",
        "ip": server.address,
        "ip.bind": server.address,
        **{
            f"{role.replace('.grpc', '')}.port{'.grpc' if role.endswith('.grpc') else ''}": port[role] for role in ROLES
        },
        "volume.port.public": port["volume"],
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "s3.config": server.folder / "s3.json",
        "s3.autoCreateBucket": "false",
        "filer.localSocket": runtime / f"f{server.base_port}",
        "s3.localSocket": runtime / f"s{server.base_port}",
        "master.telemetry": "false",
        "master.electionTimeout": "1s",
        "master.heartbeatInterval": "100ms",
        "master.volumeSizeLimitMB": 1024,
        "volume.max": 200,
        "volume.minFreeSpace": "64MiB",
        "volume.preStopSeconds": 0,
    }
    sets = ["-filer", "-s3", *(f"-{name}={value}" for name, value in options.items())]
    return [str(weed()), f"-logdir={server.folder / 'log'}", "server", *sets]


def sockets_of(base_port: int) -> list[Path]:
    """The sockets of a server with these ports: the server's own choice, whatever its address."""
    named = {role.removesuffix(".grpc"): base_port + at for at, role in enumerate(ROLES) if role.endswith(".grpc")}
    return [Path("/tmp") / f"seaweedfs-{role}-grpc-{port}.sock" for role, port in named.items()]  # noqa: S108


_CLAIMED: dict[int, tuple[str, socket.socket]] = {}
"""First port → for which seed this process claims it, and by what."""


def free_base_port(address: str, seed: str, wanted: int | None = None) -> int:
    """The first of eight free consecutive ports, on `address` and on 127.0.0.1, that no other server on this machine
    has. They are this seed's until the process ends, by when the server's own sockets say so. `wanted` were the seed's
    before: the sockets of those are its own. Bounded; raises Failed."""
    span = (LAST_PORT - FIRST_PORT) // len(ROLES)
    begin = zlib.crc32(seed.encode())
    candidates = [FIRST_PORT + (begin + step) % span * len(ROLES) for step in range(200)]
    for base in [*([wanted] if wanted else []), *candidates]:
        if base != wanted and any(each.exists() for each in sockets_of(base)):
            continue
        if all(_free(place, base + role) for role in range(len(ROLES)) for place in (address, "127.0.0.1")) and _claim(
            base, seed
        ):
            return base
    raise Failed("no eight free ports in a row for the S3 server", hint="stop other labs: dr lab down --home …")


def _claim(base: int, seed: str) -> bool:
    """Whether these ports are the seed's now: an abstract socket is seen by everybody, and ends with its process."""
    if base in _CLAIMED:
        return _CLAIMED[base][0] == seed
    claim = socket.socket(socket.AF_UNIX)
    try:
        claim.bind(f"\0standfast-lab-s3-{base}")
    except OSError:
        claim.close()
        return False
    _CLAIMED[base] = (seed, claim)
    return True


def _free(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True


def _make_credentials(server: Weed) -> None:
    if not server.credentials_file.exists():
        pair = {"access_key_id": secrets.token_hex(10).upper(), "secret_access_key": secrets.token_urlsafe(30)}
        _write_private(server.credentials_file, pair)
    pair = json.loads(server.credentials_file.read_text())
    key = {"accessKey": pair["access_key_id"], "secretKey": pair["secret_access_key"]}
    identity = {"name": "lab", "credentials": [key], "actions": ["Admin", "Read", "Write", "List", "Tagging"]}
    _write_private(server.folder / "s3.json", {"identities": [identity, *server.anybody]})


def _write_private(path: Path, content: dict[str, Any]) -> None:
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    fresh.touch(mode=0o600)
    fresh.write_text(json.dumps(content))
    fresh.replace(path)
