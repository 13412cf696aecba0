"""`dr keys`: make, list and rotate the engine's, the approvers' and the backups' keys of a home."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deployments.cli.output import HomeOption, JsonOption, aside, emit, home

if TYPE_CHECKING:
    from rich.table import Table

    from tasks.keys import KeyCard
    from tasks.ledger import Ledger

app = typer.Typer(no_args_is_help=True, help="Make, list and rotate keys.")


class Role(StrEnum):
    """What a key is for."""

    APPROVER = "approver"
    ENGINE = "engine"
    BACKUP = "backup"


NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Of the person, of the engine, of the backup key.")]


@app.command()
def make(
    name: NameArgument,
    *,
    role: Annotated[Role, typer.Option("--role", help="What the key is for.")] = Role.APPROVER,
    home_: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key in the home, and put its public half into the ledger."""
    from tasks import keys

    folder = home(home_) / "keys"
    card = keys.make(folder, name, role.value)
    published = "not needed" if card.role == "backup" else _publish_if_reachable(home_, folder, name)
    _show(as_json, (card,), published)


@app.command("list")
def list_(*, home_: HomeOption = None, as_json: JsonOption = False) -> None:
    """All keys of the home, present and past. Nothing secret is shown."""
    from tasks import keys

    _show(as_json, keys.cards(home(home_) / "keys"))


@app.command()
def rotate(name: NameArgument, *, home_: HomeOption = None, as_json: JsonOption = False) -> None:
    """Make the key that follows. What the old one signed stays verifiable, what it encrypted stays readable."""
    from tasks import keys
    from tasks.endorsements import Endorsement, endorse, publish
    from tasks.leases import wall_clock

    folder = home(home_) / "keys"
    ledger = _ledger(home_, folder)
    card, before = keys.rotate(folder, name)
    if before is not None:
        publish(ledger, before.public_pem)
        _publish(home_, folder, name)
        said = Endorsement(key=card.fingerprint, name=name, role=card.role, at=wall_clock())
        endorse(ledger, said, before)
    _show(as_json, tuple(each for each in keys.cards(folder) if each.name == name))


def _publish_if_reachable(home_: Path | None, folder: Path, name: str) -> str:
    """A key is made also where the ledger can't be reached: its first signature brings its public half there."""
    from recovery.errors import DrError

    try:
        _publish(home_, folder, name)
    except DrError as trouble:
        aside().print(f"the key is made; its public half is not in the ledger yet: {trouble.fact}", markup=False)
        aside().print(f"hint: whatever it signs first brings it there; {trouble.hint}", markup=False)
        return "not yet"
    return "in the ledger"


def _publish(home_: Path | None, folder: Path, name: str) -> None:
    from tasks import keys
    from tasks.endorsements import publish

    publish(_ledger(home_, folder), keys.signer(folder, name).public_pem)


def _ledger(home_: Path | None, folder: Path) -> Ledger:
    from tasks.home import open_home
    from tasks.ledger_dir import DirectoryLedger

    if (home(home_) / "catalog.yaml").is_file():
        return open_home(home(home_)).ledger()
    return DirectoryLedger(folder.parent / "ledger")


def _show(as_json: bool, cards: tuple[KeyCard, ...], published: str | None = None) -> None:
    def table() -> Table:
        from rich.table import Table

        drawn = Table("name", "role", "fingerprint", "state", "since", box=None, pad_edge=False)
        for card in cards:
            state = "past" if card.retired else "current" if card.private else "public only"
            drawn.add_row(card.name, card.role, card.fingerprint, state, f"{card.changed_at:%Y-%m-%d %H:%M:%S}Z")
        return drawn

    told = {"keys": [card.model_dump(mode="json") for card in cards]}
    emit(as_json, told if published is None else {**told, "public_half": published}, table)
    if not as_json and not cards:
        aside().print("there are no keys yet; make one: dr keys make engine --role engine", markup=False)
