"""A failover that is made up: the example catalog, a world that is always seen the same, verbs that only write down
that they were performed. The plan, the consent, the lease, the ledger and the loop around it are real."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from unittest.mock import patch

from recovery.approval import FORM
from recovery.catalog import LedgerPlace
from recovery.doors import Approver, Consent
from recovery.drive import Move, Seen, Truth
from recovery.observation import Observation
from recovery.step import Step
from recovery.value import rfc3339
from tasks import keys
from tasks.home import Home, clock
from tasks.kind import Facts, Scene
from tests.thought.failover_scene import catalog, seen

DEADLY, HELD = "promote", "fence"
"""The step in which an engine dies while HOME/deadly is there; the one that waits while HOME/held is there."""
PATIENCE_SECONDS = 60.0


def changing_home(folder: Path, *, n_of_m: int = 1, form: bool = True) -> Home:
    """A home with a directory as its ledger, and keys of the engine, of ann, bob and mallory (whom nobody lists) and of
    the form."""
    for name in ("ann", "bob", "mallory", FORM, "engine"):
        if not (folder / "keys" / f"{name}.pub").exists():
            keys.make(folder / "keys", name, "engine" if name == "engine" else "approver")
    prints = {each.name: each.fingerprint for each in keys.cards(folder / "keys")}
    listed = ("ann", "bob", *((FORM,) if form else ()))
    consent = Consent(approvers={name: Approver(key=prints[name]) for name in listed}, n_of_m=n_of_m)
    changes = {"ledger": LedgerPlace(home="directory:ledger"), "consent": consent}
    return Home(folder=folder, catalog=catalog().model_copy(update=changes))


def performed(folder: Path) -> list[str]:
    """The steps that were performed, in order, in whatever process."""
    file = folder / "performed"
    return file.read_text().split() if file.exists() else []


class Verb:
    """Holds once it was performed: its effect is a line in a file, which is there also where its record is not."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def observe(self, step: Step, scene: Scene) -> Seen:
        """As recorded, or as the world shows: a step beside the one that an engine dies in has come about, too."""
        return Seen(
            truth=Truth.HOLDS if step.id in scene.results or step.id in performed(self.folder) else Truth.ABSENT
        )

    def perform(self, move: Move, scene: Scene) -> Facts:
        """Write it down, once it may; or die."""
        until = time.monotonic() + PATIENCE_SECONDS
        while move.step.id == HELD and (self.folder / "held").exists() and time.monotonic() < until:
            (self.folder / "waits").touch()
            time.sleep(0.05)
        if move.step.id == DEADLY and (self.folder / "deadly").exists():
            (self.folder / "deadly").unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        with (self.folder / "performed").open("a") as file:
            file.write(f"{move.step.id}\n")
        before = rfc3339(scene.plan.asked_at - timedelta(seconds=5))
        match move.step.verb:
            case "declare":
                return {"failing_since": before}
            case "promote":
                return {"timeline": 2, "system_id": "7", "lsn": 100, "recovered_until": before}
        return {}


class Verbs(dict[str, Verb]):
    """The same verb for every word."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def __missing__(self, word: str) -> Verb:
        return Verb(self.folder)


@contextmanager
def made_up(folder: Path) -> Iterator[None]:
    """While the block runs, the world is made up. A dead engine's lease lapses after seconds."""

    def looked(home: Home, service: str, *, target: str | None = None, run: str = "") -> Observation:
        return seen().but(at=clock())

    rooms = ("changing", "acting", "form")
    with (
        patch("tasks.engine.LEASE_SECONDS", 3.0),
        patch("tasks.engine.CLOCK_BOUND", timedelta(seconds=0.1)),
        patch("tasks.kinds.verbs", lambda stage: Verbs(folder)),
        patch("tasks.kinds.undo", lambda *_: {}),
        patch(f"tasks.{rooms[0]}.observe", looked),
        patch(f"tasks.{rooms[1]}.observe", looked),
        patch(f"tasks.{rooms[2]}.observe", looked),
    ):
        yield
