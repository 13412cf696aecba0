"""`dr report`: the scorecard from evidence alone: for people on the terminal, as one HTML page, or as JSON."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deployments.cli.output import HomeOption, JsonOption, aside, emit, existing_home, word

if TYPE_CHECKING:
    from rich.console import RenderableType

    from recovery.past import Past
    from recovery.report import Document
    from recovery.report_changes import ShownChange
    from recovery.scorecard import ResourceScore, Scorecard
    from tasks.home import Home

MOST_VERIFIED = 200
VERIFIERS = 8
CODES = {"met": 0, "missed": 1, "unproven": 3}


def report(
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write one self-contained page.")] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Scorecard and trends, from evidence only. Exit code 1: missed; 3: unproven; 0: met."""
    from tasks.home import open_home

    folder = existing_home(home)
    document, runs = gathered(open_home(folder), folder)
    if html is not None:
        write(html, document, runs)
    emit(as_json, document, lambda: _drawn(document))
    if html is not None and not as_json:
        aside().print(f"the page is {html}", markup=False)
    raise typer.Exit(CODES[document.scorecard.verdict.value])


def gathered(home: Home, folder: Path) -> tuple[Document, list[Past]]:
    """The report's numbers and the runs that they come from, newest first."""
    from concurrent.futures import ThreadPoolExecutor

    from recovery.report import document
    from recovery.scorecard import scorecard
    from tasks.evidence import verify
    from tasks.keys import engine_fingerprints
    from tasks.scoring import pasts

    ledger = home.ledger()
    found = pasts(ledger)
    card = scorecard(found.runs, home.catalog, now=home.now())
    names = [*(each.run for each in found.unreadable), *(each.run for each in found.runs)][:MOST_VERIFIED]
    trusted = engine_fingerprints(folder / "keys") or None
    with ThreadPoolExecutor(max_workers=VERIFIERS) as pool:
        parts = [names[each::VERIFIERS] for each in range(VERIFIERS)]
        reports = list(pool.map(lambda part: verify(ledger, trusted=trusted, runs=part).runs, parts))
    checked = sorted((each for part in reports for each in part), key=lambda each: names.index(each.run))
    lost = _lost(home, found.runs)
    return document(card, found.runs, checked, lost=lost, home=str(folder), ledger=found.place), list(found.runs)


def _lost(home: Home, runs: Sequence[Past]) -> dict[str, int]:
    """Run → commits of users that its lists of losses hold, for those that could not know it when they ended; nothing
    while one of its databases is not listed."""
    from recovery.losses import counted
    from recovery.report_changes import changed_of
    from tasks.postgres.roles.losses import read

    found: dict[str, int] = {}
    for each in runs:
        told = changed_of(each)
        if told is not None and told.lost_commits == "unproven" and (kept := read(home, each.run)):
            count = counted((one.losses for one in kept), {one.database for one in told.databases})
            found |= {each.run: count} if count is not None else {}
    return found


def write(file: Path, document: Document, runs: list[Past]) -> None:
    from deployments.report.page import page
    from recovery.errors import BadInput

    text = page(document, runs)
    try:
        if file.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        unfinished = file.with_name(f".{file.name}.new")
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(file)
    except (OSError, ValueError) as error:  # ValueError: a path without a name
        raise BadInput(
            f"{file} cannot be written: {getattr(error, 'strerror', None) or 'it names no file'}",
            hint="name a file in a folder that exists and is writable",
        ) from None


def _drawn(document: Document) -> RenderableType:
    from rich.console import Group
    from rich.padding import Padding

    from deployments.cli.words import moment
    from recovery.slipped import lines

    card, checked = document.scorecard, document.verification
    parts: list[RenderableType] = [f"{word(card.verdict.value)} [dim]at {moment(card.at)}, from {card.runs} runs[/]"]
    for score in card.resources:
        parts += [f"\n[bold]{score.service}[/] · [bold]{score.resource}[/] · {word(score.verdict.value)}"]
        parts += [Padding(part, (0, 0, 1, 2)) for part in (_trends(score), _punctuality(score))]
        parts += [f"  {word(reason.outcome)}  {reason.subject}: {reason.fact}" for reason in score.reasons]
        parts += [f"  on record    {line}" for line in lines([each.found for each in score.slipped])]
    if document.changes:
        parts += ["\n[bold]changes of roles[/]", Padding(_changes(document.changes), (0, 0, 0, 2))]
    if card.drills:
        parts += ["\n[bold]drills[/]", Padding(_drills(card), (0, 0, 0, 2))]
        parts += [f"  {word(reason.outcome)}  {reason.subject}: {reason.fact}" for reason in card.drill_reasons]
    caught = sum(each.newest == "caught" for each in card.faults)
    ticked = sum(each.verdict.value == "met" for each in card.readiness)
    parts.append(f"\nplanted faults  {caught} of {len(card.faults)} caught")
    parts.append(f"readiness       {ticked} of {len(card.readiness)} points ticked by evidence")
    counted = f"{checked.passed} whole, {checked.unproven} unproven, {checked.failed} tampered with"
    parts.append(f"evidence        {word(checked.outcome.value)}  {counted}, of {checked.checked} runs")
    return Group(*parts)


def _trends(score: ResourceScore) -> RenderableType:
    from rich.table import Table

    from deployments.cli.words import took

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("figure", no_wrap=True)
    for name in ("proofs", "newest", "p50", "p95"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("trend")
    for each in (score.rpo, *score.rto):
        figures = (took(each.newest_seconds), took(each.p50_seconds), took(each.p95_seconds))
        trend = f"[bold red]{each.trend}[/]" if each.trend == "regressed" else each.trend
        table.add_row(each.name, str(len(each.samples)), *figures, trend)
    forecast = (took(score.forecast.p50_seconds), took(score.forecast.p95_seconds))
    table.add_row("next restore", str(score.forecast.proofs), "", *forecast, "forecast")
    return table


def _changes(changes: Sequence[ShownChange]) -> RenderableType:
    from rich.table import Table

    from deployments.cli.words import short, took

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("change", overflow="fold")
    for name in ("verdict", "begun, UTC"):
        table.add_column(name, no_wrap=True)
    for name in ("RTO", "RPO", "lost"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("run", no_wrap=True)
    for each in changes:
        told = each.changed
        table.add_row(
            f"{told.runbook} {told.source} → {told.target}",
            word(told.outcome),
            short(each.begun_at),
            took(told.rto_seconds),
            took(told.rpo_seconds),
            str(each.lost_commits),
            told.run[:8],
        )
    return table


def _drills(card: Scorecard) -> RenderableType:
    from rich.markup import escape
    from rich.table import Table

    from deployments.cli.words import moment

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("drill", "now", "newest, UTC", "by", "verdict", "next due", "run"):
        table.add_column(name, no_wrap=name not in ("drill", "by"), overflow="fold")
    for each in card.drills:
        begun = "—" if each.newest_at is None else moment(each.newest_at)[:16]
        outcome = word(each.newest_outcome or "open") if each.newest_run else "—"
        who, run = escape(each.newest_who) or "—", each.newest_run[:8] or "—"
        table.add_row(escape(each.drill), word(each.state), begun, who, outcome, moment(each.next_at)[:16], run)
    return table


def _punctuality(score: ResourceScore) -> RenderableType:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("duty", no_wrap=True)
    for name in ("kept", "late", "missed"):
        table.add_column(name, justify="right")
    for each in score.punctuality:
        table.add_row(each.what, *(str(count) for count in (each.kept, each.late, each.missed)))
    return table
