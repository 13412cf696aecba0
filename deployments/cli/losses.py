"""`dr losses`: the commits that a failover gave up, as the old data alone still has them; shown and exported."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.cli.output import HomeOption, JsonOption, aside, emit, existing_home
from recovery.errors import BadInput, Unproven

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tasks.home import Home
    from tasks.postgres.roles.losses import Kept

MOST_SHOWN = 40


def losses(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The failover's run; its first digits are enough.")],
    export: Annotated[
        Path | None, typer.Option("--export", metavar="FILE", help="Write every transaction with its rows, as JSON.")
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the transactions that only the old primary had. Exit 3 while its data was not read yet."""
    from tasks.home import open_home

    opened = open_home(existing_home(home))
    kept = _kept(opened, run)
    told = _document(kept)
    if export is not None:
        _export(export, kept)
        told["file"] = str(export)
    emit(as_json, told, lambda: _drawn(kept))
    if export is not None and not as_json:
        aside().print(f"exported to {export}", markup=False)


def _kept(home: Home, run: str) -> tuple[Kept, ...]:
    from tasks.postgres.roles.losses import read
    from tasks.scoring import resolve

    names = resolve(home.ledger(), run)
    if len(names) > 1:
        raise BadInput(f"{run} is ambiguous: {', '.join(each[:12] for each in names)}", hint="write more of its digits")
    kept = read(home, names[0])
    if not kept:
        raise Unproven(
            f"what run {names[0][:12]} gave up is not listed yet",
            hint="a failback's step `losses` reads it from the old primary's data, before anything is rebuilt: 'dr plan"
            " failback'; lists are kept under the run of the failover ('dr runs'), and a graceful change gives up none",
        )
    return kept


def _document(kept: Sequence[Kept]) -> dict[str, Any]:
    from recovery.losses import USERS

    return {
        "run": kept[0].run,
        "lost_commits": sum(each.losses.count for each in kept),
        "databases": [
            {
                "resource": each.losses.resource,
                "site": each.losses.site,
                "lost_commits": each.losses.count,
                "classes": each.losses.by_class(),
                "rows": sum(len(lost.rows) for lost in each.losses.transactions),
                "timeline": each.losses.timeline,
                "from_lsn": each.losses.from_lsn,
                "to_lsn": each.losses.to_lsn,
                "unread": each.losses.unread,
                "transactions": [
                    lost.model_dump(mode="json") for lost in each.losses.transactions if lost.klass in USERS
                ],
                "evidence": each.key,
                "sha256": each.sha256,
            }
            for each in kept
        ],
    }


def _export(file: Path, kept: Sequence[Kept]) -> None:
    """All of it, also what the system itself wrote; an existing file is never replaced."""
    import json

    whole = [{**each.losses.model_dump(mode="json"), "run": each.run, "sha256": each.sha256} for each in kept]
    try:
        with file.open("x", encoding="utf-8") as made:
            json.dump({"losses": whole}, made, ensure_ascii=False, indent=1)
            made.write("\n")
    except FileExistsError:
        raise BadInput(f"{file} exists already", hint="name a new file: an export is never replaced") from None
    except OSError as error:
        why = (error.strerror or "unknown").lower()
        raise BadInput(f"cannot write {file}: {why}", hint="name a file in a folder that exists") from None


def _drawn(kept: Sequence[Kept]) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from recovery.losses import WAL

    parts: list[RenderableType] = []
    for each in kept:
        listed = each.losses
        classes = ", ".join(f"{count} {klass}" for klass, count in sorted(listed.by_class().items())) or "none"
        lost = f"{listed.count} commit{'s' if listed.count != 1 else ''} lost, only {listed.site} had them"
        none = "no commit of users was lost" if WAL not in listed.unread else "it is not known what was lost"
        title = f"{listed.resource}: {lost if listed.count else none}"
        parts += [Text(title, style="bold"), Text(f"  transactions beyond the promotion: {classes}", style="dim")]
        parts += [_table(each)] if listed.count else []
        parts += [Text(f"  {_lacking(name)}: {why}", "yellow") for name, why in listed.unread.items()]
        parts.append(Text(f"  evidence {each.key}, SHA-256 {each.sha256[:16]}…", style="dim"))
    return Group(*parts)


def _lacking(name: str) -> str:
    from recovery.losses import WAL

    return "more may have been lost" if name == WAL else f"rows of {name} are not in the list"


def _table(kept: Kept) -> RenderableType:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from deployments.cli.words import moment
    from recovery.losses import USERS
    from recovery.point import lsn_text

    mine = [each for each in kept.losses.transactions if each.klass in USERS]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 2), header_style="dim")
    for name in ("committed, UTC", "LSN", "transaction", "what"):
        table.add_column(name, overflow="fold")
    for each in mine[:MOST_SHOWN]:
        changes = (
            f"{' '.join(f'{count} {op}' for op, count in ops.items())} {name}" for name, ops in each.changes.items()
        )
        table.add_row(moment(each.at), lsn_text(each.lsn), str(each.xid), Text(", ".join(changes) or each.klass))
    left = len(mine) - MOST_SHOWN
    more = [Text(f"    … {left} more: see --json or --export FILE", style="dim")] if left > 0 else []
    return Group(table, *more)
