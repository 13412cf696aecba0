"""What an offline bundle holds, collected from a home: all that a machine needs on the day when nothing else is left.

Separate from the file itself (tasks/bundle.py). Nothing secret goes in: credentials stay references, and a catalog or
runbook with a password in it is refused. What does not answer now is said with `silent` and keeps nobody waiting.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import JsonValue

from recovery.catalog import Catalog
from recovery.errors import BadInput, DrError
from recovery.point import lsn_text
from recovery.runbook import Runbook
from recovery.value import canonical
from tasks import bundle, bundle_secrets
from tasks.bundle import BundleManifest
from tasks.home import Home
from tasks.keys import public_pems
from tasks.observing import changes
from tasks.runbook_file import Library, library, load_all

if TYPE_CHECKING:
    from tasks.engine import Act
    from tasks.pages import Told

SECONDS = 6.0
_ROUTING = ("endpoints", "controls", "safety_rules")


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """A bundle that was written. `silent`: what did not answer, so that only the catalog's word of it is inside."""

    path: Path
    manifest: BundleManifest
    size_bytes: int
    silent: tuple[str, ...]
    without_page: tuple[str, ...]


def default_path(home: Home) -> Path:
    """Where the bundle of a home lies when nobody says otherwise."""
    return home.folder / "bundle" / f"{home.catalog.name}.zip"


def make(home: Home, path: Path) -> Made:
    """Collect, sign and write the bundle over the one before. Raises BadInput where a secret would go in."""
    catalog = home.catalog
    refuse_ledger(catalog)
    books = library(home.folder)
    opened = load_all(list(books.files), books, catalog)
    pages, pageless = _pages(opened, catalog)
    seen, epochs, silent = _seen(home)
    sign = home.signer()
    files = {
        "catalog.yaml": (home.folder / "catalog.yaml").read_bytes(),
        **_books(books),
        **pages,
        **_keys(home),
        **epochs,
        "cached.json": canonical(seen) + b"\n",
    }
    files.setdefault(f"public/{sign.fingerprint}.pem", sign.public_pem)
    bundle_secrets.refuse(files, catalog)
    draft = BundleManifest(
        catalog=catalog.name,
        made_at=home.now(),
        made_by=home.who,
        key=sign.fingerprint,
        engine_version=_version(),
        runbooks={name: book.version for name, book in opened.items()},
        epochs={name: _epoch(epochs, name) for name in catalog.services},
        files={},
    )
    files["README.md"] = _readme(draft, home).encode()
    made = bundle.write(path, draft, files, sign)
    return Made(path=path, manifest=made, size_bytes=path.stat().st_size, silent=silent, without_page=pageless)


def refresh(act: Act, out: str = "") -> Told:
    """The bundle written anew, as a flow tells of it."""
    from tasks.pages import Page, Told

    made = make(act.home, (Path(out).expanduser() if out else default_path(act.home)).absolute())
    text = f"{made.path}: {len(made.manifest.files)} files, signed by {made.manifest.key[:16]}"
    lines = [
        f"## {made.manifest.catalog}: offline bundle",
        f"`{made.path}`, {made.size_bytes / 1e3:.0f} kB, signed by `{made.manifest.key}`.",
        "Copy it to where people are on call: `dr act DIGEST --glass --bundle FILE` works by it on any machine.",
        *(f"- silent, so only the catalog's word of it is inside: {each}" for each in made.silent),
    ]
    about = {"file": str(made.path), "silent": list(made.silent), **made.manifest.model_dump(mode="json")}
    return Told(
        held=True,
        text=text,
        pages=(Page(key="bundle", title=text, markdown="\n\n".join(lines)),),
        documents=({"outcome": "changed", **about},),
    )


def refuse_ledger(catalog: Catalog) -> None:
    """A ledger in a folder is on one machine: elsewhere its epochs, plans and approvals would be unknown."""
    if catalog.ledger.home.startswith("directory:") and not catalog.ledger.mirrors:
        raise BadInput(
            "the ledger of this home is a folder on this machine alone: no other machine could act by a bundle",
            hint="name a bucket as ledger.home, or buckets under ledger.mirrors; printed pages: dr runbook print NAME",
        )


