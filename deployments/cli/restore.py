"""`dr restore`: restore a resource to a moment, into a folder of its own. It never goes over its source."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deployments.cli.output import HomeOption, JsonOption, TimelineOption, emit, existing_home


def restore(
    resource: Annotated[str, typer.Argument(metavar="RESOURCE")],
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="A new or an empty folder.")],
    as_of: Annotated[
        str | None, typer.Option("--as-of", metavar="T", help="A moment, with its zone; default: latest.")
    ] = None,
    backup: Annotated[
        str | None, typer.Option("--backup", metavar="BACKUP", help="That backup to its own end, however old.")
    ] = None,
    timeline: TimelineOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Restore to a moment, to the latest one, or a backup to its own end, into DIR: promoted there, stopped cleanly,
    archiving off."""
    from deployments.cli.instants import instant
    from deployments.cli.progress import watching
    from deployments.cli.words import forecast_words
    from recovery.errors import BadInput
    from tasks import restores
    from tasks.engine import Act
    from tasks.home import open_home

    if backup is not None and (as_of is not None or timeline is not None):
        raise BadInput(
            "a backup's own end is one moment on one timeline", hint="leave out --as-of and --timeline, or --backup"
        )
    opened = open_home(existing_home(home))
    at = instant(as_of, now=opened.now()) if as_of is not None else None
    with watching(f"restore {resource} into {to}") as tell:
        act = Act(home=opened, tell=tell)
        restores.discard_unfinished_restore(act, resource)
        plan = restores.plan_restore(opened, resource, at, to, timeline, backup=backup)
        done = restores.restore(act, plan)
    point = plan.pinned["point"]
    data = to.absolute() / "data"
    emit(
        as_json,
        {"outcome": "changed", "data_dir": str(data), "point": point, **done},
        lambda: (
            f"restored into {data} in {done['rto_seconds']:.1f} s ({forecast_words(point)}); "
            f"start it with: pg_ctl -D '{data}' start"
        ),
    )
