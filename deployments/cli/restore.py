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
    timeline: TimelineOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Restore to a moment, or to the latest one, into DIR: promoted there, stopped cleanly, archiving off."""
    from deployments.cli.instants import instant
    from deployments.cli.progress import watching
    from deployments.cli.words import forecast_words
    from tasks import proving
    from tasks.engine import Act
    from tasks.home import open_home

    opened = open_home(existing_home(home))
    at = instant(as_of, now=opened.now()) if as_of is not None else None
    with watching(f"restore {resource} into {to}") as tell:
        act = Act(home=opened, tell=tell)
        proving.discard_unfinished_restore(act, resource)
        plan = proving.plan_restore(opened, resource, at, to, timeline)
        done = proving.restore(act, plan)
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
