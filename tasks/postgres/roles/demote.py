"""The verb `demote`: the primary stops writing, its standby reaches the same LSN, and it is stopped cleanly.

Separate from the fence, which proves that it stays stopped: here nothing may be lost. Until the stop is ordered
everything is undone by letting it write again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import psycopg

from recovery.catalog import Member
from recovery.drive import Move, Seen, Truth
from recovery.errors import DrError, Failed, Refused, Unproven
from recovery.point import lsn_number, lsn_text
from recovery.step import Step
from recovery.value import rfc3339
from tasks.kind import Facts, Scene
from tasks.postgres.reading import Connection, Deadline, first_line, only, reading
from tasks.postgres.roles import beyond
from tasks.postgres.roles.choosing import Pinned, choose, not_meant, pinned_of, whom
from tasks.postgres.roles.ordering import ByAgent, Send
from tasks.postgres.roles.servers import Server, Silent, ask_all, primaries
from tasks.stage import Stage

NEAR_BYTES = 64 * 1024 * 1024
"""Writes are stopped only once the standby is this near: what is left is replayed in well under a second."""
EQUAL_SECONDS = 20.0
STOP_SECONDS = 60.0
"""How long a clean shutdown may take: its checkpoint writes all that is dirty."""
POLL_SECONDS = 0.01
ALIVE_SECONDS = 0.25

_CLIENTS = """
select pid from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()
  and application_name not like 'standfast%'
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Demote:
    """See the module. `send`: how orders go to the agent; None: by HTTP."""

    stage: Stage
    send: Send | None = None

    def observe(self, step: Step, scene: Scene) -> Seen:
        """See Verb.observe. Holds once it is on record, as long as no server there takes writes again."""
        if step.id not in scene.results:
            return Seen(truth=Truth.ABSENT, why=f"{self.stage.source} was not stopped by this run")
        again = primaries(ask_all(self.stage.members(step.resource, self.stage.source)))
        if again:
            return Seen(truth=Truth.ABSENT, why=f"{again[0].member} takes writes again")
        return Seen(truth=Truth.HOLDS)

    def perform(self, move: Move, scene: Scene) -> Facts:
        """See Verb.perform."""
        clock, deadline = time.monotonic(), Deadline(move.step.patience_seconds)
        pinned, name = pinned_of(scene, move.step.resource), move.step.resource
        here = dict(self.stage.members(name, self.stage.source))
        there = dict(self.stage.members(name, self.stage.target))
        said = ask_all([*here.items(), *there.items()])
        standby = choose({each: said[each] for each in there}, pinned)
        primary = _primary({each: said[each] for each in here}, pinned)
        at = rfc3339(scene.now())
        if primary is not None:
            at = self._quiet(primary, standby, here, there, scene, deadline)
        member = primary.member if primary is not None else _stopped_member(here, said, self.stage.source)
        stopped = self._stop(here[member], member, pinned, move, scene, deadline)
        _refuse_another(stopped, member, pinned)
        lsn = _end_of(stopped, member)
        _await_equal(there[standby.member], standby.member, lsn, deadline)
        return {
            "member": member,
            "standby": standby.member,
            "lsn": lsn,
            "timeline": pinned.timeline,
            "at": at,
            "seconds": round(time.monotonic() - clock, 3),
        }

    def _quiet(
        self, primary: Server, standby: Server, here: Mapping[str, Member], there: Mapping[str, Member],
        scene: Scene, deadline: Deadline,
    ) -> str:  # fmt: skip
        """No more writes, and the standby has replayed them all. Gives the instant from which nothing was written."""
        try:
            with (
                reading(here[primary.member].dsn, deadline) as at_primary,
                reading(there[standby.member].dsn, deadline) as at_standby,
            ):
                _await_near(at_primary, at_standby, standby.member, scene, deadline)
                try:
                    _stop_writes(at_primary, scene, deadline)
                    at = only(at_primary, "select clock_timestamp()")[0]
                    at_primary.execute("select pg_switch_wal()")
                    _await_replay(at_primary, at_standby, standby.member, scene)
                except BaseException:
                    allow_writes(at_primary)
                    raise
        except psycopg.Error as error:
            raise Failed(
                f"a server broke off: {first_line(error)}",
                hint="see both servers ('dr status'); if the old primary is lost, order 'dr run ungraceful'",
            ) from None
        return rfc3339(at)

    def _stop(
        self, member: Member, name: str, pinned: Pinned, move: Move, scene: Scene, deadline: Deadline
    ) -> Facts:  # fmt: skip
        send = self.send or ByAgent(stage=self.stage, site=self.stage.source)
        try:
            return send(member, "stop", move, scene, {"fast_seconds": STOP_SECONDS, **whom(name, pinned)}, deadline)
        except DrError:
            undo(self.stage, move.step.resource)
            raise


