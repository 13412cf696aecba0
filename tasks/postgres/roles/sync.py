"""The verb `sync`: a site's database is a standby again: it follows the new primary, or is rebuilt from it.

Separate from returning.py, which does it at the server's home: here it is ordered and seen from both ends.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import psycopg
from pydantic import JsonValue

from recovery.drive import Move, Seen, Truth
from recovery.errors import DrError, Failed, Refused
from recovery.rules import RULES
from recovery.step import Step
from tasks.kind import Facts, Scene
from tasks.postgres.reading import Connection, Deadline, first_line, reading
from tasks.postgres.roles.follow import make_slots, point, release_slots, slot_of
from tasks.postgres.roles.losses import evidence, history_of, losing_run, site_of, the_primary
from tasks.postgres.roles.ordering import ByAgent, Send
from tasks.postgres.roles.servers import Server, Silent, ask, ask_all, primaries, whys
from tasks.stage import Stage

POLL_SECONDS = 0.05

_SLOT = """
select s.active, coalesce(r.state, 'absent'), coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), r.replay_lsn), 0)::bigint
from pg_replication_slots s left join pg_stat_replication r on r.pid = s.active_pid where s.slot_name = %s
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sync:
    """See the module. `send`: how orders go to the agent; None: by HTTP."""

    stage: Stage
    send: Send | None = None

    def observe(self, step: Step, scene: Scene) -> Seen:
        """See Verb.observe. Holds while the member streams from the primary, on its timeline, through its slot."""
        site = site_of(self.stage, step, scene)
        said = ask_all(self.stage.resource(step.resource).members.items())
        mine = {name: said[name] for name in self._served(step.resource, site)}
        found = primaries(said)
        if len(found) != 1:
            return Seen(truth=Truth.UNKNOWN, why=f"not one primary answers ({whys(said) or len(found)})")
        if found[0].member in mine:
            return Seen(truth=Truth.ABSENT, why=f"{found[0].member} is the primary itself")
        if step.id not in scene.results:
            return Seen(truth=Truth.ABSENT, why=f"that {site} follows is not on record yet")
        why = "; ".join(filter(None, (_not_following(each, found[0]) for each in mine.values())))
        return Seen(truth=Truth.ABSENT, why=why) if why else Seen(truth=Truth.HOLDS)

    def perform(self, move: Move, scene: Scene) -> Facts:
        """See Verb.perform."""
        clock, deadline = time.monotonic(), Deadline(move.step.patience_seconds)
        name, site = move.step.resource, site_of(self.stage, move.step, scene)
        how = str(scene.arguments(move.step).get("how", "follow"))
        primary = the_primary(self.stage, name)
        members = dict(self.stage.members(name, site))
        if primary.member in members:
            raise Refused(
                f"{primary.member} is the primary: it is never made anew over itself",
                hint="name the other site; see 'dr status' for the roles",
            )
        facts: Facts = {}
        told = ask_all(members.items())
        served = self._served(name, site)
        for member in served:
            facts[member] = self._one(member, told[member], primary, how, move, scene, deadline)
        for member in (each for each in members if each not in served):
            facts[member] = self._beside(name, member, told[member], served[0], deadline)
        facts["how"], facts["primary"], facts["timeline"] = how, primary.member, primary.place.timeline
        return {**facts, "seconds": round(time.monotonic() - clock, 3)}

    def _one(
        self, member: str, said: Server | Silent, primary: Server, how: str, move: Move, scene: Scene,
        deadline: Deadline,
    ) -> Facts:  # fmt: skip
        name = move.step.resource
        slot = said.slot if isinstance(said, Server) and said.slot else slot_of(member)
        at_primary = self.stage.resource(name).members[primary.member]
        try:
            with reading(at_primary.dsn, deadline) as connection:
                made = make_slots(connection, (), also=(slot,))
                if not _not_following(said, primary):
                    streams = _await(connection, slot, member, deadline)
                    return {**streams, "already": True, "released": self._release(name, member, primary, deadline)}
                connection.execute("checkpoint")  # pg_rewind reads the new timeline from the control file
                facts = self._order(member, primary, how, move, scene, deadline)
                streams = _await(connection, slot, member, deadline)
                facts |= {**streams, "slots": made, "released": self._release(name, member, primary, deadline)}
                return {**facts, "synchronous": _confirmed_again(connection)}
        except psycopg.Error as error:
            raise Failed(
                f"{primary.member} broke off: {first_line(error)}", hint="see its server log; the step goes on there"
            ) from None

    def _release(self, name: str, member: str, primary: Server, deadline: Deadline) -> JsonValue:
        """What this server's slots hold for servers of other sites, which stream from the primary. Fails no sync."""
        resource = self.stage.resource(name)
        others = [each for each in resource.members if resource.site_of(each) != resource.site_of(member)]
        try:
            with reading(resource.members[member].dsn, deadline) as connection:
                return [*release_slots(connection, [*map(slot_of, others), primary.slot])]
        except (DrError, psycopg.Error) as trouble:
            return f"not released: {first_line(trouble)}"

    def _served(self, name: str, site: str) -> tuple[str, ...]:
        """The members of a site that an agent serves; all of them where none has one, which the order then says."""
        members = self.stage.members(name, site)
        return tuple(each for each, at in members if at.agent is not None) or tuple(each for each, _ in members)

    def _beside(self, name: str, member: str, said: Server | Silent, first: str, deadline: Deadline) -> str:
        """A second standby of the site, which no agent serves, follows the one that came back: it is pointed there over
        its own door, and has its slot there. One that is silent, or went on by itself, a person has to look after."""
        resource = self.stage.resource(name)
        there = ask(first, resource.members[first])
        if isinstance(said, Silent) or said.primary or isinstance(there, Silent):
            return "no agent serves it: bring it back by hand, as a standby"
        with reading(resource.members[first].dsn, deadline) as connection:
            make_slots(connection, (), also=(said.slot or slot_of(member),))
        return f"follows {first}: {point(said, there, resource.members[member].dsn, deadline)}"

    def _order(self, member: str, primary: Server, how: str, move: Move, scene: Scene, deadline: Deadline) -> Facts:
        name = move.step.resource
        resource = self.stage.resource(name)
        site = resource.site_of(member)
        listed = evidence(self.stage.home, losing_run(self.stage, name, primary), name)
        if how == "rebuild" and not listed:
            raise Refused(
                f"{RULES[12].cited}: what {site} lost is not listed in the ledger",
                hint="perform the step `losses` first; nothing was touched",
            )
        arguments: dict[str, JsonValue] = {
            **history_of(self.stage, name, primary),
            "primary": resource.site_of(primary.member),
            "member": primary.member,
            "losses": listed,
        }
        send = self.send or ByAgent(stage=self.stage, site=site)
        return send(resource.members[member], how, move, scene, arguments, deadline)