def _books(books: Library) -> dict[str, bytes]:
    return {f"runbooks/{name}.yaml": file.read_bytes() for name, file in books.files.items()}


def _pages(opened: Mapping[str, Runbook], catalog: Catalog) -> tuple[dict[str, bytes], tuple[str, ...]]:
    """Every runbook of every service, printed; and those that this catalog can't be bound to."""
    from tasks.runbook_page import bound, html, markdown

    found: dict[str, bytes] = {}
    missing: list[str] = []
    for name, book in opened.items():
        for service in catalog.services:
            try:
                page = bound(book, catalog, service=service)
            except DrError as trouble:
                missing.append(f"{name} of {service}: {trouble.fact}")
                continue
            stem = f"pages/{name}" if len(catalog.services) == 1 else f"pages/{name}-{service}"
            found |= {f"{stem}.md": markdown(page).encode(), f"{stem}.html": html(page).encode()}
    return found, tuple(missing)


def _keys(home: Home) -> dict[str, bytes]:
    """Public keys only: of the engine, present and past, and of those who may approve."""
    folder = home.folder / "keys"
    found = {f"keys/{file.name}": file.read_bytes() for file in sorted(folder.glob("*.pub"))}
    return found | {f"public/{mark}.pem": pem for mark, pem in public_pems(folder).items()}


def _seen(home: Home) -> tuple[dict[str, JsonValue], dict[str, bytes], tuple[str, ...]]:
    """What was seen of the world beside what the catalog says; the epochs' documents; and who was silent."""
    jobs: dict[str, Callable[[], JsonValue]] = {
        **{f"database {name}": lambda name=name: _database(home, name) for name in home.catalog.resources},  # type: ignore[misc]
        **{f"name {name}": lambda name=name: _zone(home, name) for name in home.catalog.dns},  # type: ignore[misc]
        "epochs": lambda: _epochs(home),
    }
    pool = ThreadPoolExecutor(max_workers=8, thread_name_prefix="bundle")
    asked = {what: pool.submit(job) for what, job in jobs.items()}
    found: dict[str, JsonValue] = {}
    silent: list[str] = []
    for what, each in asked.items():
        try:
            found[what] = each.result(timeout=SECONDS)
        except (DrError, TimeoutError) as trouble:
            said = trouble.fact if isinstance(trouble, DrError) else "no answer"
            silent.append(f"{what}: {said}")
            found[what] = {"silent": said}
    pool.shutdown(wait=False, cancel_futures=True)
    told = found.pop("epochs")
    documents = told if isinstance(told, dict) and "silent" not in told else {}
    return (
        {"seen_at": home.now().isoformat(), "seen": found, "written": _written(home.catalog)},
        {f"epochs/{key}": canonical(body) for key, body in documents.items()},
        tuple(silent),
    )


def _written(catalog: Catalog) -> dict[str, JsonValue]:
    """Identifiers and endpoints as the catalog has them, gathered for a person who looks for one."""
    plain = catalog.model_dump(mode="json")
    sites = {name: {"region": site.region, "s3": site.s3.endpoint_url} for name, site in catalog.sites.items()}
    ledger = {"home": catalog.ledger.home, "mirrors": list(catalog.ledger.mirrors), "bucket": catalog.ledger.bucket}
    routing = plain["routing"]
    return {
        "sites": {**sites},
        "ledger": {**ledger, "leases": catalog.ledger.leases, "lease_sites": list(catalog.lease_sites)},
        "health_checks": plain["health_checks"],
        "names": plain["dns"],
        "routing": None if routing is None else {key: routing[key] for key in _ROUTING},
        "agents": {
            f"{name}/{member}": each.agent
            for name, resource in catalog.resources.items()
            for member, each in resource.members.items()
        },
        "vantage": {name: {**service.vantage} for name, service in catalog.services.items()},
    }


