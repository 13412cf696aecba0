"""The verb `protect`: the new primary is as safe as the old one was.

Its WAL arrives in its site's bucket on the new timeline, the old primary can archive no more, a full backup of the new
timeline is complete, and what would be lost now is known again. It may take long, and nobody waits for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import psycopg
from pydantic import JsonValue

from recovery.drive import Move, Seen, Truth
from recovery.errors import DrError, Failed
from recovery.plan import NothingToDo
from recovery.point import Backup
from recovery.step import Step
from recovery.value import rfc3339
from recovery.wal import HistoryFile, parse
from tasks.kind import Facts, Scene
from tasks.postgres.archived import key_of
from tasks.postgres.reading import Deadline, first_line, only, reading
from tasks.postgres.roles.choosing import ours, pinned_of
from tasks.postgres.roles.ordering import ByAgent
from tasks.postgres.roles.servers import Server, ask_all, primaries, whys
from tasks.stage import Stage

ARCHIVED_SECONDS = 120.0
POLL_SECONDS = 0.1
BACKUP_SECONDS = 6 * 3600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Protect:
    """See the module. `back_up` takes a full backup of a resource and gives its id; None: as `dr backup --full`."""

    stage: Stage
    back_up: Callable[[str], str] | None = None
    exposed: Callable[[str], Mapping[str, JsonValue]] | None = None

    def observe(self, step: Step, scene: Scene) -> Seen:
        """See Verb.observe. Holds once it is on record, as long as the backup and the history are still there."""
        done = scene.results.get(step.id)
        if not done:
            return Seen(truth=Truth.ABSENT, why=f"{self.stage.target} is not protected yet")
        store = self.stage.home.backups(step.resource, self.stage.target)
        for key in (str(done["marker"]), str(done["history"])):
            if key and store.head(key) is None:
                return Seen(truth=Truth.ABSENT, why=f"{key} is no longer in the bucket of {self.stage.target}")
        return Seen(truth=Truth.HOLDS)

    def perform(self, move: Move, scene: Scene) -> Facts:
        """See Verb.perform."""
        clock, name = time.monotonic(), move.step.resource
        primary = self._primary(move.step, scene)
        history, segment = self._archive(name, primary, scene)
        facts: Facts = {
            "member": primary.member,
            "timeline": primary.place.timeline,
            "history": history,
            "segment": segment,
            "old_primary": self._barred(name, scene),
        }
        facts |= self._backup(name, primary, scene)
        facts["exposure"] = dict((self.exposed or self._exposure)(name))
        return {**facts, "at": rfc3339(scene.now()), "seconds": round(time.monotonic() - clock, 3)}

    def _primary(self, step: Step, scene: Scene) -> Server:
        said = ask_all(self.stage.members(step.resource, self.stage.target))
        found = [each for each in primaries(said) if ours(each, pinned_of(scene, step.resource))]
        if not found:
            raise Failed(
                f"no primary of this run answers at {self.stage.target} ({whys(said) or 'it is a standby'})",
                hint="see 'dr status'; the step goes on when it answers",
            )
        return found[0]

    def _archive(self, name: str, primary: Server, scene: Scene) -> tuple[str, str]:
        """A segment of the new timeline and its history file are in the site's bucket. Gives their keys; with another
        tool's archive, Postgres's own word for the segment and no keys."""
        member = dict(self.stage.members(name, self.stage.target))[primary.member]
        deadline = Deadline(ARCHIVED_SECONDS)
        try:
            with reading(member.dsn, Deadline(ARCHIVED_SECONDS + 10)) as connection:
                if only(connection, "select current_setting('archive_mode')")[0] == "off":
                    raise Failed(
                        f"archive_mode is off at {primary.member}",
                        hint="set it to on and restart; then it goes on here",
                    )
                connection.execute("set default_transaction_read_only = off")
                connection.execute("select pg_logical_emit_message(true, 'standfast', 'the first of a new primary')")
                file = str(only(connection, "select pg_walfile_name(pg_switch_wal())")[0])
                while not (keys := self._stored(name, primary, file)):
                    scene.say(f"waiting until {file} is archived", None)
                    last, failed, trouble = only(
                        connection,
                        "select coalesce(last_archived_wal, ''), failed_count, coalesce(last_failed_wal, '') "
                        "from pg_stat_archiver",
                    )
                    if self.stage.resource(name).engine != "native" and str(last)[:24] >= file:
                        return "", str(last)
                    if not deadline.left_seconds:
                        why = f"; {trouble} failed {failed} times" if failed else ""
                        raise Failed(
                            f"{file} is not in the archive of {self.stage.target} within {ARCHIVED_SECONDS:g} s{why}",
                            hint="see whether the agent there runs and its S3 answers ('dr status', 'dr check')",
                        )
                    time.sleep(POLL_SECONDS)
                return keys
        except psycopg.Error as error:
            raise Failed(
                f"{primary.member} broke off: {first_line(error)}", hint="see its server log; the step goes on there"
            ) from None

    def _stored(self, name: str, primary: Server, file: str) -> tuple[str, str] | None:
        if self.stage.resource(name).engine != "native":
            return None
        store, place = self.stage.home.backups(name, self.stage.target), primary.place
        history = f"{place.timeline:08X}.history"
        keys = (
            key_of(place.system_id, HistoryFile(timeline=place.timeline), history),
            key_of(place.system_id, parse(file, place.segment_bytes), file),
        )
        return keys if all(store.head(key) is not None for key in keys) else None

    def _barred(self, name: str, scene: Scene) -> str:
        """Whether the old primary can archive: its agent's word. A silent one is bound by its term when it comes back,
        and writes on another timeline: into other keys than ours."""
        for member_name, member in self.stage.members(name, self.stage.source):
            if member.agent is None:
                continue
            try:
                said = ByAgent(stage=self.stage, site=self.stage.source).status(member, scene, patience_seconds=2.0)
            except DrError as trouble:
                return f"{member_name}: {trouble.fact}"
            if said is None:
                return "silent: barred by its term when it comes back"
            if said.get("barred"):
                return f"barred: {said['barred']}"
            return f"{member_name} is {said.get('role', 'unknown')}"
        return "no agent: keep it stopped"

    def _backup(self, name: str, primary: Server, scene: Scene) -> Facts:
        """A complete full backup of the new timeline: one that is there already will do."""
        found = self._full(name, primary)
        taken = found is None
        if found is None:
            scene.say("taking a full backup of the new timeline", None)
            made = (self.back_up or self._take)(name)
            found = next((each for each in self._all(name, primary) if each.id == made), None)
            if found is None:
                raise Failed(
                    f"backup {made} is not among the complete ones of timeline {primary.place.timeline}",
                    hint="see 'dr points'; the step takes another",
                )
        native = self.stage.resource(name).engine == "native"
        marker = f"base/{found.system_id}/{found.id}/backup.json" if native else ""
        return {"backup": found.id, "backup_taken": taken, "marker": marker}

    def _full(self, name: str, primary: Server) -> Backup | None:
        fulls = [each for each in self._all(name, primary) if each.kind == "full"]
        return fulls[-1] if fulls else None

    def _all(self, name: str, primary: Server) -> list[Backup]:
        from tasks.keeping import engine_at
        from tasks.postgres.looking import backups

        home, site = self.stage.home, self.stage.target
        native = self.stage.resource(name).engine == "native"
        known = backups(home.backups(name, site)) if native else engine_at(home, name, site).backups()
        line = (primary.place.system_id, primary.place.timeline)
        return [each for each in known if (each.system_id, each.timeline) == line]

    def _take(self, name: str) -> str:
        """A run of its own, with its own evidence: as a person would take it."""
        from tasks import backing
        from tasks.engine import Act

        plan = backing.plan_backup(self.stage.home, name, "full")
        if isinstance(plan, NothingToDo):
            raise Failed(f"no backup was taken: {plan.why}", hint="take one with 'dr backup --full'")
        return backing.take(Act(home=self.stage.home), plan).id

    def _exposure(self, name: str) -> Mapping[str, JsonValue]:
        """What would be lost if the new primary's site went now, by copy: seconds, or why it is not known."""
        from tasks import standing

        found = standing.overview(self.stage.home, [name]).resources[0].exposure
        return {
            f"{each.copy_of} {each.site}": each.seconds if each.seconds is not None else f"unproven: {each.why}"
            for each in found
        }
