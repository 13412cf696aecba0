"""`dr`: the table of its commands, and how errors leave it.

A command's module is imported when that command runs, never before: `dr --help` has to be quick on a tired laptop,
and break glass must not need what it does not use (no Prefect, no boto3 at start-up). A row whose module is not built
yet is absent from the help.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import io
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from deployments.cli import given
from deployments.cli.leaving import leave
from deployments.cli.output import complain, to_nowhere, unsaid
from recovery.errors import BadInput, DrError, Failed

INTERRUPTED = 130


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A command: where it lives (`module:attribute`, a function for typer or a typer app) and how the help shows it."""

    place: str
    help: str
    panel: str


def _rows(panel: str, rows: dict[str, tuple[str, str]]) -> dict[str, Row]:
    return {
        name: Row(place=f"deployments.cli.{place}", panel=panel, help=help_) for name, (place, help_) in rows.items()
    }


COMMANDS: dict[str, Row] = {
    **_rows(
        "Look",
        {
            "check": ("check:check", "Validate the catalog and look at the environment."),
            "status": ("status:status", "What is protected, exposure now, last proofs, what is due."),
            "points": ("points:points", "Recovery points, marks, windows and their gaps."),
            "runs": ("runs:runs", "Runs and how they ended."),
            "show": ("show:show", "One run or plan: steps, hazards, evidence."),
            "runbook": ("runbook:app", "List, validate, draw and print runbooks."),
            "report": ("report:report", "Scorecard and trends, from evidence only."),
            "plan": ("plan:plan", "Make a plan and its hazards; changes nothing live."),
        },
    ),
    **_rows(
        "Act",
        {
            "backup": ("backup:backup", "Take a backup now, if it is due."),
            "prove": ("prove:prove", "Restore into scratch, check, measure, discard."),
            "restore": ("restore:restore", "Restore to a moment, into a new directory."),
            "approve": ("approve:approve", "Consent to a plan and its hazards; sign or take back."),
            "act": ("act:act", "Act on an admitted plan."),
            "resume": ("act:resume", "Go on with an unfinished run."),
            "run": ("run:app", "Pause, resume, cancel, skip, retry, switch, confirm, sync."),
            "drill": ("act:drill", "Rehearse the failover on a copy; nothing live."),
            "losses": ("losses:losses", "The commits that a failover gave up."),
            "watch": ("watch:watch", "Watch the probes; with --act fail over by standing consent."),
        },
    ),
    **_rows(
        "Keep",
        {
            "agent": ("agent:app", "The resident process on a database's machine."),
            "sweep": ("sweep:sweep", "What is kept no longer; removes it with --really."),
            "evidence": ("evidence:app", "List and verify the ledger."),
            "keys": ("keys:app", "Make, list and rotate keys."),
            "bundle": ("bundle:bundle", "Write or verify the offline bundle for break glass."),
            "lab": ("lab:app", "The two-site world on this machine."),
        },
    ),
}


class _Waiting(TyperCommand):
    """A row of the help: what stands for a command until it is asked for."""


class LazyGroup(TyperGroup):
    """A group whose commands are rows of COMMANDS until one of them is called."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for name, row in COMMANDS.items():
            if _is_built(row):
                self.add_command(
                    _Waiting(name=name, help=row.help, short_help=row.help, callback=None, rich_help_panel=row.panel)
                )

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """As typer's, but a row that was waiting is imported now."""
        name, command, rest = super().resolve_command(ctx, args)
        if name is not None and isinstance(command, _Waiting):
            command = _load(name, COMMANDS[name])
        return name, command, rest


def _is_built(row: Row) -> bool:
    return importlib.util.find_spec(row.place.partition(":")[0]) is not None


def _load(name: str, row: Row) -> Any:
    """Import a command. A group of its own around it keeps a one-command app an app (`dr keys make`, not `dr keys`)."""
    module, _, attribute = row.place.partition(":")
    found: typer.Typer | Callable[..., object] = getattr(importlib.import_module(module), attribute)
    around = typer.Typer(add_completion=False, callback=lambda: None)
    if isinstance(found, typer.Typer):
        around.add_typer(found, name=name)
    else:
        around.command(name)(found)
    group = typer.main.get_command(around)
    return group.commands[name]  # type: ignore[attr-defined]  # typer types its groups as commands


app = typer.Typer(cls=LazyGroup, add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)


