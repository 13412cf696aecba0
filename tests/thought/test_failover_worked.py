"""PLAN.md's worked example as data: each case is a story of plans, people, machines and kills, with what must come."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from recovery.admission import Consents, Report, Resume, RunState, Start, accepted, admit
from recovery.approval import Given, GivenStanding
from recovery.begun import Begun
from recovery.drive import Finish, History, Perform, Seen, Tried, Truth, next_moves, settled, to_observe
from recovery.errors import Refused
from recovery.failover import Asked, Proposal, asked_of, lease_of, make, propose, rpo_seconds
from recovery.hazards import hazards
from recovery.observation import FenceSeen, Observation
from recovery.plan import NothingToDo, Plan
from tests.thought import failover_scene as scene

CASES = sorted((Path(__file__).resolve().parents[1] / "cases" / "plans").glob("*.yaml"))


class Killed(Exception):
    """`kill -9` of the process that acts."""


@dataclass
class World:
    epoch: int = 0
    behind_seconds: float = 1.0
    lease: str = "kept"
    timeline: int = 1
    failing_seconds: float = 20.0
    primary: str = "east"
    now: datetime = scene.NOW
    running: dict[str, str] = field(default_factory=dict)
    plans: dict[str, Plan] = field(default_factory=dict)
    given: list[Given] = field(default_factory=list)
    standing: list[GivenStanding] = field(default_factory=list)
    spent: dict[str, str] = field(default_factory=dict)
    begun: dict[str, Begun] = field(default_factory=dict)
    tried: dict[str, dict[str, Tried]] = field(default_factory=dict)
    outcomes: dict[str, str] = field(default_factory=dict)
    true: dict[str, set[str]] = field(default_factory=dict)
    effects: Counter[tuple[str, str]] = field(default_factory=Counter)
    order: list[str] = field(default_factory=list)

    def seen(self) -> Observation:
        return scene.seen(
            behind_seconds=self.behind_seconds,
            primary=self.primary,
            epoch=self.epoch,
            timeline=self.timeline,
            fence=FenceSeen(lease=self.lease, agent="answers" if self.behind_seconds == 0 else "silent"),  # type: ignore[arg-type]
            failing_seconds=self.failing_seconds,
            running=self.running,
        )

    def plan(self, event: dict[str, Any]) -> None:
        asked_at = self.now + timedelta(seconds=event.get("later_seconds", 0))
        asked = Asked(service="core", to=event["to"], asked_at=asked_at, max_loss=event.get("max_loss"))
        made = propose(asked, scene.runbook(event["runbook"]), scene.catalog(), self.seen())
        if "nothing" in event:
            assert made == NothingToDo(why=event["nothing"])
            return
        assert isinstance(made, Proposal)
        if "hazards" in event:
            assert [hazard.words for hazard in made.hazards] == event["hazards"]
        self.plans[event["name"]] = made.plan

    def approve(self, event: dict[str, Any]) -> None:
        plan = self.plans[event["plan"]]
        self.now += timedelta(seconds=1)
        one = scene.approval(
            plan.digest,
            plan.epoch,
            event["who"],
            event.get("accept", []),
            variant=event.get("variant", "ungraceful"),
            valid=not event.get("forged", False),
            at=self.now,
        )
        self.given.append(one)

    def stand(self, event: dict[str, Any]) -> None:
        one = scene.standing(event["runbook"], event["who"], event["conditions"], event["accept"])
        self.standing.append(one)

    def set(self, event: dict[str, Any]) -> None:
        for name, value in event.items():
            if name != "do":
                setattr(self, name, value)

    def lapse_lease(self, event: dict[str, Any]) -> None:
        self.now += timedelta(minutes=1)

    def act(self, event: dict[str, Any]) -> None:
        plan = self.plans[event["plan"]]
        if "refused" in event:
            before = (dict(self.running), dict(self.spent), Counter(self.effects))
            with pytest.raises(Refused) as caught:
                self.admit(plan)
            assert event["refused"] in caught.value.fact
            assert (self.running, self.spent, self.effects) == before, "a refusal touches nothing"
            return
        match self.admit(plan):
            case Start() as start:
                assert event["gives"] == "started"
                self.spent |= dict.fromkeys(start.spends, plan.digest)
                self.begun[plan.run] = Begun(
                    at=self.now,
                    by=start.by,
                    spends=start.spends,
                    standing=start.standing,
                    accepted=tuple(accepted(start, self.consents())),
                    hazards=hazards(plan, self.seen(), rpo_seconds=rpo_seconds(scene.catalog())),
                    vouched=True,
                )
            case Resume():
                assert event["gives"] == "resumed"
            case Report(outcome=outcome):
                assert event["gives"] == f"reported {outcome}"
                return
        self.running[lease_of(plan)] = plan.digest
        try:
            self.drive(plan, event.get("killed_before"), event.get("killed_after"))
        except Killed:
            assert event["ends"] == "killed"
            return
        assert event["ends"] == "finished"
        self.outcomes[plan.run] = "finished"
        del self.running[lease_of(plan)]
        if plan.pinned["live"]:
            self.epoch, self.primary = self.epoch + 1, str(plan.pinned["to"])

    def admit(self, plan: Plan) -> Start | Resume | Report:
        seen = self.seen()
        derived = make(asked_of(plan), scene.runbook(plan.runbook), scene.catalog(), seen)
        return admit(
            plan,
            derived,
            seen,
            hazards(plan, seen, rpo_seconds=rpo_seconds(scene.catalog())),
            state=RunState(begun=self.begun.get(plan.run), outcome=self.outcomes.get(plan.run)),
            consents=self.consents(),
            now=self.now,
        )

    def consents(self) -> Consents:
        return Consents(policy=scene.policy(), given=self.given, standing=self.standing, spent=self.spent)

    def drive(self, plan: Plan, killed_before: str | None, killed_after: str | None) -> None:
        tried, true = self.tried.setdefault(plan.run, {}), self.true.setdefault(plan.run, set())
        for _ in range(200):
            history = History(steps=dict(tried))
            look = {
                step.id: Seen(truth=Truth.HOLDS if step.id in true else Truth.ABSENT)
                for step in to_observe(plan, history)
            }
            decision = next_moves(plan, history, look, self.now)
            if isinstance(decision, Finish):
                return
            assert isinstance(decision, Perform), decision
            for move in decision.moves:
                name = move.step.id
                assert plan.before[name] <= settled(plan, history, look)
                last = tried.get(name, Tried())
                tried[name] = replace(last, begun=move.attempt, last_begun_at=self.now)
                if name == killed_before:
                    raise Killed
                true.add(name)
                self.effects[plan.run, name] += 1
                self.order.append(name)
                if name == killed_after:
                    raise Killed
                tried[name] = replace(tried[name], ended=last.ended + 1)
        pytest.fail("it never ended")


@pytest.mark.parametrize("case", CASES, ids=lambda file: file.stem)
def test_the_story_goes_as_it_is_told(case: Path) -> None:
    told = YAML(typ="safe", pure=True).load(case.read_text())
    start = {name: told[name] for name in ("epoch", "behind_seconds") if name in told}
    world = World(**{"behind_seconds": 0.0, **start})
    for event in told["events"]:
        getattr(world, event["do"])(event)
    ends = told["ends"]
    assert (world.epoch, world.primary) == (ends["epoch"], ends["primary"])
    if ends.get("effects_once"):
        assert set(world.effects.values()) == {1}
    if "promote" in world.order and "fence" in world.order:
        assert world.order.index("fence") < world.order.index("promote") < world.order.index("redirect")


def test_there_is_a_case_for_every_part_of_the_worked_example() -> None:
    assert {file.stem for file in CASES} >= {
        "switchover-approved-and-run",
        "older-epoch",
        "killed-between-effect-and-record",
        "two-operators",
        "lag-grows",
        "drill-and-real",
    }
