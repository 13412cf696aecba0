"""The verbs of a restore: fetch, verify, recover, check, discard; and settle for a restore that is kept.

Each attempt has a fresh folder with its owner and expiry written first; `fetched` is its commit marker. A folder in
which a server was started and is gone is spent: the fetch no longer holds, and a new attempt begins.
"""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from pydantic import JsonValue

from recovery.check import Check, Outcome
from recovery.choose import Point, Target
from recovery.drive import Move, Seen, Truth
from recovery.errors import BadInput, Failed, Refused
from recovery.point import Backup
from recovery.step import Step
from recovery.value import rfc3339
from recovery.wal import Segment, parse
from tasks.kind import Facts, Scene, Verb
from tasks.postgres import scratch, scratch_conf
from tasks.postgres.checks import commits, table
from tasks.postgres.checks import context as judged
from tasks.postgres.engines.port import Engine, Restored
from tasks.postgres.faults.fault import Stage
from tasks.postgres.ground import Ground
from tasks.postgres.scratch import Scratch

HOLDS = Seen(truth=Truth.HOLDS)


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
        return HOLDS

    def perform(self, move: Move, scene: Scene) -> Facts:
        """See Verb.perform."""
        found = self.ground.scratch_of(scene, move.attempt)
        for earlier in range(1, move.attempt):
            _discard_own(self.ground, self.ground.scratch_of(scene, earlier), scene)
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
        (found.folder / "owner.json").write_text(json.dumps(owner))
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
            return HOLDS
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
            return HOLDS
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Judge:
    """Every check of the running copy, recorded once for it. A copy that ended meanwhile was not checked."""

    ground: Ground

    def observe(self, step: Step, scene: Scene) -> Seen:  # noqa: ARG002 -- the port's shape
        """See Verb.observe."""
        if _judged(self.ground.current(scene), scene):
            return HOLDS
        return Seen(truth=Truth.ABSENT, why="the copy was not checked yet")

    def perform(self, move: Move, scene: Scene) -> Facts:  # noqa: ARG002 -- the port's shape
        """See Verb.perform."""
        found = self.ground.current(scene)
        isolated = bool((scene.results.get("recover") or {}).get("isolated"))
        context = context_of(self.ground, found, scene, isolated=isolated)
        made = list(table.running(context))
        if found.pid() is None:
            raise Failed(
                "the scratch server was gone before it was checked: it was killed from outside, or it crashed",
                hint="look for the kernel's out-of-memory messages (dmesg) and for who ends processes here; "
                f"its log is kept as log/{found.folder.name}.log",
            )
        if context.level is judged.Level.DEEP or self.ground.keeper().without_manifest() is not None:
            made += self._stopped(found, context)
        return {"folder": found.folder.name, "checks": [check.model_dump(mode="json") for check in made]}

    def _stopped(self, found: Scratch, context: judged.CheckContext) -> tuple[Check, ...]:
        """Stop the copy and read every page. If that breaks off, the attempt is spent after all."""
        self.ground.closing.add(found.folder.name)
        try:
            scratch.stop(found, patience_seconds=60, cleanly=True)
            return table.stopped(replace(context, level=judged.Level.DEEP))
        except BaseException:
            self.ground.closing.discard(found.folder.name)
            raise


def _judged(found: Scratch, scene: Scene) -> bool:
    """Whether this very copy was checked: it need not run any more then (the deep level ends it)."""
    done = scene.results.get("check")
    return done is not None and done.get("folder") == found.folder.name


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
        return HOLDS

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
            return HOLDS
        return Seen(truth=Truth.ABSENT, why="the copy is not settled yet")

    def perform(self, move: Move, scene: Scene) -> Facts:
        """See Verb.perform."""
        found = self.ground.current(scene)
        scratch.promote(found, patience_seconds=move.step.patience_seconds / 2)
        scratch.stop(found, patience_seconds=move.step.patience_seconds / 2, cleanly=True)
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
        if scene.results.get("settle") is not None or not _owned(found, scene):
            return HOLDS
        return Seen(truth=Truth.ABSENT, why=f"{step.id}: half a restore lies in {found.folder}")

    def perform(self, move: Move, scene: Scene) -> Facts:  # noqa: ARG002 -- the port's shape
        """See Verb.perform."""
        found = self.ground.current(scene)
        _discard_own(self.ground, found, scene)
        return {"cleared": str(found.folder)}


def _discard_own(ground: Ground, found: Scratch, scene: Scene) -> None:
    """Remove an attempt of this run; its log is kept."""
    if _owned(found, scene):
        keep_log(found.folder, ground.folder.parent / "log")
        scratch.discard(found)


def _owned(found: Scratch, scene: Scene) -> bool:
    """Whether this very run began the folder: what anybody else put there is never touched."""
    try:
        owner = json.loads((found.folder / "owner.json").read_text())
    except (OSError, ValueError):
        return False
    return isinstance(owner, dict) and owner.get("run") == scene.plan.run


def context_of(ground: Ground, found: Scratch, scene: Scene, *, isolated: bool) -> judged.CheckContext:
    """The facts that the checks judge by."""
    point, chain = ground.point(scene), ground.backups(scene)
    key = scene.plan.pinned.get("mark")
    return judged.CheckContext(
        dsn=found.dsn() if found.pid() is not None else "",
        backup=chain[-1],
        target=_check_target(point.target),
        timeline=point.timeline,
        data_dir=found.data,
        bin_dir=found.bin_dir,
        log=found.log,
        mark=ground.read_mark(str(key)) if key else None,
        boundary=_boundary(found, point, chain[-1].begin_lsn),
        assertions=ground.resource.assertions,
        level=judged.Level(str(scene.plan.arguments.get("level", "daily"))),
        network_isolated=isolated,
        promoted=scene.plan.arguments.get("stage") == Stage.SQL.value,
        heartbeat=ground.resource.heartbeat,
        wal_dir=found.spool,
        wal_end=_end_of(point, chain[0].segment_bytes),
        unlisted=("postgresql.auto.conf", "recovery.signal"),
        config=found.folder / "postgresql.conf",
    )


def _boundary(found: Scratch, point: Point, begin_lsn: int) -> judged.Boundary | None:
    if point.target.kind != "time" or point.target.at is None:
        return None
    return commits.boundary(
        wal_dir=found.spool,
        bin_dir=found.bin_dir,
        timeline=point.timeline,
        begin_lsn=begin_lsn,
        at=point.target.at,
    )


def _end_of(point: Point, segment_bytes: int) -> int:
    """The end of the last WAL file that was fetched."""
    last = parse(point.segments[-1], segment_bytes)
    return (last.number + 1) * segment_bytes if isinstance(last, Segment) else 0


def _check_target(target: Target) -> judged.Target:
    return judged.Target(kind=target.kind, lsn=target.lsn, at=target.at)


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
