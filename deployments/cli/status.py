"""`dr status`: what is protected, how exposed it is now, what is due, late or missed, and what was proven last."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.cli.output import HomeOption, JsonOption, emit, existing_home, word

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType
    from rich.table import Table

    from recovery.standing import Reason, ServerFacts
    from tasks.home import Home
    from tasks.standing import Overview, Standing

SHOWN_SLOTS = 96
CODES = {"met": 0, "missed": 1, "unproven": 3}


def status(
    resources: Annotated[
        list[str] | None, typer.Argument(metavar="[RESOURCE…]", help="All when none is named.")
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """What is protected. Exit code 1: something is missed, late or beyond its objective; 3: unproven; 0: met."""
    from tasks.home import open_home
    from tasks.standing import overview

    opened = open_home(existing_home(home))
    names = list(dict.fromkeys(resources or sorted(opened.catalog.resources)))
    for name in names:
        opened.resource(name)
    found = overview(opened, names)
    document = as_document(opened, found)
    emit(as_json, document, lambda: _drawn(opened, found, document["verdict"]))
    raise typer.Exit(CODES[str(document["verdict"])])


def as_document(home: Home, found: Overview) -> dict[str, Any]:
    """The one JSON document."""
    from recovery.drilled import reasons_of_drills

    late = ["missed" for _ in reasons_of_drills(found.drills)]
    worst = _worst([*(each.verdict.value for each in found.resources), *late])
    services: dict[str, list[Standing]] = {}
    for each in found.resources:
        services.setdefault(each.service, []).append(each)
    return {
        "home": str(home.folder),
        "at": found.model_dump(mode="json")["at"],
        "verdict": worst,
        "ledger": {"state": found.ledger, "place": found.ledger_place, "silent": found.ledger_silent},
        "services": [
            {
                "service": name,
                "verdict": _worst([each.verdict.value for each in mine]),
                "resources": [each.resource for each in mine],
            }
            for name, mine in services.items()
        ],
        "resources": [_resource(home, each, found) for each in found.resources],
        "drills": [each.model_dump(mode="json") for each in found.drills],
        "unfinished": [
            {"run": each.run, "purpose": each.purpose, "resource": each.resource, "asked": each.asked,
             "begun_at": each.model_dump(mode="json")["begun_at"], "who": each.who}
            for each in found.unfinished
        ],
        "unreadable": [each.model_dump(mode="json") for each in found.unreadable],
    }  # fmt: skip


def _worst(words: list[str]) -> str:
    return next((each for each in ("missed", "unproven") if each in words), "met" if words else "unproven")


def _resource(home: Home, each: Standing, found: Overview) -> dict[str, Any]:
    objective = home.catalog.objectives[home.resource(each.resource).objective]
    newest = {backup.kind: backup for backup in each.backups}
    return {
        "resource": each.resource,
        "service": each.service,
        "verdict": each.verdict.value,
        "objective": {
            "category": objective.category,
            "rpo_seconds": objective.rpo.total_seconds(),
            "rto_seconds": objective.rto.total_seconds(),
            "proof_age_seconds": objective.proof_age.total_seconds(),
        },
        "reasons": [reason.model_dump(mode="json") for reason in each.reasons],
        "servers": [_server(server) for server in each.servers],
        "exposure": [
            {"site": e.site, "copy": e.copy_of, "exposure_seconds": e.seconds, "lsn": _lsn(e.lsn), "why": e.why,
             "judged": e.judged}
            for e in each.exposure
        ],
        "backups": [
            {"kind": kind, "id": b.id, "ended_at": b.model_dump(mode="json")["ended_at"],
             "age_seconds": (found.at - b.ended_at).total_seconds(), "size_bytes": b.size_bytes}
            for kind, b in newest.items()
        ],
        "duties": [duty.model_dump(mode="json") for duty in each.duties],
        "slots_on_record": [noted.model_dump(mode="json") for noted in each.slipped[-SHOWN_SLOTS:]],
        "proofs": [proof.model_dump(mode="json") for proof in each.proofs],
        "agents": [agent.model_dump(mode="json") for agent in each.agents],
    }  # fmt: skip


def _server(server: ServerFacts) -> dict[str, Any]:
    plain = server.model_dump(mode="json")
    return {**plain, "lsn": _lsn(server.lsn), "flushed_lsn": _lsn(server.flushed_lsn)}


def _lsn(lsn: int | None) -> str | None:
    from recovery.point import lsn_text

    return None if lsn is None else lsn_text(lsn)


def _drawn(home: Home, found: Overview, verdict: str) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from deployments.cli.words import ago, moment

    parts: list[RenderableType] = [f"{word(verdict)} [dim]at {moment(found.at)}[/]"]
    for each in found.resources:
        parts += _resource_drawn(home, each, found)
    parts += _drills(found)
    for run in found.unfinished:
        age = ago((found.at - run.begun_at).total_seconds())
        what = " ".join(each for each in (run.run[:8], run.purpose, run.resource, run.asked) if each)
        line = f"unfinished  {what}, begun {age} by {run.who}"
        parts.append(Text(f"{line}: 'dr show {run.run[:8]}'", style="yellow"))
    parts += [Text(f"unreadable  {each.run[:8]}: {each.why}", style="bold red") for each in found.unreadable]
    return Group(*parts)


def _resource_drawn(home: Home, each: Standing, found: Overview) -> list[RenderableType]:
    from rich.markup import escape
    from rich.padding import Padding

    from deployments.cli.words import promised

    objective = home.catalog.objectives[home.resource(each.resource).objective]
    head = f"\n[bold]{escape(each.service)}[/] · [bold]{escape(each.resource)}[/] · {word(each.verdict.value)}"
    drawn: list[RenderableType] = [f"{head}  [dim]{promised(objective)}[/]"]
    drawn += [Padding(table, (0, 0, 1, 2)) for table in (_copies(each), _proofs(each), _duties(each, found))]
    drawn += [Padding(part, (0, 0, 0, 2)) for part in _reasons(each)]
    return drawn


def _copies(each: Standing) -> RenderableType:
    from rich.markup import escape

    from deployments.cli.words import exposed

    rows = _table("site", "copy", "exposure", "LSN", "")
    shown = {(e.site, e.copy_of): e for e in each.exposure}
    for server in each.servers:
        if server.role == "primary":
            lsn = _lsn(server.flushed_lsn) or "—"
            rows.add_row(escape(server.site), "primary", "—", lsn, f"[dim]timeline {server.timeline}[/]")
    for e in sorted(shown.values(), key=lambda one: (one.site, one.copy_of == "bucket")):
        mark = "[bold]decides[/]" if e.judged == "decides" else ""
        why = f"[yellow]{escape(e.why)}[/]" if e.seconds is None else mark
        rows.add_row(escape(e.site), e.copy_of, exposed(e.seconds), _lsn(e.lsn) or "—", why)
    return rows


def _proofs(each: Standing) -> RenderableType:
    from deployments.cli.words import ago, took

    rows = _table("proof", "verdict", "age", "RPO", "RTO", "run")
    for p in each.proofs:
        age = "never" if p.age_seconds is None else ago(p.age_seconds)
        shown = age if p.state == "fresh" else f"[yellow]{age}[/]"
        rows.add_row(
            p.sort, word(p.verdict.value), shown, took(p.rpo_seconds), took(p.rto_seconds), f"[dim]{p.run[:8]}[/]"
        )
    return rows


def _duties(each: Standing, found: Overview) -> RenderableType:
    from deployments.cli.words import ago, short

    kept = {(noted.found.what, noted.found.slot): noted.found.state for noted in each.slipped}
    rows = _table("duty", "now", "last", "next, UTC", "slipped", "on record")
    for duty in each.duties:
        last = "never" if duty.last_at is None else ago((found.at - duty.last_at).total_seconds())
        counted = {kind: sum(s.kind == kind for s in duty.slips) for kind in ("missed", "late")}
        slipped = ", ".join(f"{n} {kind}" for kind, n in counted.items() if n)
        state = "[yellow]due[/]" if duty.state == "due" else "[green]kept[/]"
        recorded = sum(kept.get((duty.what, s.slot), "kept") != "kept" for s in duty.slips)
        rows.add_row(
            duty.what, state, last, short(duty.next_at), f"[bold red]{slipped}[/]" if slipped else "",
            f"{recorded} of {len(duty.slips)}" if duty.slips else "",
        )  # fmt: skip
    return rows


def _drills(found: Overview) -> list[RenderableType]:
    from rich.markup import escape
    from rich.padding import Padding

    from deployments.cli.words import ago, short
    from recovery.drilled import reasons_of_drills

    colours = {"kept": "green", "due": "yellow", "late": "bold red", "unrecorded": "dim"}
    rows = _table("drill", "now", "last", "by", "next, UTC")
    for each in found.drills:
        last = "never" if each.last_at is None else ago((found.at - each.last_at).total_seconds())
        last = "—" if each.state == "unrecorded" else last
        state = f"[{colours[each.state]}]{each.state}[/]"
        rows.add_row(escape(each.drill), state, last, escape(each.last_who) or "—", short(each.next_at))
    parts: list[RenderableType] = ["", rows] if found.drills else []
    return [*parts, *(Padding(part, (0, 0, 0, 2)) for part in _told(reasons_of_drills(found.drills)))]


def _reasons(each: Standing) -> list[RenderableType]:
    return _told(each.reasons)


def _told(reasons: Sequence[Reason]) -> list[RenderableType]:
    from rich.table import Table
    from rich.text import Text

    rows = Table.grid(padding=(0, 2, 0, 0))
    rows.add_column(no_wrap=True)
    rows.add_column(overflow="fold")
    for reason in reasons:
        text = Text.assemble((reason.subject, "bold"), f"  {reason.fact}\n", (f"hint: {reason.hint}", "cyan"))
        rows.add_row(word(reason.outcome), text)
    return [rows] if reasons else []


def _table(*columns: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in columns:
        table.add_column(name, no_wrap=name not in ("", "fact"), justify="right" if name in ("RPO", "RTO") else "left")
    return table
