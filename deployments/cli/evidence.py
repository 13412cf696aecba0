"""`dr evidence`: list the ledger's runs, verify it, export the auditor's pack."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deployments.cli.output import HomeOption, JsonOption, aside, emit, home, word
from recovery.check import Outcome
from recovery.errors import BadInput

if TYPE_CHECKING:
    from rich.table import Table

    from recovery.verification import Report
    from tasks.ledger import Ledger

app = typer.Typer(no_args_is_help=True, help="List and verify the ledger.")
EXIT = {Outcome.PASSED: 0, Outcome.FAILED: 1, Outcome.UNPROVEN: 3}

LedgerOption = Annotated[
    Path | None,
    typer.Option("--ledger", metavar="DIR", help="A ledger in a directory, in the place of the home's own."),
]
TrustOption = Annotated[
    list[str] | None,
    typer.Option("--trust", metavar="FINGERPRINT", help="A key that may sign; else the engine's keys in the home."),
]
RunOption = Annotated[list[str] | None, typer.Option("--run", metavar="RUN", help="Only runs whose name begins so.")]


@app.command("list")
def list_(*, home_: HomeOption = None, ledger: LedgerOption = None, as_json: JsonOption = False) -> None:
    """The runs in the ledger: how many records, how each ended."""
    from tasks.evidence import run_names, summary

    where = _ledger(home_, ledger)
    runs = [summary(where, run) for run in run_names(where)]
    runs.sort(key=lambda run: run["begin"] or "")

    def table() -> Table:
        drawn = _table("run", "begun", "purpose", "records", "outcome", "who")
        for run in runs:
            cells = (run["run"][:12], (run["begin"] or "?")[:19], run["subject"], str(run["records"]))
            drawn.add_row(*cells, run["outcome"], run["who"])
        return drawn

    emit(as_json, {"place": where.place, "runs": runs}, table)


@app.command()
def verify(
    *,
    home_: HomeOption = None,
    ledger: LedgerOption = None,
    trust: TrustOption = None,
    run: RunOption = None,
    as_json: JsonOption = False,
) -> int:
    """Find any change, gap or reordering. Exit 0 all whole and signed, 1 tampered with, 3 only unproven tails, a
    copy of the ledger that did not answer, or no run at all."""
    from tasks.evidence import compared
    from tasks.evidence import verify as check

    where = _ledger(home_, ledger)
    report = compared(check(where, trusted=_trusted(home_, trust), runs=_chosen(where, run)), where, whole=not run)
    emit(as_json, _document(report), lambda: _report(report))
    return EXIT[report.outcome]


@app.command()
def sync(*, home_: HomeOption = None, as_json: JsonOption = False) -> int:
    """Carry to each copy of the ledger what it lacks, the home first. Exit 1: two copies disagree; 3: one is silent."""
    from tasks.ledger_mirrored import MirroredLedger, Synced

    where = _ledger(home_, None)
    done = where.sync() if isinstance(where, MirroredLedger) else Synced(copied={}, unreachable={}, conflicts=())
    document = {"place": where.place, "copied": done.copied, "silent": done.unreachable, "conflicts": done.conflicts}

    def table() -> Table:
        drawn = _table("place", "outcome", "why", title=f"{where.place} and its mirrors")
        for place, count in done.copied.items():
            outcome, why = ("unproven", done.unreachable[place]) if place in done.unreachable else ("passed", "")
            drawn.add_row(place, word(outcome), why or f"{count} documents carried there")
        for key in done.conflicts:
            drawn.add_row(key, word("failed"), "it is one thing in one place and another in another")
        return drawn

    emit(as_json, document, table)
    return 1 if done.conflicts else 3 if done.unreachable else 0


@app.command()
def export(
    to: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new folder for the pack.")],
    *,
    home_: HomeOption = None,
    ledger: LedgerOption = None,
    trust: TrustOption = None,
    run: RunOption = None,
    as_json: JsonOption = False,
) -> int:
    """Write an auditor's pack that sha256sum and openssl can verify. Exits as verify does; it is written anyway."""
    from tasks.evidence_pack import export as write

    where = _ledger(home_, ledger)
    report = write(where, to, trusted=_trusted(home_, trust), runs=_chosen(where, run))
    emit(as_json, {**_document(report), "folder": str(to)}, lambda: _report(report))
    if not as_json:
        aside().print(f"the pack is in {to}; its README.md says how to verify it", markup=False)
    return EXIT[report.outcome]


def _ledger(home_: Path | None, ledger: Path | None) -> Ledger:
    from tasks.home import open_home
    from tasks.ledger_dir import DirectoryLedger

    folder = home(home_)
    if ledger is None and (folder / "catalog.yaml").is_file():
        return open_home(folder).ledger()
    place = ledger or folder / "ledger"
    if not place.is_dir():  # a mistyped name is no ledger that is whole
        raise BadInput(
            f"there is no ledger at {place}", hint="name its folder with --ledger DIR, or the home with --home DIR"
        )
    return DirectoryLedger(place)


def _trusted(home_: Path | None, given: list[str] | None) -> frozenset[str] | None:
    from tasks.keys import engine_fingerprints

    return frozenset(given) if given else engine_fingerprints(home(home_) / "keys") or None


def _chosen(ledger: Ledger, prefixes: list[str] | None) -> tuple[str, ...] | None:
    from tasks.evidence import run_names

    if not prefixes:
        return None
    found = tuple(run for run in run_names(ledger) if run.startswith(tuple(prefixes)))
    if not found:
        raise BadInput(f"no run begins with {' or '.join(prefixes)}", hint="'dr evidence list' names all runs")
    return found


def _document(report: Report) -> dict[str, object]:
    return {"outcome": report.outcome.value, **report.model_dump(mode="json")}


def _report(report: Report) -> Table:
    drawn = _table("run", "records", "ended", "verification", "why", title=f"{report.place}: {word(report.outcome)}")
    for run in report.runs:
        drawn.add_row(run.run[:12], str(run.records), run.closed or "open", word(run.outcome), run.why)
    if not report.runs:
        drawn.add_row("ledger", "", "", word("unproven"), "it holds no run: nothing was there to verify")
    for place, why in report.silent.items():
        drawn.add_row("ledger", "", "", word("unproven"), f"{place} is silent and was not compared: {why}")
    for trouble in report.troubles:
        drawn.add_row(trouble.run[:12] or "ledger", "", "", word("failed"), trouble.fact)
    return drawn


def _table(*columns: str, title: str = "") -> Table:
    from rich.table import Table

    return Table(*columns, title=title or None, title_justify="left", box=None, pad_edge=False)
