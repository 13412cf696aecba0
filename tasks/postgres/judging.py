"""The verb `check` of a restore: the scratch server judged while it runs, and once more when it has stopped.

Separate from fetching and recovering because here the copy is only looked at: what the checks judge by is put together
from the plan and the attempt.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from recovery.check import Check
from recovery.choose import Point, Target
from recovery.drive import Move, Seen, Truth
from recovery.errors import Failed, Unproven
from recovery.step import Step
from recovery.wal import Segment, parse
from tasks.kind import Facts, Scene
from tasks.postgres import scratch
from tasks.postgres.checks import commits, table
from tasks.postgres.checks import context as judged
from tasks.postgres.faults.fault import Stage
from tasks.postgres.ground import Ground
from tasks.postgres.scratch import Scratch


@dataclass(frozen=True, kw_only=True, slots=True)
class Judge:
    """Every check of the running copy, recorded once for it. A copy that ended meanwhile was not checked."""

    ground: Ground

    def observe(self, step: Step, scene: Scene) -> Seen:  # noqa: ARG002 -- the port's shape
        """See Verb.observe."""
        if _judged(self.ground.current(scene), scene):
            return Seen(truth=Truth.HOLDS)
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
    try:
        return commits.boundary(
            wal_dir=found.spool,
            bin_dir=found.bin_dir,
            timeline=point.timeline,
            begin_lsn=begin_lsn,
            at=point.target.at,
        )
    except Unproven:
        return None  # the check then says that nothing is known, and the others are made all the same


def _end_of(point: Point, segment_bytes: int) -> int:
    """The end of the last WAL file that was fetched."""
    last = parse(point.segments[-1], segment_bytes)
    return (last.number + 1) * segment_bytes if isinstance(last, Segment) else 0


def _check_target(target: Target) -> judged.Target:
    return judged.Target(kind=target.kind, lsn=target.lsn, at=target.at)
