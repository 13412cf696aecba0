"""`dr plan`: look, decide, and store the plan; nothing live is touched. Shows what whoever consents has to know."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.cli.output import HomeOption, JsonOption, emit, existing_home

if TYPE_CHECKING:
    from recovery.failover import Proposal
    from tasks.home import Home

ServiceOption = Annotated[str | None, typer.Option("--service", help="Default: the catalog's only service.")]
ToOption = Annotated[str | None, typer.Option("--to", metavar="SITE", help="Default: where the runbook goes.")]
SinceOption = Annotated[
    str | None, typer.Option("--outage-since", metavar="T", help="When the outage began, where no probe saw it.")
]


def plan(
    runbook: Annotated[
        str, typer.Argument(metavar="RUNBOOK", help="failover, switchover, failback, drill, restore, rehearse-dns, …")
    ],
    to: ToOption = None,
    service: ServiceOption = None,
    max_loss: Annotated[
        str | None,
        typer.Option("--max-loss", metavar="TIME", help="Refuse above this loss, like '30 s'; default: RPO."),
    ] = None,
    target: Annotated[
        str | None, typer.Option("--target", metavar="T", help="A restore's moment: an instant, '15 min ago', latest.")
    ] = None,
    outage_since: SinceOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a plan and show its steps, hazards, forecast and digest. Changes nothing live; people approve the digest."""
    from deployments.cli.planned import document, drawn
    from recovery.plan import NothingToDo
    from tasks import changing
    from tasks.home import open_home

    opened = open_home(existing_home(home))
    since = _since(outage_since, opened)
    made = changing.plan(opened, runbook, service=service, to=to, max_loss=max_loss, target=target)
    if isinstance(made, NothingToDo):
        why = made.why
        emit(as_json, {"outcome": "already", "why": why}, lambda: f"nothing to do: {why}")
        return
    shown = document(made.plan, made.document(), opened.catalog.consent, since=since)
    emit(as_json, shown, lambda: drawn(shown))


def _since(text: str | None, home: Home) -> str | None:
    """The instant in words that `dr act` takes again. Raises BadInput."""
    from deployments.cli.instants import past
    from recovery.value import rfc3339

    return None if text is None else rfc3339(past(text, now=home.now(), what="the beginning of an outage"))


def proposal_of(home: Home, made: Proposal) -> dict[str, Any]:
    """A proposal's document, for other commands that make plans."""
    from deployments.cli.planned import document

    return document(made.plan, made.document(), home.catalog.consent)
