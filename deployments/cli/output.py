"""What a command shows and where: one JSON document for programs, tables for people, and the home it works in.

Separate so that every command keeps the same promise (SPEC 2): with `--json` exactly one document on stdout, everything
else on stderr; without it, the answer on stdout and progress on stderr. rich is imported only when something is shown.
"""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from recovery.errors import BadInput, DrError, Failed

if TYPE_CHECKING:
    from pydantic import BaseModel
    from rich.console import Console, RenderableType

HomeOption = Annotated[
    Path | None,
    typer.Option(
        "--home", envvar="DR_HOME", metavar="DIR", help="The folder with catalog and keys (default: ./.home)."
    ),
]
TimelineOption = Annotated[
    int | None,
    typer.Option(
        "--timeline",
        metavar="N",
        min=1,
        max=0xFFFFFFFF,
        help="Follow this timeline, where nothing else tells which is ours.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]

_STYLES = {
    "met": "green", "passed": "green", "held": "green", "caught": "green",
    "missed": "bold red", "failed": "bold red", "refused": "bold red", "not caught": "bold red",
    "unproven": "yellow", "late": "yellow", "warning": "yellow",
    "kept": "green", "due": "yellow", "open": "yellow", "unrecorded": "dim", "not configured": "dim",
}  # fmt: skip


def home(given: Path | None) -> Path:
    """The home's absolute path: `--home` or DR_HOME (typer fills in both), else ./.home. It need not exist. Raises
    BadInput for what cannot be a folder."""
    try:
        folder = (given or Path(".home")).expanduser().absolute()
        known = folder.stat()
    except FileNotFoundError:
        return folder
    except (OSError, RuntimeError) as error:  # RuntimeError: ~ of a user that is not there
        fact = f"the home {given} cannot be looked at: {getattr(error, 'strerror', None) or error}".lower()
        raise BadInput(fact, hint="name a folder with --home DIR or DR_HOME") from None
    if not stat.S_ISDIR(known.st_mode):
        raise BadInput(f"the home {folder} is not a folder", hint="name a folder with --home DIR or DR_HOME")
    return folder


def existing_home(given: Path | None) -> Path:
    """As `home`, but it must hold a catalog. Raises BadInput."""
    folder = home(given)
    if not catalog_path(folder).is_file():
        raise BadInput(
            f"there is no catalog at {catalog_path(folder)}",
            hint="name the home with --home DIR or DR_HOME; deployments/catalog.example.yaml is one to begin with",
        )
    return folder


def catalog_path(folder: Path) -> Path:
    """Where a home keeps its catalog."""
    return folder / "catalog.yaml"


def people() -> Console:
    """The console for answers to people: stdout."""
    from rich.console import Console

    return Console(soft_wrap=False, highlight=False)


def aside() -> Console:
    """The console for progress, warnings and errors: stderr."""
    from rich.console import Console

    return Console(stderr=True, soft_wrap=True, highlight=False)


def emit(
    as_json: bool,
    document: Mapping[str, Any] | BaseModel,
    render: Callable[[], RenderableType | None],
) -> None:
    """The answer of a command: `document` as one JSON line, or what `render` draws (None: nothing) for people."""
    if as_json:
        plain = document if isinstance(document, Mapping) else document.model_dump(mode="json", by_alias=True)
        say(lambda: sys.stdout.write(_line(plain) + "\n"))
        return
    drawn = render()
    if drawn is not None:
        say(lambda: people().print(drawn, crop=False))  # a command that is longer than the screen is copied whole


def _line(plain: Mapping[str, Any]) -> str:
    """The document as one line that stdout can say: its characters, or their escapes where it is not UTF-8."""
    line = json.dumps(plain, ensure_ascii=False, allow_nan=False)
    try:
        line.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        line = json.dumps(plain, ensure_ascii=True, allow_nan=False)
    return line


def say(write: Callable[[], object]) -> None:
    """Write an answer to stdout, whole. Raises Unsaid where it cannot be: an answer that is lost is no answer."""
    try:
        write()
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise unsaid(error) from None


def unsaid(error: OSError) -> Unsaid:
    """That stdout took no more. From here on what is written to it goes nowhere."""
    to_nowhere(sys.stdout)
    why = (error.strerror or str(error)).lower()
    hint = "send the output elsewhere; what the command did stands, see 'dr runs'"
    return Unsaid(f"the answer could not be written: {why}", hint=hint)


class Unsaid(Failed):
    """The command has ended, and its answer could not be written."""


def to_nowhere(stream: TextIO) -> None:
    """Whatever is still to be written there goes nowhere, and raises nothing at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def word(outcome: str) -> str:
    """An outcome or verdict as rich markup, coloured by its meaning. Only for words of our own, never for data."""
    style = _STYLES.get(outcome)
    return f"[{style}]{outcome}[/]" if style else outcome


def complain(error: DrError, *, as_json: bool) -> None:
    """Show an error: fact and hint on stderr, and with `--json` as the one document on stdout."""
    if as_json and not isinstance(error, Unsaid):
        with suppress(Unsaid):  # then stderr has it alone
            emit(True, {"error": {"fact": error.fact, "hint": error.hint}}, lambda: None)
    if sys.stderr.isatty():
        from rich.text import Text

        aside().print(Text.assemble(("error: ", "bold red"), error.fact))
        aside().print(Text.assemble(("hint: ", "bold cyan"), error.hint))
    else:
        sys.stderr.write(f"error: {error.fact}\nhint: {error.hint}\n")
