"""What a catalog may not say where secrets are near: references that are none, connection strings that cannot be read.

Separate from contradictions.py because here no fact may repeat what it is about. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator

from recovery.catalog import Catalog
from recovery.dsn import dsn

Told = tuple[tuple[str | int, ...], str, str]
"""Path, fact, hint."""
_NONE = "`{}` is not a reference to a secret"


def of_secrets(catalog: Catalog) -> Iterator[Told]:
    """All of them, in no particular order."""
    yield from _references(catalog)
    for name, resource in catalog.resources.items():
        for member, there in resource.members.items():
            path = ("resources", name, "members", member, "dsn")
            try:
                open_ = sorted(dsn(there.dsn).secrets - {"password"})
            except ValueError as error:
                yield path, "`dsn` is no connection string of Postgres", str(error)
                continue
            if open_:
                hint = "a key without a passphrase that its owner alone reads, or a passfile, needs none of them"
                yield path, f"`dsn` holds {', '.join(open_)}, which tools take on their command line only", hint


def _references(catalog: Catalog) -> Iterator[Told]:
    """Places that hold a reference to a secret; the fact never repeats what stands there instead."""
    doors: dict[tuple[str, ...], str] = {("route53", "credentials"): catalog.route53.credentials}
    if catalog.routing is not None:
        doors["routing", "credentials"] = catalog.routing.credentials
    for name, site in catalog.sites.items():
        doors["sites", name, "s3", "credentials"] = site.s3.credentials
        doors["sites", name, "compute", "credentials"] = site.compute.credentials
    for path, reference in doors.items():
        if reference != "default" and not _refers(reference, "file", "env", "profile"):
            yield path, _NONE.format(path[-1]), "write file:PATH, env:PREFIX, profile:NAME or default"
    for name, policy in catalog.backups.items():
        if policy.encryption is not None and not _refers(policy.encryption, "file", "env"):
            yield ("backups", name, "encryption"), _NONE.format("encryption"), "write file:PATH or env:NAME"


def _refers(reference: str, *ways: str) -> bool:
    scheme, _, rest = reference.partition(":")
    return scheme in ways and bool(rest)
