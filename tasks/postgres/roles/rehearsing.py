"""The verbs of a drill and of a restore in a runbook: `restore`, `promote` on scratch, `discard`. All of copies only.

Separate from the live promotion, so that a drill can't come near it. The restore is the proof's own: the same choice of
a point, the same fetch, checks and isolated server; here its folder carries this run's name.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import psycopg
from pydantic import JsonValue

from recovery.check import Check, Outcome
from recovery.drive import Move, Seen, Truth
from recovery.errors import BadInput, Failed, Refused
from recovery.plan import Plan
from recovery.step import Step
from tasks.kind import Facts, Scene, Verb
from tasks.postgres import scratch
from tasks.postgres.place import stands
from tasks.postgres.reading import Deadline, first_line, reading
from tasks.postgres.roles.servers import ask_all, primaries, standbys
from tasks.postgres.scratch import Scratch
from tasks.stage import Stage

KEPT = "restored"
"""Below the home: where a restore that is kept goes, a folder for each attempt."""
SETTLES_SECONDS = 600.0


def on_scratch(step: Step, scene: Scene) -> bool:
    """Whether the step is of a copy."""
    return str(scene.arguments(step).get("scratch", "false")).lower() == "true"


@dataclass(frozen=True, kw_only=True, slots=True)
class Restore:
    """A copy at the site that takes over, recovered and checked: `into: scratch` runs on, isolated, until it is
    discarded; `into: fresh` is promoted, stopped cleanly and kept. `target`: `latest`, or an instant."""

    stage: Stage

    def observe(self, step: Step, scene: Scene) -> Seen:
        """See Verb.observe."""
        done = scene.results.get(step.id)
        if not done:
            return Seen(truth=Truth.ABSENT, why="nothing was restored yet")
        found = self._scratch(step.resource, Path(str(done["folder"])))
        if _kept(step, scene):
            whole = (found.data / "PG_VERSION").exists()
            return Seen(truth=Truth.HOLDS) if whole else Seen(truth=Truth.ABSENT, why=f"{found.folder} is gone")
        if found.pid() is None:
            return Seen(truth=Truth.ABSENT, why="the restored copy runs no more")
        return Seen(truth=Truth.HOLDS)

    def perform(self, move: Move, scene: Scene) -> Facts:
        """See Verb.perform."""
        from tasks import proving
        from tasks.postgres import restoring

        home, name = self.stage.home, move.step.resource
        root = home.folder / KEPT if _kept(move.step, scene) else home.scratch
        for earlier in range(1, move.attempt):
            _remove(self._scratch(name, root / scene.name(move.step, earlier)), home.folder / "log")
        folder = root / scene.name(move.step, move.attempt)
        inner = self._plan(move.step, scene, folder)
        made = restoring.verbs(proving.ground_of(home, name, self.stage.target))
        results: dict[str, Facts] = {}
        for part in ("fetch", "verify", "recover", "check"):
            scene.say(part, None)
            results[part] = _do(made[part], inner, part, results, scene)
        facts: Facts = {
            "folder": str(folder),
            "point": inner.pinned["point"],
            "lsn": results["recover"]["lsn"],
            "committed_at": results["recover"]["committed_at"],
            "isolated": results["recover"]["isolated"],
            "checks": [*_list(results["verify"]["checks"]), *_list(results["check"]["checks"])],
        }
        if _kept(move.step, scene):
            facts |= _do(made["settle"], inner, "settle", results, scene)
        return facts

    def _plan(self, step: Step, scene: Scene, folder: Path) -> Plan:
        """The proof that this restore is, in a folder of this run's name. Raises NoPoint."""
        from tasks import proving

        target = str(scene.arguments(step).get("target") or "latest")
        wanted = proving.Wanted(resource=step.resource, sort="latest", site=self.stage.target)
        if target != "latest":
            try:
                at = datetime.fromisoformat(target).astimezone(UTC)
            except ValueError:
                raise BadInput(f"{target!r} is no moment", hint="make a new plan with --target") from None
            wanted = replace(wanted, sort="time", at=at)
        made = proving.plan_proof(self.stage.home, wanted)
        kept = _kept(step, scene)
        settle = Step(id="settle", verb="settle", resource=step.resource, patience_seconds=SETTLES_SECONDS)
        return made.but(
            purpose="restore" if kept else made.purpose,
            arguments={**made.arguments, "into": str(folder)},
            steps=(*made.steps, settle),
        )

    def _scratch(self, resource: str, folder: Path) -> Scratch:
        member = next(iter(dict(self.stage.members(resource, self.stage.target)).values()))
        user = psycopg.conninfo.conninfo_to_dict(member.dsn).get("user") or "postgres"
        return Scratch(folder=folder, bin_dir=Path(member.bin_dir), user=str(user))


