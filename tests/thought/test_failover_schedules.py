"""The resolver over random graphs, crashes, slow effects, blind spells and lapsing truths: 12 000 schedules.

Own random generator instead of hypothesis, for the number: each schedule is named by its seed, so that a failure is
replayed by that seed alone. What must hold: no step moves before all that it needs holds; no effect is done while it
holds or is underway within its patience; the end is the same as that of an uninterrupted run; it always ends.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from random import Random

import pytest

from recovery.drive import (
    Finish,
    Halt,
    History,
    Move,
    Perform,
    Seen,
    Tried,
    Truth,
    Wait,
    in_turn,
    next_moves,
    to_observe,
)
from recovery.plan import Plan
from recovery.step import Step

pytestmark = pytest.mark.no_cover  # its number counts, and what it reaches is covered beside it
NOW = datetime(2026, 11, 24, 3, tzinfo=UTC)
PARTS, SCHEDULES_A_PART, GRAPHS = 6, 2000, 150
ABSENT, HOLDS = Seen(truth=Truth.ABSENT), Seen(truth=Truth.HOLDS)
PATIENCE = 60.0


@cache
def graph(seed: int) -> Plan:
    """A random plan of 1 to 8 steps; some are true only until another begins, some are done whatever happened."""
    random = Random(seed)
    steps: list[Step] = []
    for number in range(random.randint(1, 8)):
        needs = random.sample(range(number), random.randint(0, min(number, 3)))
        steps.append(
            Step(
                id=f"s{number}",
                verb="run",
                resource="db",
                needs=tuple(f"s{each}" for each in sorted(needs)),
                patience_seconds=PATIENCE,
                tries=20,
                always=random.random() < 0.1,
            )
        )
    for number, step in enumerate(steps):
        later = [each.id for each in steps[number + 1 :] if step.id in each.needs]
        if later and random.random() < 0.25:
            steps[number] = step.but(until=random.choice(later))
    return Plan(purpose="x", runbook="x", runbook_version="1", service="core", asked_at=NOW, steps=tuple(steps))


@dataclass
class World:
    """What is true, what grows, what the journal knows. `blind`: for how many looks a step can't be observed."""

    plan: Plan
    random: Random
    true: set[str] = field(default_factory=set)
    ready_at: dict[str, datetime] = field(default_factory=dict)
    tried: dict[str, Tried] = field(default_factory=dict)
    blind: dict[str, tuple[int, datetime | None]] = field(default_factory=dict)
    effects: list[str] = field(default_factory=list)
    lapses: int = 0
    lazy: bool = False
    looked: frozenset[str] = frozenset({"s0"})
    now: datetime = NOW

    @property
    def history(self) -> History:
        return History(steps=dict(self.tried))

    def look(self) -> dict[str, Seen]:
        for name, ready in list(self.ready_at.items()):
            if ready <= self.now:
                self.true.add(name)
                del self.ready_at[name]
                self.tried[name] = replace(self.tried[name], ended=self.tried[name].ended + 1)
        seen: dict[str, Seen] = {}
        if self.lazy:  # as the loop looks: only at what can matter now, wave after wave
            while steps := in_turn(self.plan, self.history, seen):
                seen |= {step.id: self._seen(step.id) for step in steps}
        else:
            seen = {step.id: self._seen(step.id) for step in to_observe(self.plan, self.history)}
        self.looked = frozenset(seen) or self.looked
        return seen

    def _seen(self, name: str) -> Seen:
        if name in self.blind:
            left, first = self.blind[name]
            since = first or self.now  # as the loop knows it: from the first look in vain
            if left > 1:
                self.blind[name] = (left - 1, since)
            else:
                del self.blind[name]
            return Seen(truth=Truth.UNKNOWN, why="no answer", since=since)
        if name in self.ready_at:
            return Seen(truth=Truth.UNDERWAY)
        return HOLDS if name in self.true else ABSENT

    def trouble(self) -> None:
        """Between two looks: a truth lapses, or a step can't be observed for a while."""
        lot = self.random.random()
        if lot < 0.06 and self.true:
            self.true.discard(self.random.choice(sorted(self.true)))
            self.lapses += 1
        elif lot < (0.1 if self.lazy else 0.12):  # who looks only at what matters is blinded where it hurts
            self.blind.setdefault(self.random.choice(sorted(self.looked)), (self.random.randint(1, 3), None))

    def perform(self, move: Move, seen: dict[str, Seen]) -> bool:
        """Perform one move by lot. False when the process was killed in it."""
        name = move.step.id
        for need in self.plan.before[name]:
            until, tried = self.plan.step(need).until, self.tried.get(need, Tried())
            released = until is not None and self.tried.get(until, Tried()).begun > 0 and tried.ended > 0
            truth = seen[need].truth if need in seen else Truth.UNKNOWN
            holds = released or truth is Truth.HOLDS
            cleans_up = move.step.always and (released or truth is not Truth.UNDERWAY)  # after a halt
            assert holds or cleans_up, f"{name} moved before {need} held"
        assert name not in self.true, f"{name} was done again while it holds"
        slow_until = self.ready_at.pop(name, None)  # beyond its patience: the new attempt discards the old
        last = self.tried.get(name, Tried())
        if slow_until is not None:
            assert last.last_begun_at is not None
            assert self.now >= last.last_begun_at + timedelta(seconds=PATIENCE), (
                f"{name} was begun again while underway"
            )
        assert move.attempt == last.begun + 1
        self.tried[name] = replace(last, begun=move.attempt, last_begun_at=self.now)
        match self.random.choices(("done", "slow", "failed", "killed before", "killed after"), (10, 4, 2, 2, 2))[0]:
            case "done":
                self.true.add(name)
                self.effects.append(name)
                self.tried[name] = replace(self.tried[name], ended=last.ended + 1, failed=0, last_failed_at=None)
            case "slow":
                self.ready_at[name] = self.now + timedelta(seconds=self.random.choice((1, 30, 59, 200)))
                self.effects.append(name)
            case "failed":
                self.tried[name] = replace(self.tried[name], failed=last.failed + 1, last_failed_at=self.now)
            case "killed before":
                return False
            case "killed after":
                self.true.add(name)
                self.effects.append(name)
                return False
        return True


