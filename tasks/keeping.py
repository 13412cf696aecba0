"""Which engine keeps a resource's backups, from a home: the one door to engines for proofs, backups, status and sweeps.

Separate from home.py because engines belong to a kind, and from the kind because catalogs and sites belong to a home.
"""

from __future__ import annotations

from pydantic import ValidationError

from recovery.epoch import Change
from recovery.errors import BadInput, DrError
from tasks.home import Home
from tasks.postgres.engines import table
from tasks.postgres.engines.port import Engine
from tasks.postgres.faults import catalogue
from tasks.postgres.faults.fault import Stage
from tasks.store import Store


def engine_at(home: Home, name: str, site: str, store: Store | None = None) -> Engine:
    """The engine that keeps a resource's backups at a site. Raises BadInput when its tool is not installed here."""
    where = home.catalog.sites[site]
    place = table.Place(
        site=site,
        endpoint=where.s3,
        region=where.region,
        store=store or home.backups(name, site),
        keys=home.keys(name),
    )
    return table.engine_of(name, home.resource(name), place)


def plantable(engine: str, sort: str = "mark") -> tuple[str, ...]:
    """The faults that can be planted in what an engine keeps, and that a proof of that sort surely finds: a copy of the
    backup's objects can only be ours, and what was changed in the data itself shows against a mark alone."""
    stages = {name: catalogue.of(name).stage for name in catalogue.names()}
    ours = (name for name, stage in stages.items() if engine == "native" or stage is not Stage.BACKUP_COPY)
    return tuple(name for name in ours if sort == "mark" or stages[name] is not Stage.SQL)


def refuse_unplantable(engine: str, fault: str, sort: str = "mark") -> None:
    """Raise BadInput for a fault that means nothing with that engine, or that a proof of that sort may not find."""
    if fault not in catalogue.names() or fault in (known := plantable(engine, sort)):
        return
    hint = f"one of: random, {', '.join(sorted(known))}"
    if fault not in plantable(engine):
        raise BadInput(f"{fault} breaks a copy of the backup's objects, and those are {engine}'s own", hint=hint)
    raise BadInput(
        f"{fault} changes the data, which is compared with a mark alone: a proof to another place may not find it",
        hint=f"leave the moment out, so that it is planted in a proof to the newest mark; else {hint}",
    )


def vouched(home: Home, name: str) -> tuple[int, ...]:
    """The timelines that completed changes of roles gave a database, by the ledger; none where it does not answer, for
    then the doubt that this would settle is said."""
    found: list[int] = []
    ledger = home.ledger()
    try:
        for key in ledger.list(f"epochs/{home.service_of(name)}/"):
            body = ledger.get(key)
            told = Change.model_validate_json(body).databases.get(name, {}).get("timeline") if body else None
            found += [told] if isinstance(told, int) else []
    except (DrError, ValidationError):
        return tuple(found)
    return tuple(found)