def undo(stage: Stage, resource: str) -> bool:
    """Let the site that would have been left write again, if its server still runs as the primary: after a run that was
    cancelled before the stop. Gives whether there was one."""
    members = dict(stage.members(resource, stage.source))
    for each in primaries(ask_all(members.items())):
        if each.read_only:
            with reading(members[each.member].dsn, Deadline(5)) as connection:
                allow_writes(connection)
            return True
    return False


def allow_writes(connection: Connection) -> None:
    """Take the read-only default back."""
    connection.execute("alter system reset default_transaction_read_only")
    connection.execute("select pg_reload_conf()")


def _primary(said: Mapping[str, Server | Silent], pinned: Pinned) -> Server | None:
    """The primary that the plan means; None when no server there takes writes. Raises Refused for another one."""
    found = primaries(said)
    if not found:
        return None
    strange = [
        each for each in found if (each.place.system_id, each.place.timeline) != (pinned.system_id, pinned.timeline)
    ]
    if strange or len(found) > 1:
        first = (strange or list(found))[0]
        raise Refused(
            f"{first.member} takes writes on timeline {first.place.timeline} of system {first.place.system_id}, "
            f"the plan pinned timeline {pinned.timeline} of {pinned.system_id}",
            hint="roles have changed since: make a new plan with 'dr plan'",
        )
    return found[0]


def _stopped_member(here: Mapping[str, Member], said: Mapping[str, Server | Silent], site: str) -> str:
    """Whose agent is asked when no primary answers: the member that is the site's own, else the first silent one."""
    silent = [name for name in here if isinstance(said[name], Silent)]
    if not silent:
        raise Refused(f"no server at {site} is a primary", hint="roles have changed: make a new plan with 'dr plan'")
    return site if site in silent else silent[0]


def _await_near(primary: Connection, standby: Connection, name: str, scene: Scene, deadline: Deadline) -> None:
    """Before anybody notices: is the standby near enough that the outage will be short?"""
    patience = Deadline(deadline.left_seconds / 2)
    while (behind := _flushed(primary) - beyond.replayed(standby)) > NEAR_BYTES:
        if not patience.left_seconds:
            raise Failed(
                f"{name} is {behind / 1e6:.0f} MB behind, so the outage would be long; nothing was stopped",
                hint="see why its replay is slow, or do it at a quieter time",
            )
        _refuse_unwanted(scene)
        scene.say(f"{name} is {behind / 1e6:.0f} MB behind", None)
        time.sleep(POLL_SECONDS * 10)


def _stop_writes(connection: Connection, scene: Scene, deadline: Deadline) -> None:
    """Sessions are read-only by default from now on, and those that were open are ended. This only makes the stop
    short: that nothing is lost is proved by the clean stop and the equal LSN."""
    connection.execute("alter system set default_transaction_read_only = on")
    connection.execute("select pg_reload_conf()")
    patience = Deadline(min(10.0, deadline.left_seconds))
    was_open: set[int] | None = None
    while True:
        if was_open is None and _in_force(connection):
            was_open = _clients(connection)
        if was_open is not None and not (left := was_open & _clients(connection)):
            return
        for pid in left if was_open is not None else ():
            connection.execute("select pg_terminate_backend(%s)", [pid])
        _refuse_unwanted(scene)
        if not patience.left_seconds:
            raise Failed(
                "sessions of the primary do not end; writes go on again",
                hint="see pg_stat_activity: who holds on there?",
            )
        time.sleep(POLL_SECONDS)