@dataclass(frozen=True, kw_only=True, slots=True)
class PromoteCopy:
    """The copy opens for writing, and the live standby still follows."""

    stage: Stage

    def observe(self, step: Step, scene: Scene) -> Seen:
        """See Verb.observe."""
        if step.id not in scene.results:
            return Seen(truth=Truth.ABSENT, why="the copy was not promoted yet")
        found = self._copy(step, scene)
        if found.pid() is None:
            return Seen(truth=Truth.ABSENT, why="the copy runs no more")
        with reading(found.dsn(), Deadline(2)) as connection:
            opened = not stands(connection).in_recovery
        return Seen(truth=Truth.HOLDS) if opened else Seen(truth=Truth.ABSENT, why="the copy is in recovery")

    def perform(self, move: Move, scene: Scene) -> Facts:
        """See Verb.perform."""
        restored = self._restored(move.step, scene)
        found = self._copy(move.step, scene)
        before = self._following(move.step.resource)
        try:
            with reading(found.dsn(), Deadline(10)) as connection:
                in_recovery = stands(connection).in_recovery
            if in_recovery:
                scratch.promote(found, patience_seconds=move.step.patience_seconds)
            with psycopg.connect(found.dsn(), autocommit=True, connect_timeout=5) as connection:
                connection.execute("create temporary table standfast_drill as select 1 as written")
                place = stands(connection)
        except psycopg.Error as error:
            raise Failed(f"the copy does not open for writing: {first_line(error)}", hint=f"see {found.log}") from None
        after = self._following(move.step.resource)
        return {
            "scratch": True,
            "timeline": place.timeline,
            "system_id": place.system_id,
            "recovered_until": restored.get("committed_at"),
            "checks": [
                _check("opens-for-writing", Outcome.PASSED, f"the copy writes on timeline {place.timeline}"),
                _check(
                    "live-standby-follows", Outcome.PASSED if after == before else Outcome.FAILED,
                    f"before: {before}; after: {after}",
                ),
            ],
        }  # fmt: skip

    def _restored(self, step: Step, scene: Scene) -> Facts:
        restores = [
            each.id for each in scene.plan.steps if each.verb == "restore" and each.resource == step.resource
        ]  # fmt: skip
        done = next((scene.results[each] for each in restores if each in scene.results), None)
        if done is None:
            raise Refused("no copy was restored by this run", hint="let the step need a `restore` before it")
        return done

    def _copy(self, step: Step, scene: Scene) -> Scratch:
        done = self._restored(step, scene)
        member = next(iter(dict(self.stage.members(step.resource, self.stage.target)).values()))
        user = psycopg.conninfo.conninfo_to_dict(member.dsn).get("user") or "postgres"
        return Scratch(folder=Path(str(done["folder"])), bin_dir=Path(member.bin_dir), user=str(user))

    def _following(self, resource: str) -> str:
        """The roles of the live servers, in words: the same before and after."""
        said = ask_all(self.stage.resource(resource).members.items())
        roles = {each.member: "primary" for each in primaries(said)} | {
            each.member: "standby" for each in standbys(said)
        }
        return ", ".join(f"{name} {roles.get(name, 'silent')}" for name in said)


@dataclass(frozen=True, kw_only=True, slots=True)
class Discard:
    """Nothing of this run's scratch is left: no server, no folder. What it restored for keeps stays."""

    stage: Stage

    def observe(self, step: Step, scene: Scene) -> Seen:
        """See Verb.observe."""
        left = self._left(step, scene)
        if left:
            return Seen(truth=Truth.ABSENT, why=f"{len(left)} attempts are still there")
        if step.id not in scene.results:
            return Seen(truth=Truth.ABSENT, why="absence is not on record yet")
        return Seen(truth=Truth.HOLDS)

    def perform(self, move: Move, scene: Scene) -> Facts:
        """See Verb.perform."""
        found = self._left(move.step, scene)
        for folder in found:
            _remove(Scratch(folder=folder, bin_dir=Path(), user="postgres"), self.stage.home.folder / "log")
        left: list[JsonValue] = [each.name for each in self._left(move.step, scene)]
        return {"discarded": [each.name for each in found], "leftovers": left}

    def _left(self, step: Step, scene: Scene) -> tuple[Path, ...]:
        pattern = f"{step.resource}-{scene.plan.purpose}-{scene.plan.digest[:8]}-*"
        return tuple(sorted(self.stage.home.scratch.glob(pattern)))


def _do(verb: Verb, inner: Plan, part: str, results: dict[str, Facts], scene: Scene) -> Facts:
    """One part of the restore, in its own plan's scene."""
    say: Callable[[str, float | None], None] = lambda text, share: scene.say(f"{part}: {text}", share)  # noqa: E731
    inside = Scene(plan=inner, results=dict(results), attempts={"fetch": 1}, now=scene.now, say=say)
    return verb.perform(Move(step=inner.step(part), attempt=1), inside)


def _remove(found: Scratch, logs: Path) -> None:
    from tasks.postgres.ending import keep_log

    if found.folder.exists():
        keep_log(found.folder, logs)
        scratch.discard(found)
        shutil.rmtree(found.folder, ignore_errors=True)


def _kept(step: Step, scene: Scene) -> bool:
    return scene.arguments(step).get("into") == "fresh"


def _list(checks: JsonValue) -> list[JsonValue]:
    return checks if isinstance(checks, list) else []


def _check(name: str, outcome: Outcome, fact: str) -> JsonValue:
    return Check(name=name, outcome=outcome, fact=fact).model_dump(mode="json")
