"""The document of `dr points` as people read it.

Separate from points.py, which puts the document together: here nothing is asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType

SHOWN = 12


def drawn(document: Mapping[str, Any], every: bool) -> RenderableType:
    """Place by place."""
    from rich.console import Group

    parts = [part for place in document["points"] for part in _place_drawn(place, every)]
    if document["ledger"]["state"] != "answers":
        parts.append(f"[yellow]the ledger is silent, so nothing says what was proven: {document['ledger']['why']}[/]")
    return Group(*parts)


def _place_drawn(place: Mapping[str, Any], every: bool) -> list[RenderableType]:
    from rich.markup import escape
    from rich.text import Text

    from deployments.cli.words import forecast_words

    title = f"[bold]{escape(place['resource'])}[/] at [bold]{escape(place['site'])}[/]"
    if place["state"] == "silent":
        return [f"{title}  [yellow]silent[/]", Text(f"  {place['why']}\n")]
    drawn: list[RenderableType] = [f"{title}  [dim]timeline {place['timeline']}, system {place['system_id']}[/]"]
    drawn.append(_backups_drawn(place["backups"], every) if place["backups"] else "  [yellow]no backup yet[/]")
    if place["forecast"] is not None:
        drawn.append(f"  latest  [dim]{forecast_words(place['forecast'])}[/]")
    if place["doubt"]:
        drawn.append(Text(f"  doubt     {place['doubt']}; say which with --timeline N", style="bold red"))
    drawn += [Text(f"  damaged   {fact}", style="bold red") for fact in place["damaged"]]
    for line in place["timelines"]:
        drawn += _line_drawn(line, place, every)
    if place["why"]:
        drawn.append(Text(f"  the archive's end could not be read: {place['why']}", style="yellow"))
    drawn.append("")
    return drawn


def _backups_drawn(backups: Sequence[Mapping[str, Any]], every: bool) -> RenderableType:
    from rich.table import Table

    from deployments.cli.words import ago, short, size, took

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=True, show_edge=False, header_style="dim")
    table.add_column("  backup", no_wrap=True)
    table.add_column("ended, UTC", no_wrap=True)
    for name in ("took", "size", "stored"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("last proven", no_wrap=True)
    shown = backups if every else backups[-SHOWN:]
    if len(shown) < len(backups):
        table.add_row(f"  [dim]… {len(backups) - len(shown)} older, see --all[/]")
    for each in shown:
        branch = "  └ " if each["parent"] else "  "
        proven = each["proven"]
        said = f"[green]{ago(proven['age_seconds'])}[/]" if proven else "[yellow]never[/]"
        said += "  held" if each["hold"] == "held" else ""
        table.add_row(
            f"{branch}{each['id']}", short(each["ended_at"]), took(each["taken_seconds"]), size(each["size_bytes"]),
            size(each["stored_bytes"]), said,
        )  # fmt: skip
    return table


def _line_drawn(line: Mapping[str, Any], place: Mapping[str, Any], every: bool) -> list[RenderableType]:
    from rich.text import Text

    from deployments.cli.words import moment

    drawn: list[RenderableType] = []
    if len(place["timelines"]) > 1:
        drawn.append(f"  [dim]timeline {line['timeline']}[/]")
    usable = [each for each in line["windows"] if each["stops"] not in ("unusable", "retired")]
    for each in _merged(usable) if not every else usable:
        until = moment(each["to_at"]) if each["to_at"] else "unknown instant"
        whole = each["stops"] == "end of archive"
        drawn.append(f"  [green]window[/]  {moment(each['from_at'])} → {'' if whole else 'at least '}{until}")
        drawn.append(f"          [dim]LSN {each['from_lsn']} → {each['to_lsn']}, from {each['backup']}[/]")
        if not whole:
            drawn.append(f"          [bold red]stops: {each['missing']} is missing[/]")
    drawn += [
        f"  [bold red]unusable[/]  {each['backup']}: {each['missing']} is missing"
        for each in line["windows"]
        if each["stops"] == "unusable"
    ]
    drawn += _retired_drawn(line, place, every)
    for gap in line["gaps"]:
        files = gap["first"] if gap["files"] == 1 else f"{gap['first']} to {gap['last']} ({gap['files']} files)"
        drawn.append(f"  [bold red]gap[/]     {files}")
    marks = line["marks"]
    if marks:
        drawn.append(f"  marks   {len(marks)}, newest at LSN {marks[-1]}")
    elif line["timeline"] == place["timeline"]:
        drawn.append("  marks   [yellow]none: content stays unproven until 'dr backup RESOURCE --mark'[/]")
    if line["why"]:
        drawn.append(Text(f"  {line['why']}", style="yellow"))
    return drawn


def _retired_drawn(line: Mapping[str, Any], place: Mapping[str, Any], every: bool) -> list[RenderableType]:
    """The backups behind which WAL was retired: no moment after them, and no alarm."""
    from deployments.cli.words import moment

    old = [each for each in line["windows"] if each["stops"] == "retired"]
    if not old:
        return []
    shown = [f"          [dim]{moment(each['from_at'])}, {each['backup']}[/]" for each in old] if every else []
    span = moment(old[0]["from_at"]) + (f" … {moment(old[-1]['from_at'])}" if len(old) > 1 else "")
    what = f"{len(old)} backups, each" if len(old) > 1 else old[0]["backup"]
    return [
        f"  own end [dim] {span}[/]  {what} to its own end only: WAL is retired ({place['retired']})",
        *shown,
        f"          [dim]dr restore {place['resource']} --backup BACKUP --to DIR[/]",
    ]


def _merged(windows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Windows that end at one place are one, from the oldest backup on: people ask for moments, not for backups."""
    first: dict[str, Mapping[str, Any]] = {}
    for each in windows:
        first.setdefault(each["to_lsn"], each)
    return list(first.values())
