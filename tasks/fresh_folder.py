"""Whether a folder may take a restore: new or empty, and never a server's own.

Separate because it is asked before anything is looked at, so that bad input costs nobody anything.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from recovery.catalog import PostgresResource
from recovery.errors import BadInput


def refuse_taken(resource: PostgresResource, into: Path) -> None:
    """Raises BadInput unless `into` is an empty folder, or can be made, outside of every server's own."""
    for site, member in resource.members.items():
        own = Path(member.data_dir).absolute()
        if own == into or own in into.parents or into in own.parents:
            raise BadInput(
                f"{into} is the data directory of the server at {site}; a restore never goes over its source",
                hint="name another folder with --to",
            )
    made: list[Path] = []
    try:
        if into.exists() and (not into.is_dir() or any(into.iterdir())):
            raise BadInput(f"{into} is not an empty folder", hint="name a new or an empty folder with --to")
        for each in reversed([folder for folder in (into, *into.parents) if not folder.exists()]):
            each.mkdir()
            made.append(each)
    except OSError as error:
        why = os.strerror(error.errno or 0).lower()
        raise BadInput(f"{into} cannot be made: {why}", hint="name a folder with --to that you may write to") from None
    finally:
        for each in reversed(made):
            with suppress(OSError):  # somebody else uses it by now
                each.rmdir()
