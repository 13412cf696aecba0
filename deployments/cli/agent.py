"""`dr agent run` and `dr agent status`: the resident process on a database's machine, and how it is.

Separate because it is the only command that does not end by itself.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.cli.output import JsonOption, emit
from recovery.errors import BadInput, Failed

if TYPE_CHECKING:
    from rich.table import Table

app = typer.Typer(no_args_is_help=True, help="The resident process on a database's machine.")

ConfigOption = Annotated[Path, typer.Option("--config", metavar="FILE", help="The agent's configuration (JSON).")]


@app.command()
def run(config: ConfigOption, as_json: JsonOption = False) -> None:
    """Archive and ship WAL, beat, answer, obey signed orders; supervised, until SIGTERM."""
    from tasks.postgres.agent import load
    from tasks.postgres.supervise import supervise

    load(config)
    code = supervise(config.absolute())
    emit(as_json, {"outcome": "ended", "code": code}, lambda: None)
    if code:
        raise typer.Exit(code)


@app.command()
def status(config: ConfigOption, as_json: JsonOption = False) -> None:
    """What the agent says of itself. Exit 1 when it can't be asked or an alert stands."""
    from tasks.postgres.agent import load

    told = load(config)
    said = _ask(f"http://{told.address}:{told.port}/status")
    emit(as_json, said, lambda: _drawn(said))
    if said.get("alerts"):
        raise typer.Exit(1)


def _ask(url: str) -> dict[str, Any]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 -- http only, made above
            said = json.load(answer)
    except (urllib.error.URLError, TimeoutError, ValueError) as error:
        raise Failed(
            f"the agent does not answer at {url} ({getattr(error, 'reason', error)})",
            hint="start it: dr agent run --config FILE, and see its log",
        ) from None
    if not isinstance(said, dict):
        raise BadInput(f"{url} is not an agent", hint="check address and port in the configuration")
    return said


def _drawn(said: dict[str, Any]) -> Table:
    from rich.table import Table

    table = Table(show_header=False, box=None)
    archived = said.get("archived") or {}
    table.add_row("role", f"{said['role']} on timeline {said['timeline']}")
    table.add_row("archived", f"{archived.get('segment', 'nothing yet')} {archived.get('at', '')}")
    for site, there in said["shipped"].items():
        table.add_row(f"shipped to {site}", f"{there['segment'] or 'nothing yet'}, {there['waiting']} waiting")
    table.add_row("waiting in pg_wal", str(said["ready_count"]))
    if leash := said.get("leash"):
        table.add_row("leash", f"{leash.get('state', 'does not answer')}: {leash.get('why', '')}")
    if term := said.get("term"):
        table.add_row("term", f"{term['primary']} is the primary since generation {term['generation']}")
    for alert in said["alerts"]:
        table.add_row("alert", f"{alert['fact']}\nhint: {alert['hint']}")
    return table
