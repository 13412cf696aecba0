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
    from recovery.epoch import Change
    from recovery.observation import LedgerSeen
    from recovery.past import Past
    from tasks.circuit import Circuit
    from tasks.ledger import Ledger
    from tasks.postgres.seal import Keys
    from tasks.s3_store import S3Store
    from tasks.signatures import Signer
    from tasks.store import Store

LEDGER_SECONDS = 2.0
"""The patience with the home of the ledger or of leases where there is another place to go to."""
MIRRORS_SECONDS = 0.1
MIRROR_SECONDS = 1.5
"""The patience with another place: whoever reads the union of all waits for it once."""
ONLY_SECONDS = 30.0
"""The patience where there is none."""
SEEN_SECONDS = 1.0
"""The patience of a look at who answers."""


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
    _stores: dict[tuple[str, str, str, float], S3Store] = field(default_factory=dict, compare=False, repr=False)
    _circuits: dict[str, Circuit] = field(default_factory=dict, compare=False, repr=False)
    changes: dict[str, Change] = field(default_factory=dict, compare=False, repr=False)
    """The changes of roles that were read (tasks/observing.py), by their keys in the ledger."""
    pasts: dict[str, Past] = field(default_factory=dict, compare=False, repr=False)
    """The signed runs that were read (tasks/remembered.py)."""

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
        """A bucket at a site, below a prefix. `patience_seconds` bounds each request with its retries. Opened once: its
        connections are kept."""
        from tasks.s3_store import open_store

        asked = (site, bucket, prefix, patience_seconds)
        if asked not in self._stores:
            place = self.catalog.sites[site]
            made = open_store(place.s3, bucket, prefix, region=place.region, patience_seconds=patience_seconds)
            self._stores[asked] = made
        return self._stores[asked]

    def backups(self, resource: str, site: str, *, patience_seconds: float = 30.0) -> S3Store:
        """The bucket with a resource's backups at a site."""
        found = self.resource(resource)
        return self.store(site, found.bucket, found.prefix, patience_seconds=patience_seconds)

    def circuit(self, place: str, *, rest_seconds: float = 30.0) -> Circuit:
        """Whether a place may be asked: one knowledge for all who ask there. A site's or a directory's name stands for
        its records and leases."""
        from tasks.circuit import Circuit

        return self._circuits.setdefault(place, Circuit(rest_seconds=rest_seconds))

    def ledger(self) -> Ledger:
        """The ledger at its home, mirrored to the sites that the catalog names. Opened once, so that it knows for how
        long a silent place rests."""
        if "ledger" not in self._opened:
            self._opened["ledger"] = self._ledger()
        return self._opened["ledger"]

    def _ledger(self) -> Ledger:
        from tasks.ledger_dir import DirectoryLedger
        from tasks.ledger_mirrored import MirroredLedger
        from tasks.ledger_s3 import S3Ledger

        where = self.catalog.ledger

        def bucket(site: str, patience_seconds: float) -> Ledger:
            store = self.store(site, where.bucket, patience_seconds=patience_seconds)
            return S3Ledger(store, f"s3://{where.bucket} at {site}")

        mirrors = [bucket(site, MIRROR_SECONDS) for site in where.mirrors]
        if where.home.startswith("directory:"):
            home: Ledger = DirectoryLedger((self.folder / where.home.removeprefix("directory:")).resolve())
        else:
            home = bucket(where.home, LEDGER_SECONDS if mirrors else ONLY_SECONDS)
        if not mirrors:
            return home
        return MirroredLedger(home, mirrors, circuits=[self.circuit(place) for place in (where.home, *where.mirrors)])

    def scout(self, site: str) -> S3Store:
        """The ledger's bucket at a site with the patience of a look."""
        return self.store(site, self.catalog.ledger.bucket, patience_seconds=SEEN_SECONDS)

    @property
    def lease_sites(self) -> tuple[str, ...]:
        """Where leases live: at the ledger's home, and at the recovery site for when that is silent. Empty: HOME."""
        where = self.catalog.ledger
        return () if where.home.startswith("directory:") else self.catalog.lease_sites

    def lease_places(self) -> tuple[tuple[str, Store, Circuit], ...]:
        """Every place of leases, the home first: its name for people, the bucket (without object lock), its circuit."""
        from tasks.dir_store import DirStore

        sites = self.lease_sites
        if not sites:
            folder = self.folder / "leases"
            return ((str(folder), DirStore(folder), self.circuit(str(folder))),)
        patience = LEDGER_SECONDS if len(sites) > 1 else ONLY_SECONDS
        bucket = self.catalog.ledger.leases
        return tuple(
            (f"s3://{bucket} at {site}", self.store(site, bucket, patience_seconds=patience), self.circuit(site))
            for site in sites
        )

    def lease_store(self) -> Store:
        """The first place of leases: at the ledger's home, or in HOME/leases."""
        return self.lease_places()[0][1]

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


def ledger_seen(home: Home, *, mirrors_seconds: float = MIRRORS_SECONDS) -> LedgerSeen:
    """Whether the ledger's home answers, and which mirrors do. Bounded to about a second, whoever is silent;
    `mirrors_seconds`: how long a mirror is waited for once the home has answered."""
    from concurrent.futures import ThreadPoolExecutor, wait

    from recovery.errors import DrError
    from recovery.observation import LedgerSeen

    where = home.catalog.ledger
    sites = tuple(dict.fromkeys((*(() if where.home.startswith("directory:") else (where.home,)), *where.mirrors)))

    def answers(site: str) -> bool:
        try:
            home.scout(site).head("keys/")
        except DrError:
            return False
        return True

    pool = ThreadPoolExecutor(max(1, len(sites)), thread_name_prefix="ledger-seen")
    asked = {site: pool.submit(answers, site) for site in sites}
    first = asked.get(where.home)
    if first is not None:
        wait([first], timeout=SEEN_SECONDS * 1.5)
    answered = first is None or (first.done() and first.result())
    # A mirror matters while the home is silent; else nobody waits for a lost site's.
    wait(asked.values(), timeout=mirrors_seconds if answered else SEEN_SECONDS * 1.5)
    pool.shutdown(wait=False)
    there = {site for site, said in asked.items() if said.done() and said.result()}
    for site in there:  # whoever was just heard need not rest for an old silence: a live change would be refused for it
        home.circuit(site).wake()
    at_home = where.home.startswith("directory:") or where.home in there
    mirrors = tuple(site for site in where.mirrors if site in there)
    return LedgerSeen(home="answers" if at_home else "silent", mirrors=mirrors)


def open_home(folder: Path, *, now: Callable[[], datetime] = clock) -> Home:
    """Read a home. Raises BadInput when it holds no catalog or a wrong one."""
    from tasks.catalog_file import load

    return Home(folder=folder.absolute(), catalog=load(folder / "catalog.yaml"), now=now)