def _in_force(connection: Connection) -> bool:
    """Whether new sessions are read-only: asked of the setting's value at this session's last reload."""
    query = "select reset_val = 'on' from pg_settings where name = 'default_transaction_read_only'"
    return bool(only(connection, query)[0])


def _clients(connection: Connection) -> set[int]:
    return {int(row[0]) for row in connection.execute(_CLIENTS.encode()).fetchall()}


def _await_replay(primary: Connection, standby: Connection, name: str, scene: Scene) -> None:
    """Users wait meanwhile, so a primary that is lost is noticed at once, by asking it as well."""
    wanted = _flushed(primary)
    patience, asked_at = Deadline(EQUAL_SECONDS), time.monotonic()
    while beyond.replayed(standby) < wanted:
        if not patience.left_seconds:
            raise Failed(
                f"{name} did not replay up to {lsn_text(wanted)} within {EQUAL_SECONDS:g} s; writes go on again",
                hint="see pg_stat_replication and the standby's log",
            )
        if time.monotonic() > asked_at + ALIVE_SECONDS:
            _flushed(primary)
            asked_at = time.monotonic()
        _refuse_unwanted(scene)
        beyond.yield_to_replay(standby)
        time.sleep(POLL_SECONDS / 2)


def _refuse_unwanted(scene: Scene) -> None:
    """Until the stop is ordered nothing has to be waited out, and another engine may have come to other ends."""
    scene.may_act()
    if not scene.wanted():
        raise Failed("people ordered otherwise; writes go on again", hint="see the run's orders with 'dr show'")


def _await_equal(member: Member, name: str, wanted: int, deadline: Deadline) -> None:
    """The standby stands exactly at the end of the shutdown checkpoint: all of it was received and replayed."""
    patience = Deadline(min(EQUAL_SECONDS, max(deadline.left_seconds, 1.0)))
    with reading(member.dsn, patience) as connection:
        while (now := beyond.replayed(connection)) < wanted and patience.left_seconds:
            time.sleep(POLL_SECONDS / 2)
    if now < wanted:
        raise Failed(
            f"{name} stands at {lsn_text(now)}, the old primary stopped at {lsn_text(wanted)}",
            hint="start the old primary again so that it streams the rest, or order 'dr run ungraceful'",
        )
    if now > wanted:
        raise Refused(
            f"{name} is at {lsn_text(now)}, beyond the old primary's end {lsn_text(wanted)}",
            hint="they are not of one history: look at both with 'dr status' before anything else",
        )


def _refuse_another(stopped: Facts, member: str, pinned: Pinned) -> None:
    """Where no primary answered, the one that was stopped was never seen: its own data says whether it was ours."""
    why = not_meant(stopped, member, pinned)
    if not why and stopped.get("clean") is True and stopped.get("timeline") != pinned.timeline:
        why = f"{member} ended on timeline {stopped.get('timeline')}, the plan pinned {pinned.timeline}"
    if why:
        raise Refused(
            why, hint="that is not the primary of this plan: look at it with 'dr status', and make a new plan"
        )


def _end_of(stopped: Facts, member: str) -> int:
    lsn = stopped.get("lsn")
    if isinstance(lsn, int) and not isinstance(lsn, bool) and stopped.get("clean") is not False:
        return lsn
    raise Unproven(
        f"{member} is stopped, but not by a clean shutdown, so that nothing is lost is not proved",
        hint="start it again and repeat, or order 'dr run ungraceful' and accept what may be lost",
    )


def _flushed(connection: Connection) -> int:
    return lsn_number(only(connection, "select pg_current_wal_flush_lsn()::text")[0])
