"""The verbs of a restore up to a server that has recovered: fetch, verify, recover; and the table of all of them.

Each attempt has a fresh folder with its owner and expiry written first; `fetched` is its commit marker. A folder in
which a server was started and is gone is spent: the fetch no longer holds, and a new attempt begins.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from recovery.check import Check, Outcome
from recovery.choose import Point
from recovery.drive import Move, Seen, Truth
from recovery.errors import BadInput, Failed, Refused
from recovery.point import Backup
from recovery.step import Step
from recovery.value import rfc3339
from tasks.kind import Facts, Scene, Verb
from tasks.postgres import scratch, scratch_conf
from tasks.postgres.checks import table
from tasks.postgres.ending import Clear, Discard, Settle, discard_own
from tasks.postgres.engines.port import Engine, Restored
from tasks.postgres.ground import Ground
from tasks.postgres.judging import Judge, context_of
from tasks.postgres.scratch import Scratch


@dataclass(frozen=True, kw_only=True, slots=True)
class Fetch:
    """Data and WAL into a fresh folder, in parallel. Holds while the folder is whole and not spent."""

    ground: Ground

    def observe(self, step: Step, scene: Scene) -> Seen:
        """See Verb.observe."""
        found = self.ground.current(scene)
        if not (found.folder / "fetched").exists():
            return Seen(truth=Truth.ABSENT, why=f"{step.id}: no whole copy yet")
        if found.spent and not self.ground.closed(scene):
            return Seen(truth=Truth.ABSENT, why="the scratch server is gone, so its folder is spent")
        return Seen(truth=Truth.HOLDS)

    def perform(self, move: Move, scene: Scene) -> Facts:
        """See Verb.perform."""
        found = self.ground.scratch_of(scene, move.attempt)
        for earlier in range(1, move.attempt):
            discard_own(self.ground, self.ground.scratch_of(scene, earlier), scene)
        self._begin(found, scene)
        point, chain = self.ground.point(scene), self.ground.backups(scene)
        fetched = self._fetch(found, point, chain, scene)
        scratch_conf.configure(found, point.target, point.timeline, durable=scene.plan.purpose == "restore")
        (found.folder / "fetched").write_text(json.dumps(fetched))
        return fetched

    def _fetch(self, found: Scratch, point: Point, chain: tuple[Backup, ...], scene: Scene) -> Facts:
        ground = self.ground
        names = [*point.segments, *(f"{timeline:08X}.history" for timeline in point.histories)]
        with ThreadPoolExecutor(1) as beside:
            fetching = beside.submit(ground.keeper().fetch_wal, point.system_id, names, found.spool)
            try:
                restored = _data(ground, chain, found.data, scene)
            except Failed as trouble:
                raise _diagnosed(ground.source(scene), chain, trouble) from None
            fetching.result()
        return {
            "size_bytes": restored.size_bytes,
            "data_seconds": restored.seconds,
            "full_bytes": chain[0].size_bytes,
            "incremental_bytes": sum(each.size_bytes for each in chain[1:]),
            "wal_files": len(names),
            "folder": found.folder.name,
            "engine": ground.keeper().version(),
        }

    def _begin(self, found: Scratch, scene: Scene) -> None:
        if found.folder.exists() and any(found.folder.iterdir()):
            raise BadInput(
                f"{found.folder} is not empty; a restore never overwrites anything",
                hint="name a new or an empty folder with --to",
            )
        found.folder.mkdir(parents=True, exist_ok=True)
        owner = {
            "run": scene.plan.run,
            "resource": scene.plan.arguments["resource"],
            "purpose": scene.plan.purpose,
            "begun_at": rfc3339(scene.now()),
            "expires_at": rfc3339(scene.now() + timedelta(seconds=self.ground.policy.scratch_keep.total_seconds())),
        }
        try:
            with (found.folder / "owner.json").open("x") as file:  # whoever else looked at the same moment made none
                file.write(json.dumps(owner))
        except FileExistsError:
            raise BadInput(
                f"another restore into {found.folder} has just begun", hint="name another folder with --to"
            ) from None
        found.spool.mkdir()


def _diagnosed(source: Engine, chain: tuple[Backup, ...], trouble: Failed) -> Failed:
    """A restore that broke says which object of which backup is not what its marker says, when that is why."""
    for backup in chain:
        check = source.stored(backup)
        if check.outcome is Outcome.FAILED:
            return Failed(f"{check.findings[0].fact} ({trouble.fact})", hint=check.findings[0].hint)
    return trouble


def _data(ground: Ground, chain: tuple[Backup, ...], into: Path, scene: Scene) -> Restored:
    def progress(done: int, total: int) -> None:
        scene.say("data", done / total if total else None)

    return ground.source(scene).fetch_data(chain, into, progress)


@dataclass(frozen=True, kw_only=True, slots=True)
class Verify:
    """The checks of the restored files, before any server touches them."""

    ground: Ground

    def observe(self, step: Step, scene: Scene) -> Seen:
        """Once recorded it holds; a spent folder makes the fetch lapse, and then this is asked again after it."""
        done = scene.results.get(step.id)
        if done and done.get("folder") == self.ground.current(scene).folder.name:
            return Seen(truth=Truth.HOLDS)
        return Seen(truth=Truth.ABSENT, why="the files were not verified yet")

    def perform(self, move: Move, scene: Scene) -> Facts:  # noqa: ARG002 -- the port's shape
        """See Verb.perform."""
        found = self.ground.current(scene)
        source = self.ground.source(scene)
        made = [source.stored(backup) for backup in self.ground.backups(scene)[-1:]]
        made += table.before_start(context_of(self.ground, found, scene, isolated=False))
        made = [_honest(check, source) for check in made]
        return {"folder": found.folder.name, "checks": [check.model_dump(mode="json") for check in made]}


def _honest(check: Check, source: Engine) -> Check:
    """What an engine leaves no manifest for stays visibly unproven; then the pages decide, and are all read."""
    why = source.without_manifest()
    if check.name != "manifest" or why is None or check.outcome is not Outcome.UNPROVEN:
        return check
    return check.model_copy(update={"fact": why, "applies": False})


@dataclass(frozen=True, kw_only=True, slots=True)
class Recover:
    """A server on the folder, paused exactly at the target."""

    ground: Ground

    def observe(self, step: Step, scene: Scene) -> Seen:  # noqa: ARG002 -- the port's shape
        """See Verb.observe."""
        found = self.ground.current(scene)
        done = scene.results.get("recover")
        stands = found.pid() is not None or self.ground.closed(scene)
        if stands and done and done.get("folder") == found.folder.name:
            return Seen(truth=Truth.HOLDS)
        return Seen(truth=Truth.ABSENT, why="no server stands at the target")

    def perform(self, move: Move, scene: Scene) -> Facts:
        """See Verb.perform."""
        found = self.ground.current(scene)
        _refuse_unsound(scene)
        isolated = scratch.start(found)
        reached = scratch.await_target(found, patience_seconds=move.step.patience_seconds, say=scene.say)
        return {
            "folder": found.folder.name,
            "lsn": reached.lsn,
            "committed_at": rfc3339(reached.committed_at) if reached.committed_at else None,
            "isolated": isolated,
            "replay_seconds": reached.seconds,
        }


def _refuse_unsound(scene: Scene) -> None:
    verified = scene.results.get("verify") or {}
    made = verified.get("checks")
    wrong = [Check.model_validate(each) for each in made if isinstance(each, dict)] if isinstance(made, list) else []
    wrong = [check for check in wrong if check.outcome is Outcome.FAILED]
    if wrong:
        raise Refused(
            f"the restored files are not sound ({wrong[0].name}): {wrong[0].fact}",
            hint=wrong[0].findings[0].hint if wrong[0].findings else "choose another backup",
        )


def verbs(ground: Ground) -> dict[str, Verb]:
    """The verbs of restoring, by name."""
    return {
        "fetch": Fetch(ground=ground),
        "verify": Verify(ground=ground),
        "recover": Recover(ground=ground),
        "check": Judge(ground=ground),
        "discard": Discard(ground=ground),
        "settle": Settle(ground=ground),
        "clear": Clear(ground=ground),
    }
