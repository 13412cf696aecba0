"""The verb `promote`: the most advanced standby of the site that takes over becomes the primary.

Before it does, it replays what the archive holds beyond it. Everything is looked up in the servers, so that a killed
engine goes on wherever it stopped: a standby with our setting, a primary that nobody wrote down, a neighbour that still
follows the old primary.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import psycopg

from recovery.catalog import Member
from recovery.drive import Move, Seen, Truth
from recovery.errors import DrError, Failed, Refused
from recovery.point import lsn_text
from recovery.step import Mode, Step
from recovery.value import rfc3339
from recovery.wal import parse_history
from tasks.kind import Facts, Scene
from tasks.postgres.place import history
from tasks.postgres.reading import Connection, Deadline, first_line, only, reading
from tasks.postgres.roles import beyond, follow, rehearsing, summarizing
from tasks.postgres.roles.beyond import Beyond, Replay
from tasks.postgres.roles.choosing import Pinned, choose, ours, pinned_of, promoted_already
from tasks.postgres.roles.servers import REPLAY_FOLDER, Server, Silent, ask_all, primaries, server, standbys, whys
from tasks.postgres.roles.witness import term_now
from tasks.postgres.terms import overtaken
from tasks.stage import Stage

POLL_SECONDS = 0.005
TERM_SECONDS = 0.4
OPENS_SECONDS = 60.0
OPENING_SECONDS = 20.0
"""For so long an attempt waits for an answer, and for what one before it ordered; whoever is a standby still is no
promotion of ours."""
WAKE_SECONDS = 0.1
"""With summarize_wal a promotion waits for the summarizer, which on a standby that has received nothing for a while
sleeps for up to half a minute (PostgreSQL 17 and 18, seen); a reload wakes every process."""

_RECOVERED = """
select greatest(pg_last_xact_replay_timestamp(), {beat})
"""
_BEAT = "(select max(at) from standfast.beat where lsn < {lsn}::pg_lsn)"


@dataclass(frozen=True, kw_only=True, slots=True)
class Promote:
    """See the module."""

    stage: Stage

    def observe(self, step: Step, scene: Scene) -> Seen:
        """See Verb.observe. Holds when the primary there is ours, with nothing left to do, and it is on record."""
        if rehearsing.on_scratch(step, scene):
            return rehearsing.PromoteCopy(stage=self.stage).observe(step, scene)
        said = ask_all(self.stage.members(step.resource, self.stage.target))
        pinned = pinned_of(scene, step.resource)
        open_ = primaries(said)
        if not open_:
            if standbys(said):
                return Seen(truth=Truth.ABSENT, why=f"{self.stage.target} is still a standby")
            return Seen(truth=Truth.UNKNOWN, why=f"no server answers at {self.stage.target} ({whys(said)})")
        if len(open_) > 1 or not ours(open_[0], pinned):
            return Seen(truth=Truth.ABSENT, why=f"{open_[0].member} is a primary that this run did not make")
        if step.id not in scene.results:
            return Seen(truth=Truth.ABSENT, why=f"{open_[0].member} is promoted, which is not on record yet")
        left = unfinished(open_[0], said, scene.results[step.id])
        return Seen(truth=Truth.ABSENT, why=left) if left else Seen(truth=Truth.HOLDS)

    def perform(self, move: Move, scene: Scene) -> Facts:
        """See Verb.perform."""
        if rehearsing.on_scratch(move.step, scene):
            return rehearsing.PromoteCopy(stage=self.stage).perform(move, scene)
        _refuse_rehearsal(scene)
        begun_at, clock = scene.now(), time.monotonic()
        deadline = Deadline(move.step.patience_seconds)
        members = dict(self.stage.members(move.step.resource, self.stage.target))
        pinned = pinned_of(scene, move.step.resource)
        said = _said(members, pinned, deadline, again=move.attempt > 1)
        found = promoted_already(said, pinned)
        chosen = found or choose(said, pinned)
        try:
            with reading(members[chosen.member].dsn, deadline) as connection:
                facts = {} if found else self._promote(connection, chosen, move, scene, deadline)
                promoted = server(chosen.member, connection)
                facts |= _facts(connection, promoted, pinned)
                facts |= _finish(connection, promoted, said, members, deadline)
        except psycopg.Error as error:
            raise Failed(
                f"{chosen.member} broke off: {first_line(error)}",
                hint="see its server log and whether it runs; the step goes on where it stopped",
            ) from None
        if (at := _quiet_at(move.step, scene)) is not None:
            facts["recovered_until"] = at
        facts["behind_seconds"] = _behind(facts.get("recovered_until"), begun_at)
        return {**facts, "already": found is not None, "seconds": round(time.monotonic() - clock, 3)}

    def _promote(self, connection: Connection, chosen: Server, move: Move, scene: Scene, deadline: Deadline) -> Facts:
        if chosen.paused:
            connection.execute("select pg_wal_replay_resume()")
        facts = self._replay(connection, chosen, move, scene, deadline)
        _refuse_unequal(connection, chosen, move.step, scene, deadline)
        facts |= {"slots": follow.make_slots(connection, self._others(move.step.resource, chosen.member))}
        if chosen.synchronous:
            connection.execute("alter system set synchronous_standby_names = ''")
        if chosen.read_only:
            connection.execute("alter system reset default_transaction_read_only")
        if chosen.synchronous or chosen.read_only:
            connection.execute("select pg_reload_conf()")
        facts["synchronous_before"] = chosen.synchronous
        if summarizing.fails(connection):
            summarizing.turn_off(connection)
        facts["term"] = self._refuse_overtaken(move.step.resource)
        connection.execute("select pg_promote(false)")
        _await_open(connection, chosen.member)
        return facts

    def _refuse_overtaken(self, resource: str) -> str:
        """The last look before the point of no return: an engine that slept meanwhile must not promote after a newer
        change of roles. The lease and the fence decide; a silent witness holds nothing up here."""
        try:
            term = term_now(self.stage.home, resource, timeout_seconds=TERM_SECONDS)
        except DrError as trouble:
            return f"not asked: {trouble.fact}"
        if term is None:
            return "none"
        mine = (self.stage.term, self.stage.target)
        if term.generation > mine[0] or (term.generation == mine[0] and term.primary != mine[1]):
            raise overtaken(term)
        return f"generation {term.generation}, {term.primary}"

    def _replay(self, connection: Connection, chosen: Server, move: Move, scene: Scene, deadline: Deadline) -> Facts:
        """What the archive holds beyond the standby. An archive that doesn't answer is tried again; at the last try the
        promotion goes on without it, visibly: what it holds beyond is not destroyed and can be listed later."""
        home, name = self.stage.home, move.step.resource
        if REPLAY_FOLDER in chosen.restore_command:
            beyond.take_back(connection)
        try:
            replay = Replay(
                store=home.backups(name, self.stage.target),
                keys=home.keys(name),
                bin_dir=Path(dict(self.stage.members(name, self.stage.target))[chosen.member].bin_dir),
                system_id=chosen.place.system_id,
                timeline=chosen.place.timeline,
                segment_bytes=chosen.place.segment_bytes,
                say=scene.say,
            )
            gained = replay.all(connection, chosen.received_lsn, deadline)
        except DrError as trouble:
            if not move.last:
                raise
            return {**_told(Beyond()), "archive": f"not replayed: {trouble.fact}"}
        return {**_told(gained), "archive": "replayed" if gained.files else "nothing beyond the standby"}

    def _others(self, resource: str, member: str) -> tuple[str, ...]:
        sites = (self.stage.source, self.stage.target)
        return tuple(name for site in sites for name, _ in self.stage.members(resource, site) if name != member)


def _refuse_rehearsal(scene: Scene) -> None:
    """A run that changes nothing live must never open a live standby, whatever its steps say."""
    if not scene.plan.live:
        raise Refused(
            "a drill promotes its restored copy, never the live standby",
            hint="give the step `scratch: true`; the live servers were not touched",
        )


def unfinished(promoted: Server, said: Mapping[str, Server | Silent], recorded: Facts) -> str:
    """What is still to be done after the promotion, in words; empty when nothing is. A neighbour that could not be
    pointed at the new primary is on record and holds nothing up."""
    if REPLAY_FOLDER in promoted.restore_command:
        return f"{promoted.member} still has our restore_command"
    neighbours = recorded.get("neighbours")
    known = neighbours if isinstance(neighbours, dict) else {}
    lagging = [
        each
        for each in standbys(said)
        if not follow.follows(each, promoted) and not str(known.get(each.member, "")).startswith("not ")
    ]
    return f"{lagging[0].member} does not follow {promoted.member} yet" if lagging else ""


def _said(
    members: Mapping[str, Member], pinned: Pinned, deadline: Deadline, *, again: bool
) -> Mapping[str, Server | Silent]:
    """What the servers say, once one of them says anything: on a starved machine all may be silent for some seconds,
    which must not cost the step's tries. `again`: and once none of them is in the middle of a promotion that an attempt
    before this one ordered: such a one is no primary yet and stands on the later timeline already."""
    end = time.monotonic() + min(OPENING_SECONDS, deadline.left_seconds)
    while True:
        said = ask_all(members.items())
        found = standbys(said)
        opening = again and any(
            each.place.system_id == pinned.system_id and each.place.timeline > pinned.timeline for each in found
        )
        if primaries(said) or (found and not opening) or time.monotonic() > end:
            return said
        time.sleep(POLL_SECONDS * 10)


def _await_open(connection: Connection, member: str) -> None:
    deadline, wake_at = Deadline(OPENS_SECONDS), OPENS_SECONDS - WAKE_SECONDS
    while only(connection, "select pg_is_in_recovery()")[0]:
        if deadline.left_seconds < wake_at:
            connection.execute("select pg_reload_conf()")
            wake_at -= WAKE_SECONDS
        if not deadline.left_seconds:
            raise Failed(
                f"{member} did not open for writing within {OPENS_SECONDS:g} s",
                hint="see its server log; it may still be replaying what it had received",
            )
        beyond.yield_to_replay(connection)
        time.sleep(POLL_SECONDS)


def _facts(connection: Connection, promoted: Server, pinned: Pinned) -> Facts:
    """Where the new timeline begins and up to which instant every commit is there, from the server itself."""
    switches = parse_history(history(connection, promoted.place.timeline))
    lsn = next((each.lsn for each in reversed(switches) if each.timeline >= pinned.timeline), promoted.place.lsn)
    has_beats = only(connection, "select to_regclass('standfast.beat') is not null")[0]
    beat = _BEAT.format(lsn=f"'{lsn_text(lsn)}'") if has_beats else "null"
    at = only(connection, _RECOVERED.format(beat=beat))[0]
    return {
        "member": promoted.member,
        "system_id": promoted.place.system_id,
        "timeline": promoted.place.timeline,
        "lsn": lsn,
        "recovered_until": rfc3339(at) if at is not None else None,
    }


def _finish(
    connection: Connection,
    promoted: Server,
    said: Mapping[str, Server | Silent],
    members: Mapping[str, Member],
    deadline: Deadline,
) -> Facts:
    """Nothing of ours is left at the new primary, and its neighbours follow it."""
    if REPLAY_FOLDER in promoted.restore_command:
        beyond.take_back(connection)
    stuck = summarizing.turn_on_again(connection)
    pointed: Facts = {}
    for each in standbys(said):
        if each.member != promoted.member:
            follow.make_slots(connection, (), also=(each.slot,) if each.slot else ())
            pointed[each.member] = follow.point(each, promoted, members[each.member].dsn, deadline)
    return {"neighbours": pointed, **({"summarizer": "it failed, and was off during the promotion"} if stuck else {})}


def _refuse_unequal(connection: Connection, chosen: Server, step: Step, scene: Scene, deadline: Deadline) -> None:
    """In the graceful variant the standby must stand exactly where the old primary stopped."""
    stopped = _demoted(step, scene)
    if stopped is None:
        return
    wanted = int(str(stopped["lsn"]))
    patience = Deadline(min(10.0, deadline.left_seconds))
    while (now := beyond.replayed(connection)) < wanted and patience.left_seconds:
        time.sleep(POLL_SECONDS)
    if now != wanted:
        raise Refused(
            f"{chosen.member} replayed up to {lsn_text(now)}, the old primary stopped at {lsn_text(wanted)}",
            hint="something wrote meanwhile or WAL is missing: start the old primary again, or order "
            "'dr run ungraceful' and give up what is missing",
        )


def _demoted(step: Step, scene: Scene) -> Facts | None:
    """The result of this run's demotion of the same database, in the graceful variant."""
    if scene.mode is not Mode.GRACEFUL:
        return None
    names = [
        each.id for each in scene.plan.steps if each.verb == "demote" and each.resource == step.resource
    ]  # fmt: skip
    return next((scene.results[name] for name in names if "lsn" in scene.results.get(name, {})), None)


def _quiet_at(step: Step, scene: Scene) -> str | None:
    """With equal LSNs nothing at all is lost: every commit up to the stop is there."""
    stopped = _demoted(step, scene)
    return str(stopped["at"]) if stopped is not None and stopped.get("at") else None


def _told(gained: Beyond) -> Facts:
    return {"replayed_from_archive_segments": gained.files, "replayed_from_archive_bytes": gained.gained_bytes}


def _behind(until: object, begun_at: datetime) -> float | None:
    """Seconds from the newest commit that came back to the beginning of the promotion; None when none is known."""
    if not isinstance(until, str):
        return None
    return round(max(0.0, (begun_at - datetime.fromisoformat(until)).total_seconds()), 3)
