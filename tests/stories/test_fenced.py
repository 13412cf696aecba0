"""A fence in the lab: the sites lose each other, the witness stays; the old primary ends by itself and stays ended."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from deployments.lab import breaking, faults
from deployments.lab.postgres import leash, part
from deployments.lab.process import wait_until
from deployments.lab.status import status
from deployments.lab.world import World
from recovery.drive import Move, Truth
from recovery.errors import Refused
from recovery.hazard import Acceptance
from recovery.lease import Under
from recovery.plan import Plan
from recovery.step import Mode, Step
from recovery.term import Term
from tasks.engine import Act
from tasks.home import Home, open_home
from tasks.kind import Facts, Scene
from tasks.postgres.agent_config import load
from tasks.postgres.order_client import Agent, Done, Silent
from tasks.postgres.roles import look, witness
from tasks.postgres.roles.fence import Fence
from tasks.postgres.stopping import servers_in
from tasks.stage import Consented, Stage

pytestmark = [pytest.mark.lab, pytest.mark.slow]
DB = "orders-db"
BY: list[Any] = ["agent", "cloud", "lease"]


@pytest.fixture
def world(troubled: tuple[World, Home]) -> Iterator[World]:
    """East is the primary before and after, in an ever newer generation."""
    raised, home = troubled
    east = (("east", home.resource(DB).members["east"]),)

    def worded() -> bool:
        said = witness.leashed(home, DB, east, timeout_seconds=2)
        return said is not None and said.generation >= epoch(raised)

    eventually(worded, "the word of east's leash since it is the primary")
    yield raised
    breaking.end(raised)
    for member in ("east", "west"):
        part.start(raised, member)
    terms = witness.terms(home)
    assert terms is not None
    generation, lease = epoch(raised) + 1, taken(home)
    now = datetime.now(UTC)
    terms.write(Term(resource=DB, generation=generation, primary="east", run="r" * 64, lease=lease, at=now))
    said = agent_of(raised, "east", lease).order(
        f"home-{generation}", "start", resource=DB, site="east", generation=generation, run="r" * 64,
        patience_seconds=30,
    )  # fmt: skip
    assert isinstance(said, Done)


def taken(home: Home) -> int:
    """The lease's generation, taken by an engine of its own."""
    with Act(home=home).holding("platform", "r" * 64) as held:
        return held.generation


def agent_of(world: World, site: str, lease: int = 0) -> Agent:
    sign, under = open_home(world.home).signer(), Under(lease="platform", generation=lease)
    return Agent(url=world.url("agent", site), sign=sign, now=lambda: datetime.now(UTC), under=lambda: under)


def epoch(world: World) -> int:
    """The newest generation of all: what the witness says, and west's agent, which may have been told more."""
    said = agent_of(world, "west").get(f"/term?resource={DB}", patience_seconds=5)
    assert not isinstance(said, Silent), said
    return 0 if said["term"] is None else int(said["term"]["generation"])


class Acted:
    """One run's fence, performed as often as is asked."""

    def __init__(self, world: World, *, by: list[Any] | None = None) -> None:
        self.step = Step(id="fence", verb="fence", resource=DB, arguments={"by": by or BY}, patience_seconds=30)
        home = open_home(world.home)
        west = {each.site: each for each in look.members(home, DB)}["west"]
        line: dict[str, Any] = {"system_id": west.system_id, "timeline": west.timeline}
        plan = Plan(
            purpose="failover", runbook="failover", runbook_version="1", service="platform",
            epoch=epoch(world),
            asked_at=datetime.now(UTC), mode=Mode.UNGRACEFUL, steps=(self.step,),
            pinned={"from": "east", "to": "west", "databases": {DB: line}},
        )  # fmt: skip
        lease = taken(home)
        self.stage = Stage(home=home, plan=plan, sign=home.signer(), generation=lambda: lease)
        self.results: dict[str, Facts] = {}
        self.attempt = 0

    def signed(self) -> None:
        accepted = (Acceptance(klass="split-brain"),)
        self.stage = replace(self.stage, consented=lambda: Consented(accepted=accepted))

    @property
    def scene(self) -> Scene:
        return Scene(
            plan=self.stage.plan, results=self.results, attempts={}, now=lambda: datetime.now(UTC),
            say=lambda text, share: None, mode=Mode.UNGRACEFUL,
        )  # fmt: skip

    def perform(self) -> Facts:
        self.attempt += 1
        facts = Fence(stage=self.stage).perform(Move(step=self.step, attempt=self.attempt), self.scene)
        self.results["fence"] = facts
        return facts

    def truth(self) -> Truth:
        return Fence(stage=self.stage).observe(self.step, self.scene).truth


def eventually(holds: Callable[[], bool], what: str, patience_seconds: float = 20) -> None:
    wait_until(holds, what=what, patience_seconds=patience_seconds, hint="see the lab's logs")


def is_in(world: World, member: str, word: str) -> None:
    def there() -> bool:
        said = leash.state(world, member)
        return said is not None and said.state == word

    eventually(there, f"{member} {word}")


def held(world: World) -> str:
    return str(status(world)["sites"]["east"]["postgres"].get("held", ""))


