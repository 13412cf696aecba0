"""`dr run sync`: runs that were driven without Prefect are brought into it, each once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.cli.output import HomeOption, JsonOption, emit, existing_home, word

if TYPE_CHECKING:
    from recovery.evidence import Record
    from recovery.plan import Plan
    from tasks.home import Home

MOST_RUNS = 50


def sync(
    run: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="Default: every ended change that Prefect did not drive.")
    ] = None,
    api_url: Annotated[
        str | None, typer.Option("--api-url", metavar="URL", help="Of the Prefect server; default: PREFECT_API_URL.")
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring an ended run into Prefect, once: a flow run with task runs, log, events, timeline and result.

    The evidence stays in the ledger, which is the truth; this is for those who look at the UI. Twice is as once.
    """
    from deployments import syncing
    from tasks.home import open_home

    opened = open_home(existing_home(home))
    chosen = [_named(opened, run)] if run is not None else _all(opened)
    server = syncing.api(api_url) if chosen or run is not None else None
    made = [
        syncing.bring(server, plan, records, place=opened.ledger().place)
        for plan, records in chosen
        if server is not None
    ]
    rows = [_row(each) for each in made]
    outcome = "changed" if any(each["outcome"] == "changed" for each in rows) else "already"
    why = "" if rows else "no ended change was driven without Prefect"
    emit(
        as_json,
        {"outcome": outcome, "runs": rows, "why": why},
        lambda: "\n".join(map(_line, rows)) or f"already: {why}",
    )


def _row(made: Any) -> dict[str, Any]:
    return {
        name: getattr(made, name) for name in ("run", "outcome", "flow_run", "url", "task_runs", "log_lines", "events")
    }


def _line(row: dict[str, Any]) -> str:
    if row["outcome"] == "already":
        return f"{word('already')}: run {row['run'][:12]} is in Prefect as {row['flow_run']}\n  {row['url']}"
    return (
        f"{word('changed')}: run {row['run'][:12]} is now flow run {row['flow_run']}: {row['task_runs']} task runs, "
        f"{row['log_lines']} lines, {row['events']} events\n  {row['url']}"
    )


def _named(home: Home, named: str) -> tuple[Plan, tuple[Record, ...]]:
    """The run, which has to have ended: what goes on is not brought, or its end would never be seen."""
    from recovery.errors import Refused
    from recovery.journal import outcome
    from tasks import orders_of_people as people
    from tasks.journal import read_records

    plan = people.run_of(home, named)
    records = read_records(home.ledger(), plan.run)
    if outcome(records) is None:
        raise Refused(
            f"run {plan.run[:12]} has not ended: Prefect would show it as it stands now, and never its end",
            hint=f"end it first: dr resume {plan.run[:12]}, or dr run cancel {plan.run[:12]}",
        )
    return plan, records


def _all(home: Home) -> list[tuple[Plan, tuple[Record, ...]]]:
    """Ended changes of roles that no Prefect drove, of the newest runs."""
    from deployments.imported import doors
    from recovery.journal import outcome
    from tasks.engine import read_plan
    from tasks.evidence import run_names
    from tasks.journal import read_records

    found = []
    for run in run_names(home.ledger()):
        records = read_records(home.ledger(), run)
        if records and outcome(records) is not None and set(doors(records)) & {"dr", "glass"}:
            found.append((read_plan(home.ledger(), run), records))
    return sorted(found, key=lambda each: each[1][0].begin)[-MOST_RUNS:]
