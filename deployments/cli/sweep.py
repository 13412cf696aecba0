"""`dr sweep`: scratch past its expiry, retention and leftovers in the buckets; it looks unless it is told to remove."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from deployments.cli.output import HomeOption, JsonOption, emit, existing_home

if TYPE_CHECKING:
    from rich.table import Table

    from tasks.pages import Told


def sweep(
    really: Annotated[bool, typer.Option("--really", help="Remove; without it, only show what would go.")] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """What is kept no longer, and why everything else stays. Exit code 1: something could not be judged or removed."""
    from tasks import routine
    from tasks.engine import Act
    from tasks.home import open_home

    told = routine.sweep(Act(home=open_home(existing_home(home))), really=really)
    outcome = "changed" if really else "nothing was touched"
    emit(as_json, {"outcome": outcome, **(told.documents[0] if told.documents else {})}, lambda: _table(told, really))
    raise typer.Exit(0 if told.held else 1)


def _table(told: Told, really: bool) -> Table:
    from rich.table import Table

    title = told.text if really else f"nothing was touched; with --really: {told.text}"
    drawn = Table("where", "what", "outcome", "why", title=title, title_justify="left", box=None, pad_edge=False)
    for row in told.pages[0].rows if told.pages else ():
        drawn.add_row(*(str(each) for each in row.values()))
    return drawn
