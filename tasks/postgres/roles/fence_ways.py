"""The ways of a fence: the agent's word, the cloud's, the lapsed lease. Each gives a proof, or why there is none.

Separate from the verb, which tries them at once: here is only what each of them takes for proved.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from recovery.catalog import Member
from recovery.drive import Move
from recovery.policy import FencePolicy
from recovery.step import Mode
from recovery.term import Leashed, doubt, strictest, wait_seconds
from tasks.kind import Facts, Scene
from tasks.postgres.order_client import Agent, Done, Silent
from tasks.postgres.reading import Deadline
from tasks.postgres.roles import cloud, servers, witness
from tasks.postgres.roles.choosing import Pinned, not_meant, pinned_of, whom
from tasks.postgres.roles.posting import Posted
from tasks.postgres.stopping import Stopped
from tasks.stage import Stage

FAST_SECONDS = 2.0
"""How long a clean end of the old primary may take: it hands the standby what it still has."""
AGENT_SECONDS = 6.0
"""How long a silent agent is asked when its site is lost."""
ALIVE_SECONDS = 60.0
"""How long in a graceful change: its site is alive, so an agent that is silent has died and is started again; to give
up leaves users, whose primary is demoted already, without any."""
SIGNED_SECONDS = 3.0
"""How long when people have signed that it may be left unfenced."""
LOOK_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Proof:
    """One way's answer: proved with these facts, or why not."""

    way: str
    why_not: str = ""
    facts: Facts = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Ground:
    """What one performance stands on."""

    stage: Stage
    move: Move
    scene: Scene
    name: str
    order_id: str
    suspects: tuple[tuple[str, Member], ...]
    """The members at the site that is left which may be its primary."""
    deadline: Deadline
    over: threading.Event

    def agent(self, url: str) -> Agent:
        """An agent, as this run speaks to it."""
        return Agent(url=url, sign=self.stage.sign, now=self.scene.now, under=self.stage.under)

    @property
    def signed(self) -> bool:
        """Whether people accepted that there may be two primaries."""
        return self.stage.accepted("split-brain")


def by_agent(ground: Ground) -> Proof:
    """The agent on the old primary's machine: stopped, by its process, its port and its data."""
    if not ground.suspects:
        return Proof(way="agent", facts={"why": "every server there follows another"})
    pinned = pinned_of(ground.scene, ground.name)
    proved: Facts = {}
    for member, at in ground.suspects:
        if at.agent is None:
            return Proof(way="agent", why_not=f"no agent serves {member}")
        said = _ordered_to_stop(ground, member, at.agent, pinned)
        if isinstance(said, Silent):
            return Proof(way="agent", why_not=said.why)
        if why := not_meant(said.facts, member, pinned):
            return Proof(way="agent", why_not=why)
        stopped = Stopped.model_validate(said.facts["stopped"])
        if not stopped.proved:
            return Proof(way="agent", why_not=f"{member} is not stopped")
        proved[member] = stopped.model_dump(mode="json")
    return Proof(way="agent", facts=proved)


def _ordered_to_stop(ground: Ground, member: str, url: str, pinned: Pinned) -> Done | Silent:
    patience = agent_patience_seconds(ground.scene.mode, signed=ground.signed)
    while True:
        said = ground.agent(url).order(
            f"{ground.order_id}-stop-{member}",
            "stop",
            resource=ground.name,
            site=ground.stage.source,
            generation=ground.stage.term,
            run=ground.scene.plan.run,
            arguments={"fast_seconds": FAST_SECONDS, **whom(member, pinned)},
            patience_seconds=min(patience, max(0.5, ground.deadline.left_seconds)),
            until=ground.over.is_set,
        )
        if isinstance(said, Done) or not said.underway or not ground.deadline.left_seconds or ground.over.is_set():
            return said


def agent_patience_seconds(mode: Mode, *, signed: bool) -> float:
    """How long a silent agent is asked."""
    if signed:
        return SIGNED_SECONDS
    return ALIVE_SECONDS if mode is Mode.GRACEFUL else AGENT_SECONDS


def by_cloud(ground: Ground) -> Proof:
    """The cloud's API: the old primary's machine is stopped."""
    proved: Facts = {}
    for member, at in ground.suspects:
        if at.instance is None:
            return Proof(way="cloud", why_not=f"not configured: the catalog names no instance of {member}")
        region = ground.stage.home.catalog.sites[ground.stage.source].region
        proved[member] = cloud.stop(at.instance, region=region, deadline=ground.deadline, over=ground.over.is_set)
    return Proof(way="cloud", facts=proved)


def by_lease(ground: Ground, posted: Posted) -> Proof:
    """The old primary's leash: nobody can have confirmed it since the term was posted, and its time has passed."""
    home = ground.stage.home
    site = witness.witness_site(home)
    if site is None:
        return Proof(way="lease", why_not="the catalog has no witness")
    words = witness.words(home, ground.name, ground.suspects, timeout_seconds=LOOK_SECONDS)
    if why := _doubt(ground, words):
        return Proof(way="lease", why_not=why)
    found = strictest(words)
    if lacking := posted.lacking(found.asks, site):
        return Proof(
            way="lease", why_not="; ".join(f"{each} may still confirm: {why}" for each, why in lacking.items())
        )
    policy = ground.stage.resource(ground.name).fence or FencePolicy()
    seconds = wait_seconds(
        found,
        lease_seconds=policy.lease.total_seconds(),
        clock_bound_seconds=policy.clock_bound.total_seconds(),
    )
    end = posted.at_mono + seconds
    while (left := end - time.monotonic()) > 0:
        ground.scene.say(f"the old primary's lease ends in {left:.1f} s", 1 - left / seconds)
        if ground.over.wait(min(left, 0.5)):
            return Proof(way="lease", why_not="another way was faster")
    if not witness.words(home, ground.name, ground.suspects, timeout_seconds=LOOK_SECONDS):
        why = "its leash's word was taken back meanwhile: a server runs there that no leash ends"
        return Proof(way="lease", why_not=why)
    return Proof(
        way="lease",
        facts={"waited_seconds": round(seconds, 3), "leashed": found.model_dump(mode="json"), "asks": list(found.asks)},
    )


def _doubt(ground: Ground, words: tuple[Leashed, ...]) -> str:
    """Why the words are not believed. The other site's servers tell until when the old primary has surely worked."""
    stage, plan = ground.stage, ground.scene.plan
    if not words:
        return f"{stage.source} is not known to run under a leash"
    there = servers.ask_all(stage.members(ground.name, stage.target))
    return doubt(
        words,
        site=stage.source,
        system_id=pinned_of(ground.scene, ground.name).system_id,
        since=witness.since(stage.home, plan, ground.name),
        committed_at=servers.committed_at(there),
    )
