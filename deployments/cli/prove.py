"""`dr prove`: restore into scratch, check, measure, discard; the document is computed from the evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.cli.output import HomeOption, JsonOption, TimelineOption, emit, existing_home
from recovery.errors import BadInput, DrError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from recovery.proof import Proof
    from tasks.home import Home
    from tasks.proving import Wanted

CODES = {"met": 0, "missed": 1, "unproven": 3}


def prove(
    resources: Annotated[
        list[str] | None, typer.Argument(metavar="[RESOURCE…]", help="All when none is named.")
    ] = None,
    as_of: Annotated[str | None, typer.Option("--as-of", metavar="T", help="A moment, with its zone.")] = None,
    mark: Annotated[bool, typer.Option("--mark", help="The newest mark only: content equality.")] = False,
    latest: Annotated[bool, typer.Option("--latest", help="The latest moment only: RPO.")] = False,
    random: Annotated[bool, typer.Option("--random", help="A random moment within the window.")] = False,
    backup: Annotated[
        str | None, typer.Option("--backup", metavar="BACKUP", help="That backup to its own end, however old.")
    ] = None,
    mutate: Annotated[
        str | None, typer.Option("--mutate", metavar="FAULT", help="Plant one fault; 'random' picks.")
    ] = None,
    level: Annotated[str, typer.Option("--level", help="daily or deep.")] = "daily",
    timeline: TimelineOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Prove that resources can be restored: the newest mark and the latest moment, unless one is asked for."""
    from deployments.cli.progress import watching
    from tasks.engine import Act
    from tasks.home import open_home
    from tasks.proving import prove as prove_one

    opened = open_home(existing_home(home))
    proofs: list[Proof] = []
    troubles: list[tuple[Wanted, DrError]] = []
    asked = _wanted(opened, resources, as_of, (mark, latest, random), mutate, level, timeline)
    if backup is not None:
        asked = _own_end(asked, backup, plain=not (as_of or mark or latest or random or mutate or timeline))
    for wanted in asked:
        title = f"prove {wanted.resource} · {wanted.sort}" + (f" · {wanted.mutate}" if wanted.mutate else "")
        try:
            with watching(title) as tell:
                proofs.append(prove_one(Act(home=opened, tell=tell), wanted))
        except DrError as trouble:
            if len(asked) == 1:
                raise
            troubles.append((wanted, trouble))  # the others are proven all the same
        except KeyboardInterrupt:
            if not as_json:
                emit(False, {}, lambda: _drawn(proofs, troubles))
            raise
    emit(as_json, _document(proofs, troubles), lambda: _drawn(proofs, troubles))
    codes = {code_of(each) for each in proofs} | {trouble.exit_code for _, trouble in troubles}
    raise typer.Exit(next((code for code in (1, 2, 4, 3) if code in codes), 0))


def _document(proofs: list[Proof], troubles: list[tuple[Wanted, DrError]]) -> dict[str, Any]:
    """`errors` is there only where something could not be proven at all."""
    told: dict[str, Any] = {"proofs": [each.model_dump(mode="json") for each in proofs]}
    if troubles:
        told["errors"] = [
            {"resource": wanted.resource, "sort": wanted.sort, "fact": trouble.fact, "hint": trouble.hint}
            for wanted, trouble in troubles
        ]
    return told


def code_of(proof: Proof) -> int:
    """0 met, 1 missed, 3 unproven; of a planted fault: 0 when it was detected, 1 when it was not."""
    if proof.planted is not None:
        return 0 if proof.planted.detected else 1
    return CODES[proof.verdict.value]


def _wanted(
    home: Home, resources: list[str] | None, as_of: str | None, sorts: tuple[bool, bool, bool], mutate: str | None,
    level: str, timeline: int | None,
) -> list[Wanted]:  # fmt: skip
    from secrets import SystemRandom

    from deployments.cli.instants import instant
    from tasks.proving import Sort, Wanted

    mark, latest, random = sorts
    if sum((mark, latest, random, as_of is not None)) > 1:
        raise BadInput("more than one moment was asked for", hint="choose one of --as-of, --mark, --latest, --random")
    if level not in ("daily", "deep"):
        raise BadInput(f"{level!r} is not a level", hint="choose daily or deep")
    chosen: list[Sort] = ["mark", "latest"]
    if as_of is not None:
        chosen = ["time"]
    elif mark or latest or random:
        chosen = ["mark" if mark else "latest" if latest else "random"]
    elif mutate is not None:
        chosen = ["mark"]
    at = instant(as_of, now=home.now()) if as_of is not None else None
    names = list(dict.fromkeys(resources or sorted(home.catalog.resources)))  # one that is named twice is proven once
    for name in names:
        home.resource(name)
    engines: set[str] = {home.resource(name).engine for name in names}
    fault = _fault(mutate, engines, chosen[0]) if mutate is not None else None
    return [
        Wanted(
            resource=name, sort=sort, at=at, share=SystemRandom().random(), mutate=fault, level=level, timeline=timeline
        )
        for name in names
        for sort in chosen
    ]


def _own_end(asked: list[Wanted], backup: str, *, plain: bool) -> list[Wanted]:
    """One proof of that backup in the place of the daily ones."""
    from dataclasses import replace

    if not plain or len({each.resource for each in asked}) != 1:
        raise BadInput(
            "a backup's own end is one moment of one resource",
            hint="name that resource, and leave out moments, --timeline and --mutate; or leave out --backup",
        )
    return [replace(asked[0], sort="own-end", backup=backup)]


def _fault(name: str, engines: set[str], sort: str) -> str:
    from secrets import SystemRandom

    from tasks.keeping import plantable, refuse_unplantable

    known = set.intersection(*(set(plantable(engine, sort)) for engine in engines))
    if name == "random":
        return SystemRandom().choice(sorted(known))
    for engine in sorted(engines):
        refuse_unplantable(engine, name, sort)
    if name not in known:
        raise BadInput(f"there is no fault {name!r}", hint=f"one of: random, {', '.join(sorted(known))}")
    return name


def _drawn(proofs: list[Proof], troubles: list[tuple[Wanted, DrError]]) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    failed = [
        Text(f"\n{wanted.resource} · {wanted.sort}: {trouble.fact}\nhint: {trouble.hint}", style="bold red")
        for wanted, trouble in troubles
    ]
    return Group(*(part for each in proofs for part in ("", _one(each))), *failed)


def _one(proof: Proof) -> RenderableType:
    from deployments.cli.proven import drawn

    return drawn(proof)
