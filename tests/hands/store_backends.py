"""The stores that the conformance suite runs over, and, as data, what each backend's server keeps of its promises."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deployments.lab.scratch_cluster import s3_server
from recovery.catalog import S3Endpoint
from tasks import aws
from tasks.dir_store import DirStore
from tasks.s3_store import S3Store, open_store

REGION = "eu-central-1"


@dataclass(frozen=True, kw_only=True)
class Promises:
    """What a test may ask of a backend. A directory and AWS keep all; emulators don't, and the suite says so."""

    refuses_wrong_checksum: bool
    refuses_wrong_credentials: bool
    orders_across_folders: bool = True
    """`a-b` comes before `a/b`, as the text of keys has it; a server made of folders may list `a/` first."""


PROMISES = {
    "dir": Promises(refuses_wrong_checksum=False, refuses_wrong_credentials=False),  # has neither
    "weed": Promises(refuses_wrong_checksum=True, refuses_wrong_credentials=True, orders_across_folders=False),
    "moto": Promises(refuses_wrong_checksum=False, refuses_wrong_credentials=False),  # accepts anything from anybody
}


@contextmanager
def endpoint(name: str, folder: Path) -> Iterator[S3Endpoint]:
    """A running S3 server of that name."""
    if name == "weed":
        with s3_server(folder) as weed:
            yield weed
        return
    from moto.server import ThreadedMotoServer

    told = folder / "credentials.json"
    told.write_text(json.dumps({"access_key_id": "anybody", "secret_access_key": "anything"}))
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield S3Endpoint(endpoint_url=f"http://{host}:{port}", credentials=f"file:{told}")
    finally:
        server.stop()


def make_bucket(at: S3Endpoint) -> str:
    """A fresh bucket's name."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    aws.client("s3", at, region=REGION).create_bucket(
        Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION}
    )
    return name


def store_at(at: S3Endpoint, *, patience_seconds: float = 10.0) -> S3Store:
    """A store in a fresh bucket, below a prefix."""
    return open_store(at, make_bucket(at), "some/prefix", region=REGION, patience_seconds=patience_seconds)


@contextmanager
def stores(name: str, folder: Path) -> Iterator[DirStore | S3Store]:
    """One store of that backend."""
    with contextlib.ExitStack() as stack:
        if name == "dir":
            yield DirStore(folder / "store")
        else:
            yield store_at(stack.enter_context(endpoint(name, folder)))