def _database(home: Home, name: str) -> JsonValue:
    """System id, timeline and LSN of each server that answers."""
    from tasks.postgres.roles.servers import Server, ask_all

    told: dict[str, JsonValue] = {}
    for member, each in ask_all(home.resource(name).members.items()).items():
        if isinstance(each, Server):
            place = each.place
            told[member] = {
                "system_id": place.system_id,
                "timeline": place.timeline,
                "lsn": lsn_text(place.lsn),
                "role": "primary" if each.primary else "standby",
            }
        else:
            told[member] = {"silent": each.why}
    return told


def _zone(home: Home, name: str) -> JsonValue:
    """The name's record sets as Route53 has them: what a person needs to write them again."""
    from tasks.route53.zone import ZoneDoor

    sets: JsonValue = ZoneDoor(home.catalog).sets(home.catalog.dns[name])  # type: ignore[assignment]
    return {"zone_id": home.catalog.dns[name].zone_id, "record_sets": sets}


def _epochs(home: Home) -> JsonValue:
    return {
        f"{service}/{each.epoch:08d}.json": each.model_dump(mode="json")
        for service in home.catalog.services
        for each in changes(home, service)
    }


def _epoch(documents: Mapping[str, bytes], service: str) -> int:
    return max((int(name[-13:-5]) for name in documents if name.startswith(f"epochs/{service}/")), default=0)


def _version() -> str:
    try:
        return version("standfast")
    except PackageNotFoundError:
        return "unknown"


def _readme(manifest: BundleManifest, home: Home) -> str:
    consent = home.catalog.consent
    people = ", ".join(sorted(consent.approvers)) or "nobody is listed"
    return README.format(
        catalog=manifest.catalog,
        made=f"{manifest.made_at:%Y-%m-%d %H:%M:%S} UTC",
        by=manifest.made_by,
        key=manifest.key,
        runbooks=", ".join(f"{name} {each}" for name, each in manifest.runbooks.items()),
        ledger=", ".join((home.catalog.ledger.home, *home.catalog.ledger.mirrors)),
        people=f"{consent.n_of_m} of: {people}",
        days=bundle.FRESH.days,
    )


README = """\
# Break glass: the bundle of {catalog}

Made {made} by {by}. Signed by the engine's key
{key}

**Nothing here is secret.** Credentials are references (`file:PATH`, `env:NAME`, `profile:NAME`): the machine that uses
this bundle has to have them itself. No private key is inside, and no password.

## With the package `standfast` on any machine

    export DR_HOME=~/standfast              # your own folder: keys/NAME.ed25519 and keys/engine-NAME.ed25519
    dr plan failover --to SITE --bundle THIS.zip
    dr approve DIGEST --as NAME --accept all --bundle THIS.zip
    dr act DIGEST --glass --bundle THIS.zip

It needs a copy of the ledger ({ledger}), the lease's bucket, and what the
runbook moves; no Prefect, no database of ours, not the lost site. Approvals: {people}.
It is refused when a byte of it was changed, when nobody you trust signed it (`--trust FINGERPRINT`), and when it is
older than {days} days (`--stale` takes it all the same).

## Without anything but psql, aws and dig

`pages/NAME.html` opens in any browser and prints well; `pages/NAME.md` is the same as text. `cached.json` has what they
name: record sets, health checks, routing controls, servers with their timelines, the copies of the ledger.

## What is inside

catalog.yaml · runbooks/ ({runbooks}) · pages/ ·
keys/ and public/ (public keys) · epochs/ (changes of roles) · cached.json · SHA256SUMS · manifest.json, manifest.sig

## To check it without the package

    sha256sum -c SHA256SUMS
    openssl pkey -pubin -in public/{key}.pem -outform DER | sha256sum     # must print the key above
    openssl pkeyutl -verify -pubin -inkey public/{key}.pem -rawin -in manifest.json -sigfile manifest.sig

manifest.json names the SHA-256 of every file; SHA256SUMS repeats them for sha256sum.
"""