def test_cut_off_from_each_other_the_old_primary_ends_before_the_fence_is_proved(world: World):
    home, run = open_home(world.home), Acted(world)
    before = look.fence(home, DB, "east", "west")
    assert (before.agent, before.cloud, before.lease) == ("answers", "silent", "kept")
    written: list[float] = []
    stop = threading.Event()

    def write() -> None:
        """A client inside east, who notices nothing of the network."""
        while not stop.is_set():
            with suppress(psycopg.Error), psycopg.connect(world.dsn("east", source="east"), autocommit=True) as sql:
                while not stop.is_set():
                    sql.execute("insert into standfast.beat default values")
                    written.append(time.monotonic())

    writer = threading.Thread(target=write)
    for path in ("engine-east", "east-west", "east-witness"):
        breaking.begin(world, faults.parse(f"network:{path}", "blackhole"))
    writer.start()
    try:
        assert look.fence(home, DB, "east", "west").provable(tuple(BY)) == ("lease",)
        facts = run.perform()
        proved_at = time.monotonic()
        assert facts["by"] == "lease"
        assert "agent" not in facts["proof"]
        assert written
        assert max(written) < proved_at - leash.CLOCK_BOUND_SECONDS, "nothing was written near the proof, or after it"
        assert not servers_in(world.data_dir("east"))
        assert run.truth() is Truth.HOLDS
    finally:
        stop.set()
        writer.join(20)
    breaking.end(world)
    is_in(world, "east", "held")
    told = status(world)["sites"]["east"]["postgres"]
    assert told["held"], "by the newer term, or by the order to stop that got through when the network healed"
    assert (told["state"], told["pid"]) == ("held", None)
    world.processes.kill(part.name("east"))  # and its machine comes back
    assert part.start(world, "east").pid == 0
    assert held(world)
    assert max(written) < proved_at
    assert run.truth() is Truth.HOLDS


def test_an_agent_that_answers_proves_it_at_once_and_the_order_stands(world: World):
    run = Acted(world)
    assert run.truth() is Truth.ABSENT
    begun = time.monotonic()
    facts = run.perform()
    assert facts["by"] == "agent"
    assert time.monotonic() - begun < leash.LEASE_SECONDS, "nobody waits for a lease when a fact is there"
    proof = facts["proof"]
    assert isinstance(proof, dict)
    assert proof["east"]["process_gone"]
    assert proof["east"]["port_closed"]
    assert run.truth() is Truth.HOLDS
    assert run.perform()["by"] == "agent", "again is harmless"
    later = Acted(world)
    assert later.truth() is Truth.ABSENT
    assert later.perform()["by"] == "agent"
    with pytest.raises(Refused, match="generation"):
        run.perform()
    assert run.truth() is Truth.HOLDS, "a newer fence of the same site is a fence"


def test_a_primary_that_sleeps_is_killed_by_its_agent(world: World):
    breaking.begin(world, faults.parse("postgres:east", "stop"))
    facts = Acted(world, by=["agent"]).perform()
    assert facts["by"] == "agent"
    assert not servers_in(world.data_dir("east"))
    breaking.end(world)
    part.start(world, "east")
    assert "stopped by order" in held(world)


def test_a_site_that_is_lost_whole_is_fenced_by_the_word_that_its_leash_left(world: World):
    run = Acted(world)
    breaking.begin(world, faults.parse("site:east", "kill"))
    seen = look.fence(open_home(world.home), DB, "east", "west")
    assert (seen.agent, seen.lease) == ("silent", "kept")
    members = {each.site: each for each in look.members(open_home(world.home), DB)}
    assert {site: each.role for site, each in members.items()} == {"east": "silent", "west": "standby"}
    assert members["west"].behind_seconds is not None
    assert run.perform()["by"] == "lease"
    breaking.end(world)
    is_in(world, "east", "held")
    assert run.truth() is Truth.HOLDS


def test_without_witness_and_agent_it_is_refused_until_people_sign(world: World):
    home = open_home(world.home)
    run = Acted(world)
    breaking.begin(world, faults.parse("network:engine-east", "cut"))
    breaking.begin(world, faults.parse("network:engine-witness", "cut"))
    assert look.fence(home, DB, "east", "west").provable(tuple(BY)) == ()
    run.step = run.step.but(patience_seconds=3)
    with pytest.raises(Refused, match="can be proved") as refusal:
        run.perform()
    assert "proves nothing" in refusal.value.hint
    is_in(world, "east", "running")
    run.signed()
    facts = run.perform()
    assert facts["by"] == "hazard"
    assert facts["posted"]["west"] == "accepted"  # type: ignore[index,call-overload]
    assert run.truth() is Truth.HOLDS
    is_in(world, "east", "held")  # west's agent carries the term to the witness, which only the engine did not reach


def test_a_restarted_agent_goes_on_with_an_order(world: World):
    run = Acted(world)
    agent = agent_of(world, "east", run.stage.generation())
    words: dict[str, Any] = {
        "resource": DB, "site": "east", "generation": epoch(world) + 1, "run": run.stage.plan.run,
        "arguments": {"mode": "fast"}, "patience_seconds": 30.0,
    }  # fmt: skip
    answers: list[Any] = []
    asking = threading.Thread(target=lambda: answers.append(agent.order("fence-1", "stop", **words)))
    asking.start()
    file = load(world.folder("east") / "agent.json").state_dir / "orders" / "fence-1.json"
    eventually(file.exists, "the order on disk")
    pid = agent.get("/health", patience_seconds=2)["pid"]
    os.kill(pid, signal.SIGKILL)
    asking.join(30)
    assert isinstance(answers[0], Done)
    assert answers[0].facts["clean"]
    assert not servers_in(world.data_dir("east"))