def _not_following(said: Server | Silent, primary: Server) -> str:
    """Why a member does not stream from that primary; empty when it does."""
    match said:
        case Silent():
            return f"{said.member}: {said.why}"
        case Server() if said.primary:
            return f"{said.member} takes writes"
        case Server() if said.place.system_id != primary.place.system_id:
            return f"{said.member} is of another system"
        case Server() if said.receiver != "streaming":
            return f"{said.member} does not stream ({said.receiver or 'it has no receiver'})"
        case Server() if said.place.timeline != primary.place.timeline:
            return f"{said.member} is on timeline {said.place.timeline}"
    return ""


def _confirmed_again(connection: Connection) -> str:
    """A promotion cleared `synchronous_standby_names`, since nobody was left to confirm; now somebody is, so that what
    the server's own configuration says is in force again. Gives what is."""
    row = connection.execute(
        "select 1 from pg_file_settings where name = 'synchronous_standby_names' and setting = ''"
        " and sourcefile like '%postgresql.auto.conf'"
    ).fetchone()
    if row is not None:
        connection.execute("alter system reset synchronous_standby_names")
        connection.execute("select pg_reload_conf()")
    told = "select setting from pg_file_settings where name = 'synchronous_standby_names' order by seqno desc limit 1"
    last = connection.execute(told.encode()).fetchone()
    return str(last[0]) if last is not None else ""


def _await(connection: Connection, slot: str, member: str, deadline: Deadline) -> Facts:
    """The primary sees it stream through its slot."""
    row: tuple[object, ...] | None = None
    while deadline.left_seconds:
        row = connection.execute(_SLOT.encode(), [slot]).fetchone()
        if row is not None and row[0] and row[1] == "streaming":
            return {"slot": slot, "behind_bytes": int(str(row[2]))}
        time.sleep(POLL_SECONDS)
    raise Failed(
        f"{member} does not stream through the slot {slot} ({row[1] if row else 'it is not there'})",
        hint="see the standby's server log: its WAL may be gone at the primary (then `how: rebuild`)",
    )