def drive(seed: int) -> World:
    random = Random(seed)
    world = World(plan=graph(random.randrange(GRAPHS)), random=random, lazy=seed % 2 == 1)
    for _ in range(600):
        seen = world.look()
        match next_moves(world.plan, world.history, seen, world.now):
            case Perform(moves=moves):
                for move in moves:
                    if not world.perform(move, seen):
                        break  # another process takes over from what was written down
            case Wait(until=until):
                assert until > world.now
                world.now = min(until, world.now + timedelta(seconds=random.choice((1, 20, 60))))
            case Halt(step=step, unproven=unproven):
                assert unproven or world.tried[step].begun >= 20
                return world
            case Finish():
                held = {name for name, each in seen.items() if each.truth is Truth.HOLDS}
                released = {each.id for each in world.plan.steps} - set(seen)
                assert held | released == {each.id for each in world.plan.steps}
                assert all(world.plan.step(name).until and world.tried[name].ended for name in released)
                return world
        world.trouble()
    pytest.fail(f"schedule {seed} never ended")


@pytest.mark.parametrize("part", range(PARTS))
def test_however_it_is_interrupted_the_order_holds_and_it_ends_in_the_same_state(part: int) -> None:
    finished = interrupted = 0
    for seed in range(part * SCHEDULES_A_PART, (part + 1) * SCHEDULES_A_PART):
        world = drive(seed)
        finished += set(world.effects) == {step.id for step in world.plan.steps}
        interrupted += any(tried.begun > 1 for tried in world.tried.values())
    assert finished > 0.95 * SCHEDULES_A_PART, "most schedules reach the end"
    assert interrupted > 0.3 * SCHEDULES_A_PART, "interruptions really happen"
