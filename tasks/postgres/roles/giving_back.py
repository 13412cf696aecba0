"""Giving the primary's role back: a run was cancelled after the old primary was stopped and before any promotion.

Separate from unfence, which is a step: this undoes. The law is the fence's own: no second writer. So nothing is given
back once a promotion has begun, or while the other site might write; then it is said what a person can do.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import JsonValue

from recovery.drive import History
from recovery.errors import DrError, Failed, Refused
from recovery.journal import history
from recovery.plan import Plan
from recovery.policy import FencePolicy
from recovery.term import Term, newest, wait_seconds
from tasks.engine import read_plan
from tasks.journal import read_records
from tasks.kind import Facts
from tasks.postgres.order_client import Agent, Silent
from tasks.postgres.reading import Deadline, reading
from tasks.postgres.roles import posting, servers, witness
from tasks.postgres.roles.demote import allow_writes
from tasks.postgres.roles.fence_ways import LOOK_SECONDS
from tasks.stage import Stage

START_SECONDS = 60.0
AGENT_SECONDS = 10.0
WRITES_SECONDS = 15.0
POLL_SECONDS = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class GiveBack:
    """One database of a cancelled run. `told`: the run's history."""

    stage: Stage
    resource: str
    told: History
    changed: bool
    """Whether the roles of the service have changed since the plan."""

    def __call__(self) -> Facts:
        """Facts: `kept` with why where nothing may be given back; else `site`, `term`, `posted`, `started`, `writes`,
        `why`. Empty when there was nothing to undo. Raises Failed when it has to be tried again ('dr act')."""
        known, seen_at = self._known()
        if why := self._barred(known):
            return {"kept": why}
        said = servers.ask_all(self.stage.members(self.resource, self.stage.source))
        serving = servers.primaries(said)
        named = known is not None and known.primary != self.stage.source
        asleep = not named and self._asleep(known)
        if serving and not named and not serving[0].read_only and not asleep:
            return {}
        facts: Facts = {"site": self.stage.source}
        turn = 0 if known is None else known.turn
        if named or asleep:
            turn += 1
            facts |= self._post(known, seen_at, turn, named=named)
        silent = [each.member for each in said.values() if isinstance(each, servers.Silent)]
        started, unasked = self._start(silent if not serving else (), self._order_id(turn))
        facts["started"] = dict[str, JsonValue](started)
        writer = self._writes(patient="running" in started.values() or bool(serving))
        if unasked and not writer:
            raise Failed(
                f"{self.stage.source} may write {self.resource} again, and nobody could order it to start: {unasked}",
                hint=f"when its agent answers again, 'dr act {self.stage.plan.run[:12]}' starts it; where that machine"
                f" is lost for good, go on to {self.stage.target} with a new plan ('dr plan failover --to"
                f" {self.stage.target}'), behind which the same command ends this run",
            )
        facts["writes"] = writer
        facts["why"] = (
            f"{self.stage.source} is the primary of {self.resource} again"
            if writer
            else f"{self.stage.source} may write {self.resource} again and does not yet: "
            "it starts as soon as its machine is there and its leash can confirm; "
            "where 'dr agent status' on that machine says 'leash held', an order keeps it stopped, which a change of "
            f"roles ends: go on to {self.stage.target} with a new plan ('dr plan failover --to {self.stage.target}')"
        )
        return facts

    def _asleep(self, known: Term | None) -> bool:
        """Whether an engine that began to fence and never told the end may still post its term, because it only sleeps
        and nothing stands there that is written under a newer generation of the lease."""
        if known is not None and known.lease >= self.stage.generation():
            return False
        steps = (each.id for each in self.stage.plan.steps if (each.verb, each.resource) == ("fence", self.resource))
        return any(each.is_open or each.cut_off for each in map(self.told.of, steps))

    def _barred(self, known: Term | None) -> str:
        """Why nothing may be given back, or nothing."""
        stage, name = self.stage, self.resource
        if self.changed:
            return f"the roles of {stage.plan.service} have changed since: this run has nothing to give back"
        if known is not None and known.generation > stage.term:
            return f"run {known.run[:12]} has begun a newer change of {name}"
        for plan, told in self._runs(known):
            if promoting(plan, told, name):
                return (
                    f"the promotion of {name} at {stage.target} had begun: {stage.source} stays fenced; "
                    f"go on to {stage.target} with a new plan ('dr plan {plan.runbook} --to {stage.target}'), "
                    f"and go home later with 'dr plan failback --to {stage.source}'"
                )
        there = servers.ask_all(stage.members(name, stage.target))
        if writers := servers.primaries(there):
            return f"{writers[0].member} takes writes: {stage.source} stays fenced, so that there is no second writer"
        return ""

    def _runs(self, known: Term | None) -> Iterable[tuple[Plan, History]]:
        """This run, and the one that posted the term where that was another in the same epoch."""
        yield self.stage.plan, self.told
        if known is not None and known.run != self.stage.plan.run:
            ledger = self.stage.home.ledger()
            records = read_records(ledger, known.run)
            if records:
                yield read_plan(ledger, known.run), history(records)

    def _known(self) -> tuple[Term | None, Term | None]:
        """The newest term that anybody knows, and the witness's own. Raises Failed when nobody answers at all."""
        at_witness: Term | None = None
        trouble: Failed | None = None
        try:
            at_witness = witness.term_now(self.stage.home, self.resource, timeout_seconds=LOOK_SECONDS)
        except Failed as silent:
            trouble = silent
        asked = [
            agent.get(f"/term?resource={self.resource}", patience_seconds=LOOK_SECONDS) for _, agent in self._agents()
        ]
        said = [each for each in asked if isinstance(each, dict)]
        if trouble is not None and not said:
            raise trouble
        told = [Term.model_validate(each["term"]) for each in said if each.get("term") is not None]
        return newest(at_witness, *told), at_witness

    def _agents(self) -> list[tuple[str, Agent]]:
        resource = self.stage.resource(self.resource)
        made = [(resource.site_of(name), member) for name, member in resource.members.items()]
        urls = {member.agent: site for site, member in made if member.agent}
        return [(site, self._agent(url)) for url, site in urls.items() if url]

    def _agent(self, url: str) -> Agent:
        return Agent(url=url, sign=self.stage.sign, now=self.stage.home.now, under=self.stage.under)

    def _order_id(self, turn: int) -> str:
        """New in each turn, and in each generation of the lease, so that a start that failed can be ordered again."""
        return f"{self.resource}-give-back-{self.stage.plan.digest[:8]}-{self.stage.generation()}-{turn}"

    def _post(self, known: Term | None, at_witness: Term | None, turn: int, *, named: bool) -> Facts:
        """The term names the source again, one turn later. Where it was `named` the other site's, that may not write
        any more before the source may."""
        home = self.stage.home
        store = witness.terms(home)
        if store is not None and at_witness is not None and known is not None and at_witness.order < known.order:
            store.carry(known)
        wanted = Term(
            resource=self.resource,
            generation=self.stage.term,
            turn=turn,
            primary=self.stage.source,
            run=self.stage.plan.run,
            lease=self.stage.generation(),
            at=home.now(),
        )
        if named:
            self._other_side_is_bound(wanted)
        agents = sorted(self._agents(), key=lambda each: each[0] == self.stage.source)
        post = posting.Post(witness=store, agents=tuple(agents), order_id=self._order_id(wanted.turn))
        posted = post(wanted)
        if posted.witness and all(posted.agents.values()):
            raise Failed(
                f"nobody could be told that {self.stage.source} is the primary again: {posted.witness}",
                hint="see whether the witness and the agents answer, then act on the run again ('dr act')",
            )
        if named:
            self._outlive(posted)
        return {
            "term": posted.term.model_dump(mode="json"),
            "posted": {
                "witness": posted.witness or "written",
                **{k: v or "accepted" for k, v in posted.agents.items()},
            },
        }

    def _silent_there(self) -> tuple[str, ...]:
        said = servers.ask_all(self.stage.members(self.resource, self.stage.target))
        return tuple(each.member for each in said.values() if isinstance(each, servers.Silent))

    def _other_side_is_bound(self, wanted: Term) -> None:
        """A site that does not answer is not proved to be a standby: only its leash bounds it. Raises Refused."""
        silent = self._silent_there()
        if not silent:
            return
        members = tuple(each for each in self.stage.members(self.resource, self.stage.target) if each[0] in silent)
        if witness.leashed(self.stage.home, self.resource, members, timeout_seconds=LOOK_SECONDS) is None:
            raise Refused(
                f"{', '.join(silent)} does not answer and runs under no leash: that it writes is not excluded",
                hint=f"stop it there by hand, then act on the run again so that {wanted.primary} gets its role back",
            )

    def _outlive(self, posted: posting.Posted) -> None:
        """Where the other site is silent, its permits have to lapse first. Raises Failed while they are not bounded."""
        silent = self._silent_there()
        if not silent:
            return
        members = tuple(each for each in self.stage.members(self.resource, self.stage.target) if each[0] in silent)
        bound = witness.leashed(self.stage.home, self.resource, members, timeout_seconds=LOOK_SECONDS)
        if bound is None:
            raise Failed(f"the leash of {', '.join(silent)} is not known any more", hint="act on the run again")
        if lacking := posted.lacking(bound.asks, witness.witness_site(self.stage.home)):
            raise Failed(
                "; ".join(f"{each} does not know the term: {why}" for each, why in lacking.items()),
                hint="see whether they answer, then act on the run again",
            )
        policy = self.stage.resource(self.resource).fence or FencePolicy()
        lease, clocks = policy.lease.total_seconds(), policy.clock_bound.total_seconds()
        ends = posted.at_mono + wait_seconds(bound, lease_seconds=lease, clock_bound_seconds=clocks)
        time.sleep(max(0.0, ends - time.monotonic()))

    def _start(self, silent: Iterable[str], order_id: str) -> tuple[dict[str, str], str]:
        """Member → `running`, or why it is not; and which agent could not be asked and why, if one: what an order has
        stopped does not start by itself. Raises Failed when its agent tried and could not."""
        members = dict(self.stage.members(self.resource, self.stage.source))
        told: dict[str, str] = {}
        unasked = ""
        for name in silent:
            url = members[name].agent
            if url is None:
                told[name] = "no agent serves it: start it by hand"
                continue
            if isinstance(said := self._agent(url).get("/status", patience_seconds=LOOK_SECONDS), Silent):
                told[name] = unasked = f"the agent of {name} is silent: {said.why}"
                continue
            try:
                done = self._agent(url).order(
                    f"{order_id}-start-{name}",
                    "start",
                    resource=self.resource,
                    site=self.stage.source,
                    generation=self.stage.term,
                    run=self.stage.plan.run,
                    arguments={"patience_seconds": START_SECONDS},
                    patience_seconds=START_SECONDS + AGENT_SECONDS,
                )
            except Refused as refusal:
                told[name] = refusal.fact
                continue
            told[name] = "running"
            if isinstance(done, Silent):
                told[name] = unasked = f"the agent of {name} did not answer: {done.why}"
        return told, unasked

    def _writes(self, *, patient: bool) -> str:
        """The member that takes writes again, its read-only default taken back; empty when there is none."""
        members = dict(self.stage.members(self.resource, self.stage.source))
        deadline = Deadline(WRITES_SECONDS if patient else LOOK_SECONDS)
        while True:
            for each in servers.primaries(servers.ask_all(members.items())):
                if not each.read_only:
                    return each.member
                with reading(members[each.member].dsn, Deadline(5)) as connection:
                    allow_writes(connection)
            if not deadline.left_seconds:
                return ""
            time.sleep(POLL_SECONDS)


def promoting(plan: Plan, told: History, resource: str = "") -> bool:
    """Whether a run has begun to promote the database, or any."""
    return any(
        told.of(step.id).begun > 0 for step in plan.steps if step.verb == "promote" and resource in ("", step.resource)
    )


def give_back(stage: Stage, resource: str, told: History, *, changed: bool) -> Facts:
    """See GiveBack. What can never be given back is told as kept, and ends nothing."""
    try:
        return GiveBack(stage=stage, resource=resource, told=told, changed=changed)()
    except Refused as refusal:
        return {"kept": f"{refusal.fact}; {refusal.hint}"}
    except DrError as trouble:
        trouble.add_note(f"{stage.source} has not got its role of {resource} back yet")
        raise
