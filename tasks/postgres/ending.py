"""The ends of a restore's attempts: discarded without trace, or kept whole; never half of one that looks like data.

Separate because they remove: each looks first whether this very run began what it is about to touch.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from recovery.drive import Move, Seen, Truth
from recovery.errors import Refused
from recovery.step import Step
from tasks.kind import Facts, Scene
from tasks.postgres import control, scratch, scratch_conf
from tasks.postgres.ground import Ground
from tasks.postgres.scratch import Scratch


@dataclass(frozen=True, kw_only=True, slots=True)
class Discard:
    """Nothing of this run's attempts is left: no server, no folder."""

    ground: Ground

    def observe(self, step: Step, scene: Scene) -> Seen:
        """See Verb.observe."""
        left = self.ground.all_of(scene)
        if left:
            return Seen(truth=Truth.ABSENT, why=f"{len(left)} attempts are still there")
        if scene.results.get(step.id) is None:
            return Seen(truth=Truth.ABSENT, why="absence is not on record yet")
        return Seen(truth=Truth.HOLDS)

    def perform(self, move: Move, scene: Scene) -> Facts:  # noqa: ARG002 -- the port's shape
        """See Verb.perform."""
        found = self.ground.all_of(scene)
        for folder in found:
            keep_log(folder, self.ground.folder.parent / "log")
            scratch.discard(Scratch(folder=folder, bin_dir=Path(self.ground.member.bin_dir), user="postgres"))
        left: list[JsonValue] = [folder.name for folder in self.ground.all_of(scene)]
        return {"discarded": [folder.name for folder in found], "leftovers": left}


def keep_log(folder: Path, logs: Path) -> None:
    """The server's log outlives its attempt: it is what a person reads when a proof has failed."""
    log = folder / "server.log"
    if log.exists():
        logs.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(log, logs / f"{folder.name}.log")


@dataclass(frozen=True, kw_only=True, slots=True)
class Settle:
    """A restore that is kept: promoted at its target, stopped cleanly, archiving off until a person turns it on."""

    ground: Ground

    def observe(self, step: Step, scene: Scene) -> Seen:
        """See Verb.observe."""
        if scene.results.get(step.id) is not None:
            return Seen(truth=Truth.HOLDS)
        return Seen(truth=Truth.ABSENT, why="the copy is not settled yet")

    def perform(self, move: Move, scene: Scene) -> Facts:
        """See Verb.perform. After a kill in its midst it goes on: an open copy is stopped, a stopped one is done."""
        found = self.ground.current(scene)
        if found.pid() is not None:
            scratch.promote(found, patience_seconds=move.step.patience_seconds / 2)
            scratch.stop(found, patience_seconds=move.step.patience_seconds / 2, cleanly=True)
        if (state := control.read(found.data).state) != "shut down":
            raise Refused(
                f"the copy is {state} and not cleanly shut down",
                hint="its server was killed or crashed: restore again, into a fresh folder",
            )
        kept = {"archive_mode": "off", "listen_addresses": "localhost"}
        (found.data / "postgresql.auto.conf").write_text(scratch_conf.conf_text(kept))
        shutil.rmtree(found.spool, ignore_errors=True)
        return {"data_dir": str(found.data)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Clear:
    """A restore that is kept is whole, or there is nothing of it: half of one looks too much like data."""

    ground: Ground

    def observe(self, step: Step, scene: Scene) -> Seen:
        """See Verb.observe."""
        found = self.ground.current(scene)
        if scene.results.get("settle") is not None or not owned(found, scene):
            return Seen(truth=Truth.HOLDS)
        return Seen(truth=Truth.ABSENT, why=f"{step.id}: half a restore lies in {found.folder}")

    def perform(self, move: Move, scene: Scene) -> Facts:  # noqa: ARG002 -- the port's shape
        """See Verb.perform."""
        found = self.ground.current(scene)
        discard_own(self.ground, found, scene)
        return {"cleared": str(found.folder)}


def discard_own(ground: Ground, found: Scratch, scene: Scene) -> None:
    """Remove an attempt of this run; its log is kept."""
    if owned(found, scene):
        keep_log(found.folder, ground.folder.parent / "log")
        scratch.discard(found)


def owned(found: Scratch, scene: Scene) -> bool:
    """Whether this very run began the folder: what anybody else put there is never touched."""
    try:
        owner = json.loads((found.folder / "owner.json").read_text())
    except (OSError, ValueError):
        return False
    return isinstance(owner, dict) and owner.get("run") == scene.plan.run
