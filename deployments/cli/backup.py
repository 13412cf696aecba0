"""`dr backup`: take what is due (or asked for), take a mark, hold a backup, explain one for a person without us."""

from __future__ import annotations

from typing import Annotated

import typer

from deployments.cli.output import HomeOption, JsonOption, emit, existing_home
from recovery.errors import BadInput


def backup(
    resource: Annotated[str, typer.Argument(metavar="RESOURCE")],
    full: Annotated[bool, typer.Option("--full", help="A full backup now, due or not.")] = False,
    incremental: Annotated[bool, typer.Option("--incremental", help="An incremental now, due or not.")] = False,
    mark: Annotated[bool, typer.Option("--mark", help="Take a mark on the standby instead.")] = False,
    explain: Annotated[
        str | None, typer.Option("--explain", metavar="BACKUP", help="Print how to restore it by hand.")
    ] = None,
    hold: Annotated[
        str | None, typer.Option("--hold", metavar="BACKUP", help="Retention leaves it alone; needs --why.")
    ] = None,
    release: Annotated[str | None, typer.Option("--release", metavar="BACKUP", help="End a hold.")] = None,
    why: Annotated[str, typer.Option("--why", metavar="TEXT", help="Why it is held or released.")] = "",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take the backup that is due; with nothing due it does nothing and says why."""
    from tasks.home import open_home

    if sum((full, incremental, mark, *(each is not None for each in (explain, hold, release)))) > 1:
        raise BadInput(
            "more than one thing was asked for",
            hint="choose one of --full, --incremental, --mark, --explain, --hold, --release",
        )
    if why and hold is None and release is None:
        raise BadInput("--why says why a backup is held or released", hint="add --hold BACKUP or --release BACKUP")
    opened = open_home(existing_home(home))
    opened.resource(resource)
    if explain is not None:
        _explain(opened, resource, explain, as_json)
    elif hold is not None or release is not None:
        _hold(opened, resource, hold, release, why, as_json)
    elif mark:
        _mark(opened, resource, as_json)
    else:
        _take(opened, resource, "full" if full else "incremental" if incremental else "due", as_json)


def _take(home: object, resource: str, which: str, as_json: bool) -> None:
    from typing import cast

    from deployments.cli.progress import watching
    from recovery.plan import NothingToDo
    from tasks import backing
    from tasks.engine import Act
    from tasks.home import Home

    opened = cast(Home, home)
    plan = backing.plan_backup(opened, resource, cast(backing.Which, which))
    if isinstance(plan, NothingToDo):
        why = plan.why
        emit(as_json, {"outcome": "already", "why": why}, lambda: f"nothing to do: {why}")
        return
    with watching(f"backup {resource} · {plan.arguments['kind']}") as tell:
        taken = backing.take(Act(home=opened, tell=tell), plan)
    ratio = taken.size_bytes / max(1, taken.stored_bytes)
    emit(
        as_json,
        {"outcome": "changed", **taken.model_dump(mode="json")},
        lambda: (
            f"{taken.id} at {taken.site}: {taken.size_bytes / 1e6:.1f} MB in {taken.seconds:.1f} s, "
            f"stored {taken.stored_bytes / 1e6:.1f} MB (1:{ratio:.1f})"
        ),
    )


def _mark(home: object, resource: str, as_json: bool) -> None:
    from typing import cast

    from recovery.point import lsn_text
    from tasks import backing
    from tasks.home import Home

    key, timeline, lsn = backing.take_mark(cast(Home, home), resource)
    emit(
        as_json,
        {"outcome": "changed", "key": key, "timeline": timeline, "lsn": lsn_text(lsn)},
        lambda: f"mark at LSN {lsn_text(lsn)} on timeline {timeline}",
    )


def _hold(home: object, resource: str, hold: str | None, release: str | None, why: str, as_json: bool) -> None:
    from typing import cast

    from recovery.plan import NothingToDo
    from tasks import holding
    from tasks.engine import Act
    from tasks.home import Home

    opened = cast(Home, home)
    order: holding.Order = "hold" if hold is not None else "release"
    backup = str(hold if hold is not None else release)
    plan = holding.plan(opened, resource, backup, order, why)
    if isinstance(plan, NothingToDo):
        reason = plan.why
        emit(as_json, {"outcome": "already", "why": reason}, lambda: f"nothing to do: {reason}")
        return
    sites = holding.act_on(Act(home=opened), plan)
    told = "under hold" if order == "hold" else "released"
    emit(
        as_json,
        {"outcome": "changed", "backup": backup, "hold": "held" if order == "hold" else "none", "sites": list(sites)},
        lambda: f"{backup} is {told} at {', '.join(sites)}",
    )


def _explain(home: object, resource: str, wanted: str, as_json: bool) -> None:
    from typing import cast

    from tasks.backing import explain
    from tasks.home import Home

    text = explain(cast(Home, home), resource, wanted)
    emit(as_json, {"resource": resource, "backup": wanted, "text": text}, lambda: typer.echo(text))
