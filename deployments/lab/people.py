"""The lab's people: keys of persons who may approve, and the engine's, made once in HOME/keys.

Separate because the catalog names their fingerprints before anything of the lab runs, and the ledger takes their public
keys after it does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from deployments.lab.world import World
from recovery.approval import FORM
from tasks import keys

NAMES: Final = ("ann", "bob", "eve")


def make(home: Path) -> None:
    """Make the keys that miss. What is there stays, also when it was rotated."""
    folder = home / "keys"
    for name in (keys.ENGINE, *NAMES, FORM):
        if not (folder / f"{name}.ed25519").exists() and not (folder / f"{name}.pub").exists():
            keys.make(folder, name, "engine" if name == keys.ENGINE else "approver")


def approvers(world: World) -> dict[str, str]:
    """Who may approve in this lab: name → fingerprint of the present key. Makes the keys that miss."""
    make(world.home)
    return {card.name: card.fingerprint for card in _cards(world) if card.name in NAMES and not card.retired}


def listed(world: World) -> dict[str, str]:
    """Whom the lab's catalog lists as approvers: its people, and the form of the Prefect UI, which is none."""
    people = approvers(world)
    return {
        **people,
        **{card.name: card.fingerprint for card in _cards(world) if card.name == FORM and not card.retired},
    }


def publish(world: World) -> None:
    """Put the public keys into the ledger, so that other machines can check what they signed. Once for each key."""
    from tasks.endorsements import publish as into
    from tasks.home import open_home

    done = world.lab / "published"
    already = done.read_text().split() if done.exists() else []
    pems = keys.public_pems(world.home / "keys")
    fresh = {mark: pem for mark, pem in pems.items() if mark not in already}
    if fresh:
        ledger = open_home(world.home).ledger()
        for pem in fresh.values():
            into(ledger, pem)
        done.write_text("".join(f"{mark}\n" for mark in pems))


def _cards(world: World) -> tuple[keys.KeyCard, ...]:
    return keys.cards(world.home / "keys")
