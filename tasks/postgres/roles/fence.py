"""The verb `fence`: prove that the old primary can write no more, by a positive fact or by its lapsed lease.

TRUTH.md is the law: unreachable is never a proof, and neither is read-only. All ways that the step names are tried at
once, and the first proof wins: the agent on its machine says that the server is stopped; the cloud says that the
machine is; or the term that names the other site is known wherever the old primary's leash could still be told
otherwise, and the time of its permit and of the clocks has passed since. Without any, people have signed the hazard, or
nothing goes on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from pydantic import JsonValue

from recovery.drive import Move, Seen, Truth
from recovery.errors import DrError, Failed, Refused
from recovery.step import Step
from recovery.term import Term
from recovery.value import rfc3339
from recovery.verb import VERBS, ways
from tasks.kind import Facts, Scene
from tasks.postgres.order_client import Agent
from tasks.postgres.reading import Deadline
from tasks.postgres.roles import posting, servers, witness
from tasks.postgres.roles.fence_ways import LOOK_SECONDS, Ground, Proof, by_agent, by_cloud, by_lease
from tasks.postgres.roles.posting import Posted
from tasks.stage import Stage


@dataclass(frozen=True, kw_only=True, slots=True)
class Fence:
    """See the module."""

    stage: Stage

    def observe(self, step: Step, scene: Scene) -> Seen:
        """See Verb.observe. Holds while it is on record and the term still stands: a leash keeps the old primary
        stopped for as long as that; where there is none, its server is looked at as well."""
        facts = scene.results.get(step.id)
        if facts is None:
            return Seen(truth=Truth.ABSENT, why=f"{self.stage.source} is not fenced by this run")
        if facts.get("by") == "hazard":
            return Seen(truth=Truth.HOLDS, why="people signed that two primaries are possible")
        if facts.get("leashed") is not True:
            again = servers.primaries(servers.ask_all(self.stage.members(step.resource, self.stage.source)))
            if again:
                return Seen(truth=Truth.ABSENT, why=f"{again[0].member} takes writes again")
        try:
            known = self._term(step.resource, scene)
        except DrError as trouble:
            return Seen(truth=Truth.UNKNOWN, why=trouble.fact)
        if known is None or known.primary != self.stage.target or known.generation < self.stage.term:
            said = "nobody's" if known is None else f"{known.primary}'s in generation {known.generation}"
            return Seen(truth=Truth.ABSENT, why=f"the term is {said}")
        return Seen(truth=Truth.HOLDS)

    def perform(self, move: Move, scene: Scene) -> Facts:
        """See Verb.perform."""
        clock = time.monotonic()
        ground = self._ground(move, scene)
        named = ways(VERBS["fence"], scene.arguments(move.step))
        answers: SimpleQueue[Proof] = SimpleQueue()
        first = [way for way in named if way in ("agent", "cloud")]
        try:
            for way in first:
                _begin(answers, way, {"agent": by_agent, "cloud": by_cloud}[way], ground)
            scene.say("telling everybody who the primary is", None)
            posted = self._post(ground)
            if "lease" in named:
                _begin(answers, "lease", lambda each: by_lease(each, posted), ground)
            proof, why_not = _first(answers, len(named), ground.deadline)
            if proof is None and not ground.signed:
                raise Refused(
                    f"no fence of {ground.name} at {self.stage.source} can be proved: "
                    + "; ".join(f"{way}: {why}" for way, why in why_not.items()),
                    hint="stop the old primary by hand so that its agent can say so, or let the same people accept"
                    " split-brain; that it does not answer proves nothing",
                )
            if proof is None or posted.witness:
                # Proved by a positive fact, or signed: the new primary's leash may run though the witness is silent.
                if not posted.witness:
                    self._unbind(ground)
                posted = self._post(ground, unconfirmed=True)
        finally:
            ground.over.set()
        return {
            "by": "hazard" if proof is None else proof.way,
            "proof": {} if proof is None else dict(proof.facts),
            "leashed": self._leashed(ground) and _by_leashes(proof),
            "term": posted.term.model_dump(mode="json"),
            "posted": {
                "witness": posted.witness or "written",
                **{k: v or "accepted" for k, v in posted.agents.items()},
            },
            "not_proved": dict[str, JsonValue](why_not),
            "at": rfc3339(scene.now()),
            "seconds": round(time.monotonic() - clock, 3),
        }

    def _ground(self, move: Move, scene: Scene) -> Ground:
        name, source = move.step.resource, self.stage.source
        suspects = self.stage.members(name, source)
        if len(suspects) > 1:
            said = servers.ask_all(suspects)
            follow = {each.member for each in servers.standbys(said)}
            suspects = tuple(each for each in suspects if each[0] not in follow)
        return Ground(
            stage=self.stage,
            move=move,
            scene=scene,
            name=name,
            order_id=scene.name(move.step, move.attempt),
            suspects=suspects,
            deadline=Deadline(move.step.patience_seconds),
            over=threading.Event(),
        )

    def _post(self, ground: Ground, *, unconfirmed: bool = False) -> Posted:
        """At the witness and at the agents of every site but the one that is left."""
        resource = self.stage.resource(ground.name)
        agents: list[tuple[str, Agent]] = []
        for site in dict.fromkeys(resource.site_of(each) for each in resource.members):
            if site == self.stage.source or (unconfirmed and site != self.stage.target):
                continue
            agents += [(site, each) for each in posting.agents_of(resource.at(site), ground.agent)]
        post = posting.Post(
            witness=witness.terms(self.stage.home), agents=tuple(agents), order_id=ground.order_id
        )  # fmt: skip
        wanted = Term(
            resource=ground.name,
            generation=self.stage.term,
            primary=self.stage.target,
            run=ground.scene.plan.run,
            lease=self.stage.generation(),
            at=ground.scene.now(),
        )
        return post(wanted, unconfirmed=unconfirmed, through_witness=not unconfirmed)

    def _unbind(self, ground: Ground) -> None:
        """A server that may run unconfirmed is not fenced by a lapse: its leash's word waits until that is there again.
        At a witness that is silent the word says by its generation that it is an old one."""
        there = self.stage.members(ground.name, self.stage.target)
        with suppress(Failed):
            witness.take_back(self.stage.home, ground.name, there, timeout_seconds=LOOK_SECONDS)

    def _leashed(self, ground: Ground) -> bool:
        """Whether a leash keeps the old primary stopped from now on."""
        try:
            found = witness.leashed(self.stage.home, ground.name, ground.suspects, timeout_seconds=LOOK_SECONDS)
        except Failed:
            return False
        return found is not None

    def _term(self, resource: str, scene: Scene) -> Term | None:
        """At the witness; while that is silent, as an agent of the site that takes over knows it. Raises Failed."""
        try:
            return witness.term_now(self.stage.home, resource, timeout_seconds=LOOK_SECONDS)
        except Failed as silent:
            for _, member in self.stage.members(resource, self.stage.target):
                agent = Agent(url=member.agent or "", sign=self.stage.sign, now=scene.now, under=self.stage.under)
                said = agent.get(f"/term?resource={resource}", patience_seconds=LOOK_SECONDS) if member.agent else None
                if isinstance(said, dict):
                    told = said.get("term")
                    return None if told is None else Term.model_validate(told)
            raise silent from None


def _by_leashes(proof: Proof | None) -> bool:
    """Whether an agent that stopped the server says that a leash keeps it so; the other ways say nothing of that."""
    if proof is None or proof.way != "agent":
        return True
    return all(isinstance(each, dict) and each.get("leashed") is True for each in proof.facts.values())


def _begin(answers: SimpleQueue[Proof], way: str, do: Callable[[Ground], Proof], ground: Ground) -> None:
    def run() -> None:
        try:
            answers.put(do(ground))
        except DrError as trouble:
            answers.put(Proof(way=way, why_not=trouble.fact))
        except BaseException as trouble:
            answers.put(Proof(way=way, why_not=f"unexpected {type(trouble).__name__}: {trouble}"))
            raise

    threading.Thread(target=run, daemon=True, name=f"fence by {way}").start()


def _first(answers: SimpleQueue[Proof], count: int, deadline: Deadline) -> tuple[Proof | None, dict[str, str]]:
    """The first proof; without one, every way's reason."""
    why_not: dict[str, str] = {}
    for answer in _answers(answers, count, deadline):
        if not answer.why_not:
            return answer, why_not
        why_not[answer.way] = answer.why_not
    if len(why_not) < count:
        why_not["patience"] = "the step's patience ended first"
    return None, why_not


def _answers(answers: SimpleQueue[Proof], count: int, deadline: Deadline) -> Iterator[Proof]:
    for _ in range(count):
        try:
            yield answers.get(timeout=max(0.01, deadline.left_seconds))
        except Empty:
            return
