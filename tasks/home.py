"""A home: the folder of one installation or lab, and what its catalog lets us reach: stores, ledger, keys, leases.

Separate so that every door (dr, Prefect, break glass) comes to the same stores and the same ledger by the same words.
"""

from __future__ import annotations

import getpass
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from recovery.catalog import Catalog, PostgresResource
from recovery.errors import BadInput

if TYPE_CHECKING:
    from tasks.ledger import Ledger
    from tasks.postgres.seal import Keys
    from tasks.s3_store import S3Store
    from tasks.signatures import Signer
    from tasks.store import Store

MIRROR_SECONDS = 2.0
"""The patience with a mirror of the ledger: a record waits for its home, never long for a copy."""


def clock() -> datetime:
    """The instant now, in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True, kw_only=True, slots=True)
class Home:
    """One installation. Everything is opened when it is asked for, not before."""

    folder: Path
    catalog: Catalog
    now: Callable[[], datetime] = clock
    _opened: dict[str, Ledger] = field(default_factory=dict, compare=False, repr=False)

    @property
    def scratch(self) -> Path:
        """Where attempts are restored to."""
        return self.folder / "scratch"

    @property
    def who(self) -> str:
        """Who acts, for evidence."""
        return f"{getpass.getuser()}@{socket.gethostname()}"

    def resource(self, name: str) -> PostgresResource:
        """A resource of the catalog. Raises BadInput with the names that there are."""
        found = self.catalog.resources.get(name)
        if found is None:
            raise BadInput(
                f"the catalog has no resource {name!r}", hint=f"it has: {', '.join(sorted(self.catalog.resources))}"
            )
        return found

    def service_of(self, resource: str) -> str:
        """The service that the resource belongs to."""
        for name, service in self.catalog.services.items():
            if resource in service.resources:
                return name
        raise BadInput(f"no service stands on {resource!r}", hint="name it under a service of the catalog")

    def store(self, site: str, bucket: str, prefix: str = "", *, patience_seconds: float = 30.0) -> S3Store:
        """A bucket at a site, below a prefix. `patience_seconds` bounds each request with its retries."""
        from tasks.s3_store import open_store

        place = self.catalog.sites[site]
        return open_store(place.s3, bucket, prefix, region=place.region, patience_seconds=patience_seconds)

    def backups(self, resource: str, site: str) -> S3Store:
        """The bucket with a resource's backups at a site."""
        found = self.resource(resource)
        return self.store(site, found.bucket, found.prefix)

    def ledger(self) -> Ledger:
        """The ledger at its home, mirrored to the sites that the catalog names. Opened once, so that it knows for how
        long a silent mirror rests."""
        if "ledger" not in self._opened:
            self._opened["ledger"] = self._ledger()
        return self._opened["ledger"]

    def _ledger(self) -> Ledger:
        from tasks.ledger_dir import DirectoryLedger
        from tasks.ledger_mirrored import MirroredLedger
        from tasks.ledger_s3 import S3Ledger

        where = self.catalog.ledger
        mirrors = [
            S3Ledger(self.store(site, where.bucket, patience_seconds=MIRROR_SECONDS), f"s3://{where.bucket} at {site}")
            for site in where.mirrors
        ]
        if where.home.startswith("directory:"):
            folder = (self.folder / where.home.removeprefix("directory:")).resolve()
            home: Ledger = DirectoryLedger(folder)
        else:
            home = S3Ledger(self.store(where.home, where.bucket), f"s3://{where.bucket} at {where.home}")
        return MirroredLedger(home, mirrors) if mirrors else home

    def lease_store(self) -> Store:
        """Where leases live: at the ledger's home, in a bucket of their own without object lock; or in HOME/leases."""
        from tasks.dir_store import DirStore

        where = self.catalog.ledger
        if where.home.startswith("directory:"):
            return DirStore(self.folder / "leases")
        return self.store(where.home, where.leases)

    def signer(self) -> Signer:
        """The engine's key. Raises BadInput when there is none yet."""
        from tasks.keys import ENGINE, signer

        return signer(self.folder / "keys", ENGINE)

    def keys(self, resource: str) -> Keys:
        """The keys that open a resource's backups, by fingerprint: the current one first, then those before it."""
        from tasks.postgres.seal import keyring

        reference = self.catalog.backups[self.resource(resource).backup].encryption
        if reference is None:
            return {}
        scheme, _, path = reference.partition(":")
        if scheme != "file":
            return keyring([reference])
        current = self.folder / path
        retired = sorted(current.parent.glob(f"{current.stem}.*{current.suffix}"))
        return keyring(f"file:{each}" for each in (current, *retired))


def open_home(folder: Path, *, now: Callable[[], datetime] = clock) -> Home:
    """Read a home. Raises BadInput when it holds no catalog or a wrong one."""
    from tasks.catalog_file import load

    return Home(folder=folder.absolute(), catalog=load(folder / "catalog.yaml"), now=now)
