"""What a schedule or a form may ask for, and what that means: words in, `Wanted` proofs out; and where the home is.

Separate from proving because "the daily proof" is a set of proofs, chosen by the catalog's policy, and flows decide
nothing. Reads the home's catalog and no server.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from secrets import SystemRandom

from recovery.catalog import PostgresResource
from recovery.errors import BadInput
from recovery.moment import instant
from tasks.home import Home, open_home
from tasks.keeping import plantable, refuse_unplantable
from tasks.proving import Sort, Wanted

NO_FAULT = "none"


class Asked(StrEnum):
    """The proof that is asked for. `daily` is what the policy says: mark, latest, and a planted fault beside them."""

    DAILY = "daily"
    MARK = "mark"
    LATEST = "latest"
    RANDOM = "random"
    TIME = "time"


_SORTS: dict[Asked, Sort] = {
    Asked.MARK: "mark",
    Asked.LATEST: "latest",
    Asked.RANDOM: "random",
    Asked.TIME: "time",
}


class Level(StrEnum):
    """How deep the checks go; the deep ones take longer and are meant for once a week."""

    DAILY = "daily"
    DEEP = "deep"


class Which(StrEnum):
    """What a backup run takes. The `due` ones do nothing when their slot was kept already."""

    DUE = "due"
    FULL = "full"
    INCREMENTAL = "incremental"
    MARK = "mark"
    MARK_DUE = "mark-due"


def home_at(folder: str) -> Home:
    """The home in that folder; of the process (DR_HOME, else ./.home) when none is named. Raises BadInput."""
    return open_home(Path(folder or os.environ.get("DR_HOME") or ".home").expanduser())


def named(home: Home, resources: Sequence[str]) -> tuple[str, ...]:
    """The resources that are meant: all of the catalog when none is named. Raises BadInput for an unknown one."""
    for name in resources:
        home.resource(name)
    return tuple(dict.fromkeys(resources)) or tuple(sorted(home.catalog.resources))


def proofs(
    home: Home,
    resources: Sequence[str],
    *,
    asked: Asked,
    as_of: str = "",
    mutate: str = "",
    level: Level = Level.DAILY,
) -> tuple[Wanted, ...]:
    """The proofs that are meant, in the order in which they are made. Empty words were left out of a form. Raises
    BadInput, before anything is touched."""
    if bool(as_of.strip()) != (asked is Asked.TIME):
        raise BadInput(
            "a proof of a moment needs the moment"
            if asked is Asked.TIME
            else f"a moment was given, and a proof of sort {asked.value} takes none",
            hint="set sort to time and as_of to a moment like 2026-11-24T03:00:00Z, or leave as_of empty",
        )
    at = instant(as_of, now=home.now()) if asked is Asked.TIME else None
    made: list[Wanted] = []
    for name in named(home, resources):
        resource = home.resource(name)
        where = _SORTS.get(asked, "mark")
        fault = _fault(mutate, resource.engine, where) if mutate and mutate != NO_FAULT else None
        for sort, planted in _sorts(home, resource, asked, fault, mutate == NO_FAULT):
            share = SystemRandom().random()
            made.append(Wanted(resource=name, sort=sort, at=at, share=share, mutate=planted, level=level.value))
    return tuple(made)


def _sorts(
    home: Home, resource: PostgresResource, asked: Asked, fault: str | None, spared: bool
) -> list[tuple[Sort, str | None]]:
    match asked:
        case Asked.DAILY if fault is not None:
            return [("mark", fault)]
        case Asked.DAILY:
            daily = home.catalog.proofs[resource.proof].planted_fault == "daily" and not spared
            planted: list[tuple[Sort, str | None]] = (
                [("mark", _fault("random", resource.engine, "mark"))] if daily else []
            )
            return [("mark", None), ("latest", None), *planted]
        case Asked.MARK | Asked.LATEST | Asked.RANDOM | Asked.TIME:
            return [(_SORTS[asked], fault)]


def _fault(name: str, engine: str, sort: Sort) -> str:
    known = sorted(plantable(engine, sort))
    if name == "random":
        return SystemRandom().choice(known)
    refuse_unplantable(engine, name, sort)
    if name not in known:
        raise BadInput(f"there is no fault {name!r}", hint=f"one of: random, {', '.join(known)}")
    return name
