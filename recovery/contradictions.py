"""What a catalog may not say although each word is allowed: names that lead nowhere, promises that can't be kept.

Separate from catalog.py because each rule is a small thought of its own. All contradictions are found, not the first.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from recovery.catalog import Catalog, PostgresResource
from recovery.contradictions_of_doors import of_doors
from recovery.contradictions_of_secrets import of_secrets
from recovery.cron import interval, parse
from recovery.engine_options import TAKES_INCREMENTALS, wrong
from recovery.objective import duration_text
from recovery.policy import BackupPolicy, Schedule
from recovery.value import Value

Path = tuple[str | int, ...]
"""Where in the catalog: keys and indexes from the top."""


class Contradiction(Value):
    """One contradiction: where it shows, the fact, what to do; `rests_on`: the other places that it compares with."""

    path: Path
    fact: str
    hint: str
    rests_on: tuple[Path, ...] = ()


def contradictions(catalog: Catalog) -> tuple[Contradiction, ...]:
    """All contradictions, in no particular order. Empty: the catalog can be kept as far as words can show."""
    found = [*_sites(catalog), *_names(catalog), *_owners(catalog), *_schedules(catalog)]
    found += _shared_places(catalog)
    if catalog.ledger.home == "directory:":  # it would be the home itself, with its keys and its catalog
        hint = "write `directory:PATH`, like `directory:ledger`"
        found.append(Contradiction(path=("ledger", "home"), fact="`directory:` names no folder", hint=hint))
    told = [*of_doors(catalog), *of_secrets(catalog)]
    found += [Contradiction(path=path, fact=fact, hint=hint) for path, fact, hint in told]
    for name, policy in catalog.backups.items():
        found += _retention(name, policy)
    for name, resource in catalog.resources.items():
        found += _promises(catalog, name, resource)
        found += _engine(catalog, name, resource)
    return tuple(found)


def _sites(catalog: Catalog) -> Iterator[Contradiction]:
    primaries = [name for name, site in catalog.sites.items() if site.role == "primary"]
    if not primaries:
        yield Contradiction(path=("sites",), fact="no site is primary", hint="give one site `role: primary`")
    for name in primaries[1:]:
        yield Contradiction(
            path=("sites", name, "role"),
            fact=f"`{name}` is a second primary beside `{primaries[0]}`",
            hint="one site is primary; the others are `recovery` or `witness`",
            rests_on=(("sites", primaries[0], "role"),),
        )


def _names(catalog: Catalog) -> Iterator[Contradiction]:
    """Every place that names something which has to exist elsewhere in the catalog."""
    for path, named, section, known in _references(catalog):
        if named not in known:
            yield Contradiction(
                path=path,
                fact=f"there is no {section} `{named}`",
                hint=f"name one of {', '.join(sorted(known)) or 'those that you add'}, or add `{named}`",
            )
    for name, resource in catalog.resources.items():
        for member in resource.members:
            site = resource.site_of(member)
            if site in catalog.sites and catalog.sites[site].role == "witness":
                yield Contradiction(
                    path=("resources", name, "members", member),
                    fact=f"`{site}` is a witness and cannot hold a member of `{name}`",
                    hint="a witness holds only a bucket; put the member at another site",
                    rests_on=(("sites", site, "role"),),
                )


def _references(catalog: Catalog) -> Iterator[tuple[Path, str, str, set[str]]]:
    sites = set(catalog.sites)
    if not catalog.ledger.home.startswith("directory:"):
        yield ("ledger", "home"), catalog.ledger.home, "site", sites
    for index, site in enumerate(catalog.ledger.mirrors):
        yield ("ledger", "mirrors", index), site, "site", sites
    for name, policy in catalog.backups.items():
        for index, site in enumerate(policy.copies):
            yield ("backups", name, "copies", index), site, "site", sites
    for name, proof in catalog.proofs.items():
        yield ("proofs", name, "site"), proof.site, "site", sites
    for name, service in catalog.services.items():
        for index, resource in enumerate(service.resources):
            yield ("services", name, "resources", index), resource, "resource", set(catalog.resources)
    for name, zone in catalog.operations.zones.items():
        yield ("operations", "zones", name, "site"), zone.site, "site", sites
    for name, each in catalog.resources.items():
        yield from _references_of(catalog, name, each)


def _references_of(
    catalog: Catalog, name: str, resource: PostgresResource
) -> Iterator[tuple[Path, str, str, set[str]]]:
    yield ("resources", name, "objective"), resource.objective, "objective", set(catalog.objectives)
    yield ("resources", name, "backup"), resource.backup, "backup policy", set(catalog.backups)
    yield ("resources", name, "proof"), resource.proof, "proof policy", set(catalog.proofs)
    for member, told in resource.members.items():
        path: Path = ("resources", name, "members", member, *(("site",) if told.site else ()))
        yield path, resource.site_of(member), "site", set(catalog.sites)


def _owners(catalog: Catalog) -> Iterator[Contradiction]:
    first: dict[str, str] = {}
    for name, service in catalog.services.items():
        for index, resource in enumerate(service.resources):
            other = first.setdefault(resource, name)
            if catalog.services[other].owner != service.owner:
                yield Contradiction(
                    path=("services", name, "resources", index),
                    fact=f"`{resource}` has two owners: {catalog.services[other].owner} by service `{other}`"
                    f" and {service.owner} by service `{name}`",
                    hint="give both services one owner, or the resource to one service",
                    rests_on=(("services", name, "owner"), ("services", other, "owner")),
                )


def _schedules(catalog: Catalog) -> Iterator[Contradiction]:
    for path, schedule in schedules(catalog):
        try:
            parse(schedule.cron)
        except ValueError as error:
            yield Contradiction(
                path=(*path, "cron"),
                fact=str(error),
                hint="write five fields, in UTC, like '0 3 * * *' for 03:00 daily",
            )


def schedules(catalog: Catalog) -> Iterator[tuple[Path, Schedule]]:
    """Every schedule of the catalog and where it stands."""
    for name, policy in catalog.backups.items():
        yield ("backups", name, "full", "schedule"), policy.full.schedule
        if policy.incremental is not None:
            yield ("backups", name, "incremental", "schedule"), policy.incremental.schedule
        yield ("backups", name, "marks"), policy.marks
    for name, proof in catalog.proofs.items():
        yield ("proofs", name, "schedule"), proof.schedule
        if proof.deep is not None:
            yield ("proofs", name, "deep"), proof.deep
    for name, drill in catalog.operations.drills.items():
        yield ("operations", "drills", name, "schedule"), drill.schedule


def _shared_places(catalog: Catalog) -> Iterator[Contradiction]:
    if catalog.ledger.bucket == catalog.ledger.leases:
        yield Contradiction(
            path=("ledger", "leases"),
            fact="leases and evidence share a bucket",
            hint="evidence is under object lock and leases must not be: give leases a bucket of their own",
            rests_on=(("ledger", "bucket"),),
        )
    first: dict[tuple[str, str], str] = {}
    for name, resource in catalog.resources.items():
        other = first.setdefault((resource.bucket, resource.prefix.strip("/")), name)
        if other != name:
            yield Contradiction(
                path=("resources", name, "bucket"),
                fact=f"`{name}` and `{other}` keep their backups in the same place",
                hint="give each its own `prefix` or `bucket`",
                rests_on=(
                    ("resources", name, "prefix"),
                    ("resources", other, "bucket"),
                    ("resources", other, "prefix"),
                ),
            )


def _retention(name: str, policy: BackupPolicy) -> Iterator[Contradiction]:
    window, here = policy.window, ("backups", name)
    kept: list[tuple[Path, timedelta, str]] = [(("full", "keep"), policy.full.keep, "full backups are")]
    if policy.wal.keep:
        kept.append((("wal", "keep"), policy.wal.keep, "WAL is"))
    for path, keep, what in kept:
        if keep < window:
            yield Contradiction(
                path=(*here, *path),
                fact=f"{what} kept for {duration_text(keep)}, shorter than the window of {duration_text(window)}",
                hint=f"keep for at least {duration_text(window)}, or promise a shorter window",
                rests_on=((*here, "window"),),
            )
    if policy.incremental is not None and policy.incremental.keep > policy.full.keep:
        yield Contradiction(
            path=(*here, "incremental", "keep"),
            fact=f"incrementals are kept for {duration_text(policy.incremental.keep)}, longer than the fulls they need"
            f" ({duration_text(policy.full.keep)})",
            hint="an incremental cannot be restored without its full: keep fulls at least as long",
            rests_on=((*here, "full", "keep"),),
        )


def _engine(catalog: Catalog, name: str, resource: PostgresResource) -> Iterator[Contradiction]:
    """Options of the backup engine that it does not have, and what the policy asks of it that it cannot do."""
    path: Path = ("resources", name, "engine_options")
    for each in wrong(resource.engine, resource.engine_options):
        place = (*path, each.option) if each.option else (path if resource.engine_options else path[:-1])
        yield Contradiction(path=place, fact=each.fact, hint=each.hint)
    policy = catalog.backups.get(resource.backup)
    if policy is None or resource.engine == "native":
        return
    rests_on: tuple[Path, ...] = (("resources", name, "engine"), ("resources", name, "backup"))
    if policy.incremental is not None and resource.engine not in TAKES_INCREMENTALS:
        yield Contradiction(
            path=("backups", resource.backup, "incremental"),
            fact=f"`{name}` is backed up by {resource.engine}, which takes full backups only",
            hint="give the resource a policy without `incremental`",
            rests_on=rests_on,
        )
    if policy.encryption is not None:
        yield Contradiction(
            path=("backups", resource.backup, "encryption"),
            fact=f"`{name}` is backed up by {resource.engine}, which does not use this key",
            hint="encrypt by the tool's own configuration, and give the resource a policy without `encryption`",
            rests_on=rests_on,
        )


def _promises(catalog: Catalog, name: str, resource: PostgresResource) -> Iterator[Contradiction]:
    """What a resource's objective asks, against what its policies do. Names that lead nowhere are told elsewhere."""
    objective = catalog.objectives.get(resource.objective)
    policy, proof = catalog.backups.get(resource.backup), catalog.proofs.get(resource.proof)
    rpo_path, policy_path = ("objectives", resource.objective, "rpo"), ("backups", resource.backup)
    of_resource: Path = ("resources", name)
    rests_on: tuple[Path, ...] = ((*of_resource, "objective"), (*of_resource, "backup"), (*of_resource, "proof"))
    if objective is not None and policy is not None:
        step, where, what = _loss_step(policy)
        if step is not None and step > objective.rpo:
            yield Contradiction(
                path=(*policy_path, *where),
                fact=f"{what} up to {duration_text(step)} apart, slower than the RPO of `{name}`"
                f" ({duration_text(objective.rpo)})",
                hint="make it more frequent, keep WAL (`wal.keep`), or promise a longer RPO",
                rests_on=(rpo_path, (*policy_path, "wal", "keep"), *rests_on),
            )
    if proof is None:
        return
    if policy is not None and proof.site in catalog.sites and proof.site not in policy.copies:
        yield Contradiction(
            path=("proofs", resource.proof, "site"),
            fact=f"`{name}` is proven at `{proof.site}`, where its backups have no copy",
            hint=f"add `{proof.site}` to the copies of backup policy `{resource.backup}`, or prove where there is one",
            rests_on=((*policy_path, "copies"), *rests_on),
        )
    wait = _interval(proof.schedule)
    if objective is not None and wait is not None and wait > objective.proof_age:
        yield Contradiction(
            path=("proofs", resource.proof, "schedule", "cron"),
            fact=f"proofs are up to {duration_text(wait)} apart, but `{name}` promises a proof no older than"
            f" {duration_text(objective.proof_age)}",
            hint="prove more often, or promise an older proof",
            rests_on=(("objectives", resource.objective, "proof_age"), *rests_on),
        )


def _loss_step(policy: BackupPolicy) -> tuple[timedelta | None, Path, str]:
    """How much can be lost between two saved states by policy alone, where that is written, and its name."""
    if policy.wal.keep:
        return policy.wal.archive_timeout, ("wal", "archive_timeout"), "WAL segments are archived"
    incremental = _interval(policy.incremental.schedule) if policy.incremental is not None else None
    full = _interval(policy.full.schedule)
    if incremental is not None and (full is None or incremental < full):
        return incremental, ("incremental", "schedule", "cron"), "without WAL, backups are"
    return full, ("full", "schedule", "cron"), "without WAL, backups are"


def _interval(schedule: Schedule) -> timedelta | None:
    """The schedule's longest wait, or None where its line is wrong (which is told elsewhere)."""
    try:
        return interval(schedule.cron)
    except ValueError:
        return None
