"""The places that a ledger is tested on, and what each of them tells the truth about. Data that tests read.

All of them: a key is created once, compare-and-put has one winner, keys are listed in the order of their text. Beyond
that, moto lets a COMPLIANCE retention be shortened, which S3 refuses: a test of that on moto would test moto. The
embedded server refuses it, as S3 does, but takes a put to a locked bucket without the checksum header that S3 asks for,
and compares StartAfter folder by folder: StartAfter=a/b hides a/b/c, StartAfter=a/b/c gives a-b/1, which sorts before
it. The engine therefore lists after a key only within one folder.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deployments.lab.scratch_cluster import s3_server
from recovery.catalog import S3Endpoint
from tasks import aws
from tasks.dir_store import DirStore
from tasks.ledger import Ledger
from tasks.ledger_dir import DirectoryLedger
from tasks.ledger_s3 import S3Ledger
from tasks.s3_store import open_store
from tasks.store import Store

REGION = "eu-central-1"

TRUE_OF = {
    "directory": frozenset({"after any text"}),
    "moto": frozenset({"after any text", "locked against deletion", "put to a locked bucket names its checksum"}),
    "embedded": frozenset({"locked against deletion", "lock cannot be shortened"}),
}


@dataclass(frozen=True, kw_only=True)
class Backend:
    """One running place. `client` is boto3's, for the promises that the ports don't speak of."""

    name: str
    folder: Path
    endpoint: S3Endpoint | None = None
    client: Any = None

    def ledger(self, name: str) -> Ledger:
        """A fresh ledger: in S3 a bucket with versioning and a default retention in COMPLIANCE mode."""
        if self.endpoint is None:
            return DirectoryLedger(self.folder / name)
        self.client.create_bucket(
            Bucket=name,
            ObjectLockEnabledForBucket=True,
            CreateBucketConfiguration={"LocationConstraint": REGION},
        )
        rule = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 1}}
        self.client.put_object_lock_configuration(
            Bucket=name, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule}
        )
        return S3Ledger(open_store(self.endpoint, name, region=REGION, patience_seconds=10), f"s3://{name}")

    def leases(self, name: str) -> Store:
        """A fresh store without object lock."""
        if self.endpoint is None:
            return DirStore(self.folder / name)
        self.client.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
        return open_store(self.endpoint, name, region=REGION, patience_seconds=10)


def telling(claim: str) -> list[str]:
    """The backends that tell the truth about it."""
    return sorted(name for name, claims in TRUE_OF.items() if claim in claims)


@contextmanager
def running(name: str, folder: Path) -> Iterator[Backend]:
    """Start a backend below `folder`; it is ended with the context."""
    match name:
        case "directory":
            yield Backend(name=name, folder=folder)
        case "moto":
            with _moto(folder) as endpoint:
                yield Backend(name=name, folder=folder, endpoint=endpoint, client=_client(endpoint))
        case _:
            with s3_server(folder) as endpoint:
                yield Backend(name=name, folder=folder, endpoint=endpoint, client=_client(endpoint))


def _client(endpoint: S3Endpoint) -> Any:
    return aws.client("s3", endpoint, region=REGION)


@contextmanager
def _moto(folder: Path) -> Iterator[S3Endpoint]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        credentials = folder / "moto.json"
        credentials.write_text(json.dumps({"access_key_id": "testing", "secret_access_key": "testing"}))
        yield S3Endpoint(endpoint_url=f"http://{host}:{port}", credentials=f"file:{credentials}")
    finally:
        server.stop()
