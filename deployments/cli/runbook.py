"""`dr runbook`: list, validate, draw and print the runbooks of a home: those that ship and its own (HOME/runbooks)."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deployments.cli.output import HomeOption, JsonOption, catalog_path, emit, existing_home, home, say

if TYPE_CHECKING:
    from rich.table import Table

    from recovery.runbook import Runbook
    from tasks.runbook_page import Page

app = typer.Typer(no_args_is_help=True, help="List, validate, draw and print runbooks.")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Of the runbook; see `dr runbook list`.")]
ServiceOption = Annotated[str | None, typer.Option("--service", help="Default: the catalog's only service.")]
ToOption = Annotated[str | None, typer.Option("--to", metavar="SITE", help="Default: where the runbook goes.")]
OutOption = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write there, not to stdout.")]


class Picture(StrEnum):
    """How a runbook is drawn."""

    MERMAID = "mermaid"
    SVG = "svg"


class Paper(StrEnum):
    """How a runbook is printed."""

    MARKDOWN = "markdown"
    HTML = "html"


@app.command("list")
def list_(*, home_: HomeOption = None, as_json: JsonOption = False) -> None:
    """All runbooks of the home, with what they are for."""
    from tasks.runbook_file import SHIPPED, library, load_all

    books = library(home(home_))
    found = load_all(list(books.files), books)
    shipped = {name: file.parent == SHIPPED for name, file in books.files.items()}

    def table() -> Table:
        from rich.table import Table

        drawn = Table("name", "version", "variant", "steps", "live", "from", box=None, pad_edge=False)
        for name, book in found.items():
            live = "live" if book.live else "nothing live"
            origin = "the engine" if shipped[name] else str(books.files[name])
            drawn.add_row(name, book.version, book.mode.value, str(len(book.steps)), live, origin)
        return drawn

    emit(as_json, {"runbooks": [_summary(book, shipped[name]) for name, book in found.items()]}, table)


def _summary(book: Runbook, shipped: bool) -> dict[str, object]:
    return {
        "name": book.name,
        "version": book.version,
        "title": book.title,
        "mode": book.mode.value,
        "variants": [mode.value for mode in book.variants],
        "steps": len(book.steps),
        "changes": "live" if book.live else "nothing live",
        "origin": "engine" if shipped else "home",
    }


@app.command()
def validate(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Default: all of them.")] = None,
    *,
    home_: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Everything that is wrong with runbooks, against the home's catalog: file, line, fact and hint, all at once."""
    from tasks.catalog_file import load as load_catalog
    from tasks.runbook_file import library, load_all

    folder = existing_home(home_)
    books = library(folder)
    wanted = list(dict.fromkeys(names or books.files))
    found = load_all(wanted, books, load_catalog(catalog_path(folder)))
    steps = sum(len(book.steps) for book in found.values())
    emit(
        as_json,
        {"runbooks": wanted, "problems": [], "outcome": "passed"},
        lambda: f"passed: {len(found)} runbook{'s' if len(found) != 1 else ''}, {steps} steps",
    )


@app.command()
def draw(
    name: NameArgument,
    *,
    form: Annotated[Picture, typer.Option("--as", help="As what.")] = Picture.MERMAID,
    service: ServiceOption = None,
    to: ToOption = None,
    out: OutOption = None,
    home_: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """A runbook as a picture, bound to the home's catalog. Thick: changes what is live; dashed: left out."""
    from tasks.runbook_draw import mermaid, svg

    page = _page(name, home_, service, to)
    mode = page.runbook.mode
    if form is Picture.MERMAID:
        text = mermaid(page.steps, live=page.live, mode=mode)
    else:
        text = svg(page.steps, title=page.title, live=page.live, mode=mode)
    _give(text, out, as_json, {"runbook": name, "form": form.value})


@app.command("print")
def print_(
    name: NameArgument,
    *,
    form: Annotated[Paper, typer.Option("--as", help="As what.")] = Paper.MARKDOWN,
    service: ServiceOption = None,
    to: ToOption = None,
    out: OutOption = None,
    home_: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """A runbook for a person with psql, aws and dig only: this catalog's names and commands, in order, with blanks."""
    from tasks.runbook_page import html, markdown

    page = _page(name, home_, service, to)
    text = markdown(page) if form is Paper.MARKDOWN else html(page)
    _give(text, out, as_json, {"runbook": name, "form": form.value})


def _page(name: str, home_: Path | None, service: str | None, to: str | None) -> Page:
    from tasks.catalog_file import load as load_catalog
    from tasks.runbook_file import library, load
    from tasks.runbook_page import bound

    folder = existing_home(home_)
    catalog = load_catalog(catalog_path(folder))
    return bound(load(name, library(folder), catalog), catalog, service=service, to=to)


def _give(text: str, out: Path | None, as_json: bool, about: dict[str, str]) -> None:
    from recovery.errors import BadInput

    if out is not None:
        try:
            out.write_text(text, encoding="utf-8")
        except OSError as error:
            why = (error.strerror or "unknown").lower()
            raise BadInput(f"cannot write {out}: {why}", hint="name a file in a folder that exists") from None
    if as_json:
        emit(True, {**about, **({"file": str(out)} if out else {"text": text})}, lambda: None)
    elif out is None:
        say(lambda: sys.stdout.write(text))
