"""`dr runs`: what was run and how it ended, newest first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.cli.output import HomeOption, JsonOption, emit, existing_home, word

if TYPE_CHECKING:
    from rich.console import RenderableType

    from recovery.past import Past
    from tasks.scoring import Pasts


def runs(
    resource: Annotated[str | None, typer.Argument(metavar="[RESOURCE]", help="Only its runs.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="How many of the newest.")] = 30,
    unfinished: Annotated[bool, typer.Option("--unfinished", help="Only those that have not ended.")] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Runs and how they ended, newest first."""
    from tasks.home import open_home
    from tasks.remembered import pasts_of

    opened = open_home(existing_home(home))
    if resource is not None:
        opened.resource(resource)
    found = pasts_of(opened)
    chosen = [each for each in found.runs if resource in (None, each.resource) and not (unfinished and each.outcome)]
    shown = chosen[:limit]
    document = {
        "place": found.place,
        "runs": [_plain(each) for each in shown],
        "left_off_count": len(chosen) - len(shown),
        "unreadable": [each.model_dump(mode="json") for each in found.unreadable],
        "silent": found.silent,
    }
    emit(as_json, document, lambda: _table(shown, found, len(chosen) - len(shown)))


def _plain(each: Past) -> dict[str, Any]:
    plain = each.model_dump(mode="json", exclude={"said"})
    return {**plain, "outcome": each.outcome or "unfinished", "planted": _planted(each), "seconds": each.seconds}


def _planted(each: Past) -> str | None:
    """Of a proof's own test: `caught` or `not caught`; None for all other runs."""
    planted = each.said.facts.get("planted") if each.said is not None else None
    return ("caught" if planted.get("detected") is True else "not caught") if isinstance(planted, dict) else None


def _table(shown: Sequence[Past], found: Pasts, left_off: int) -> RenderableType:
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table

    from deployments.cli.words import moment, took

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("run", no_wrap=True)
    table.add_column("begun, UTC", no_wrap=True)
    table.add_column("what", overflow="fold")
    table.add_column("resource", overflow="fold")
    table.add_column("outcome", no_wrap=True)
    table.add_column("took", justify="right", no_wrap=True)
    for each in shown:
        ended = word(_planted(each) or each.outcome) if each.outcome else "[yellow]unfinished[/]"
        what = f"{each.purpose} {escape(each.asked)}"
        table.add_row(each.run[:8], moment(each.begun_at)[5:19], what, escape(each.resource), ended, took(each.seconds))
    parts: list[RenderableType] = [table if shown else "no run yet"]
    if left_off:
        parts.append(f"[dim]… {left_off} older, see --limit[/]")
    parts += [f"[bold red]unreadable[/]  {each.run[:8]}: {escape(each.why)}" for each in found.unreadable]
    parts += [f"[yellow]silent[/]  {escape(place)}: {escape(why)}" for place, why in found.silent.items()]
    return Group(*parts)