@app.callback()
def _dr(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks; may stand anywhere in the line.")] = False,
    bundle: Annotated[
        str | None,
        typer.Option(
            "--bundle",
            metavar="FILE",
            help="Take the home from an offline bundle; may stand anywhere in the line, with --trust FINGERPRINT, "
            "--key FILE, --stale.",
        ),
    ] = None,
) -> None:
    """Disaster recovery that is proven every day. It looks by default; only an admitted plan changes live things.

    Exit codes: 0 done and held, 1 a failure or a missed objective, 2 bad input, 3 unproven, 4 refused.
    """


def run(arguments: list[str]) -> int:
    """Run one command line (without the program's name); gives the exit code. Shows errors; raises only for --debug."""
    ours = arguments[: arguments.index("--")] if "--" in arguments else arguments
    debug, as_json = "--debug" in ours, "--json" in ours
    kept = [each for each in ours if each != "--debug"] + arguments[len(ours) :]
    try:
        given.refuse_empty(kept)
        with _home_of(kept, ours) as words:
            code = app(args=words, prog_name="dr", standalone_mode=False)
    except typer.TyperException as error:
        return _usage(error, as_json=as_json)
    except (KeyboardInterrupt, typer.Abort):
        return _interrupted(as_json=as_json)
    except BrokenPipeError:
        return _hang_up()
    except Exception as error:
        if debug:
            raise
        known = error if isinstance(error, DrError) else given.explained(error, kept) or _unexpected(error)
        complain(known, as_json=as_json)
        return known.exit_code
    if code == INTERRUPTED:  # typer answers Ctrl-C with this code by itself
        return _interrupted(as_json=as_json)
    return code if isinstance(code, int) else 0


def _home_of(kept: list[str], ours: list[str]) -> AbstractContextManager[list[str]]:
    """The words that are left for the command: with `--bundle FILE` its home is the one that the bundle is."""
    if not any(each == "--bundle" or each.startswith("--bundle=") for each in ours):
        return nullcontext(kept)
    from deployments.cli.bundle import by_bundle

    return by_bundle(kept)


def _flushed(code: int) -> int:
    """What is still to be written is, before Python's own end, which would say so with another code."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return _hang_up()
    except OSError as trouble:
        complain(unsaid(trouble), as_json=False)
        return code or Failed.exit_code
    return code


def _with_streams() -> None:
    """A stream that was closed (`>&-`) is opened to nowhere: else the next file that is opened takes its number, and
    gets what is written to it. What a stream's encoding cannot say is replaced."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
            setattr(sys, name, open(number, "r" if number == 0 else "w", closefd=False))  # noqa: SIM115
    if os.environ.get("COLUMNS", "1").strip() == "0":  # a terminal that does not know its width; nothing would be shown
        del os.environ["COLUMNS"]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace" if stream is sys.stdout else "backslashreplace")


def _unexpected(error: Exception) -> Failed:
    message = " ".join(str(error).split())
    return Failed(f"unexpected {type(error).__name__}: {message or 'no message'}", hint="run again with --debug")


def _usage(error: typer.TyperException, *, as_json: bool) -> int:
    """A mistyped command line: exit 2. Without any words typer raises the help page as an error; it is help."""
    context = getattr(error, "ctx", None)
    message = error.format_message()
    if type(error).__name__ == "NoArgsIsHelpError":  # shown already, by typer, while it made this error
        return 2
    path = context.command_path if context is not None else "dr"
    fact = message[:1].lower() + message[1:].rstrip(".")
    complain(BadInput(fact, hint=f"see `{path} --help`"), as_json=as_json)
    return 2


def _interrupted(*, as_json: bool) -> int:
    hint = "the same command again goes on, or clears up what is unfinished and begins anew; it says which"
    stopped = Failed("stopped by Ctrl-C", hint=hint)
    complain(stopped, as_json=as_json)
    return INTERRUPTED


def _hang_up() -> int:
    """The reader of our output has gone (`dr points | head`): say nothing more, nor at exit."""
    to_nowhere(sys.stdout)
    return 141


def main() -> None:
    """The console entry point."""
    gc.set_threshold(50_000, 20, 50)  # what is imported stays: looking for garbage in it is a tenth of a start
    _with_streams()
    code = _flushed(run(sys.argv[1:]))
    if code == INTERRUPTED:
        words = [each for each in sys.argv[1:] if not each.startswith("-")]
        leave(code, programs=words[:1] != ["lab"])  # what `dr lab up` has raised is to live on
    sys.exit(code)


if __name__ == "__main__":
    main()
