"""The resolver: each rule as a case, then random plans interrupted at every step."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recovery.drive import (
    CUT_OFF_MOST,
    Finish,
    Halt,
    History,
    Move,
    Perform,
    Seen,
    Tried,
    Truth,
    Wait,
    back_off,
    next_moves,
    settled,
    to_observe,
)
from recovery.plan import Plan, attempt_name, in_order
from recovery.step import Mode, Step

NOW = datetime(2026, 11, 24, 3, tzinfo=UTC)
HOLDS, ABSENT = Seen(truth=Truth.HOLDS), Seen(truth=Truth.ABSENT)


def step(id_: str, *needs: str, **more: object) -> Step:
    return Step(id=id_, verb="run", resource="db", needs=needs, **more)  # type: ignore[arg-type]


def plan(*steps: Step) -> Plan:
    return Plan(purpose="prove", runbook="prove", runbook_version="1", service="platform", asked_at=NOW, steps=steps)


PROOF = plan(
    step("fetch", until="discard"),
    step("recover", "fetch", until="discard"),
    step("check", "recover", until="discard"),
    step("discard", "check", always=True),
)


def moved(decision: object) -> list[tuple[str, int]]:
    assert isinstance(decision, Perform), decision
    return [(move.step.id, move.attempt) for move in decision.moves]


def seen(**truths: Seen) -> dict[str, Seen]:
    return {name: truths.get(name, ABSENT) for name in ("fetch", "recover", "check", "discard")}


def test_steps_that_do_not_need_each_other_are_performed_together() -> None:
    both = plan(step("a"), step("b"), step("c", "a", "b"))
    assert moved(next_moves(both, History(), {"a": ABSENT, "b": ABSENT, "c": ABSENT}, NOW)) == [("a", 1), ("b", 1)]


def test_all_that_holds_is_finished_without_a_move() -> None:
    assert next_moves(PROOF, History(), dict.fromkeys(("fetch", "recover", "check", "discard"), HOLDS), NOW) == Finish()


def test_a_lapsed_truth_is_proved_again_before_anything_later_moves() -> None:
    both = plan(step("fence"), step("promote", "fence"), step("redirect", "promote"))
    lapsed = {"fence": ABSENT, "promote": HOLDS, "redirect": ABSENT}
    history = History(steps={"fence": Tried(begun=1, ended=1)})
    assert moved(next_moves(both, history, lapsed, NOW)) == [("fence", 2)]


def test_underway_is_awaited_within_its_patience_and_begun_again_beyond_it() -> None:
    history = History(steps={"fetch": Tried(begun=1, last_begun_at=NOW)})
    underway = seen(fetch=Seen(truth=Truth.UNDERWAY))
    decision = next_moves(PROOF, history, underway, NOW + timedelta(seconds=599))
    assert isinstance(decision, Wait)
    assert decision.until == NOW + timedelta(seconds=600)
    assert moved(next_moves(PROOF, history, underway, NOW + timedelta(seconds=600))) == [("fetch", 2)]


def test_a_failed_step_is_tried_again_after_its_back_off_and_no_sooner() -> None:
    history = History(steps={"fetch": Tried(begun=1, failed=1, last_failed_at=NOW, last_fact="S3 said 503")})
    waiting = next_moves(PROOF, history, seen(), NOW)
    assert isinstance(waiting, Wait)
    assert "S3 said 503" in waiting.why
    assert moved(next_moves(PROOF, history, seen(), waiting.until)) == [("fetch", 2)]


def test_what_cannot_be_observed_is_awaited_then_unproven_never_performed() -> None:
    blind = seen(fetch=Seen(truth=Truth.UNKNOWN, why="no answer", since=NOW))
    assert isinstance(next_moves(PROOF, History(), blind, NOW), Wait)
    late = next_moves(PROOF, History(), {**blind, "discard": HOLDS}, NOW + timedelta(seconds=601))
    assert late == Halt(step="fetch", why="no answer", hint=late.hint, unproven=True)  # type: ignore[union-attr]
    assert isinstance(next_moves(plan(step("a")), History(), {}, NOW), Wait)


def test_scratch_is_discarded_also_after_a_step_has_failed_for_good() -> None:
    failed = {"fetch": Tried(begun=1, ended=1), "recover": Tried(begun=1, failed=1, final=True, last_fact="gap in WAL")}
    spoiled = seen(fetch=HOLDS)
    assert moved(next_moves(PROOF, History(steps=failed), spoiled, NOW)) == [("discard", 1)]
    discarded = History(steps={**failed, "discard": Tried(begun=1, ended=1)})
    end = next_moves(PROOF, discarded, seen(discard=HOLDS), NOW)
    assert isinstance(end, Halt)
    assert end.why == "gap in WAL"


def test_discarding_waits_for_what_is_still_underway() -> None:
    wide = plan(step("a"), step("b"), step("discard", "a", "b", always=True))
    history = History(steps={"a": Tried(begun=1, failed=1, final=True), "b": Tried(begun=1, last_begun_at=NOW)})
    decision = next_moves(wide, history, {"a": ABSENT, "b": Seen(truth=Truth.UNDERWAY), "discard": ABSENT}, NOW)
    assert isinstance(decision, Wait)
    assert decision.steps == ("b",)


def test_tries_are_bounded_and_people_may_grant_more() -> None:
    spent = Tried(begun=3, failed=3, last_failed_at=NOW, last_fact="refused")
    one = plan(step("a"))
    end = next_moves(one, History(steps={"a": spent}), {"a": ABSENT}, NOW + timedelta(hours=1))
    assert isinstance(end, Halt)
    assert "3 of 3 tries" in end.why
    more = History(steps={"a": replace(spent, extra_tries=1)})
    assert moved(next_moves(one, more, {"a": ABSENT}, NOW + timedelta(hours=1))) == [("a", 4)]


def test_an_engines_death_is_no_try_but_a_circle_of_deaths_ends() -> None:
    one = plan(step("a"))
    for tried, last in ((Tried(begun=9, cut_off=7), True), (Tried(begun=9, cut_off=8), False)):
        decision = next_moves(one, History(steps={"a": tried}), {"a": ABSENT}, NOW)
        assert isinstance(decision, Perform)
        assert [(each.attempt, each.last) for each in decision.moves] == [(10, last)]
    dead = Tried(begun=CUT_OFF_MOST + 3, cut_off=CUT_OFF_MOST + 3)
    end = next_moves(one, History(steps={"a": dead}), {"a": ABSENT}, NOW)
    assert isinstance(end, Halt)
    assert "3 of 3 tries" in end.why


def test_the_truth_of_a_reached_step_is_released_once_its_until_has_begun() -> None:
    history = History(steps={n: Tried(begun=1, ended=1) for n in ("fetch", "recover", "check", "discard")})
    assert settled(PROOF, history, {}) == {"fetch", "recover", "check"}
    assert [s.id for s in to_observe(PROOF, history)] == ["discard"]


def test_paused_moves_nothing_and_cancelled_only_cleans_up() -> None:
    paused = next_moves(PROOF, History(paused="ann looks at the log"), seen(), NOW)
    assert isinstance(paused, Halt)
    assert "ann" in paused.why
    cancelled = History(cancelled="by ann")
    assert moved(next_moves(PROOF, cancelled, seen(), NOW)) == [("discard", 1)]
    ended = next_moves(PROOF, cancelled, seen(discard=HOLDS), NOW)
    assert isinstance(ended, Halt)
    assert ended.why == "cancelled: by ann"


def test_a_skipped_step_needs_nothing() -> None:
    skipped = History(steps={"fetch": Tried(skipped=True)})
    assert moved(next_moves(PROOF, skipped, seen(), NOW)) == [("recover", 1)]


def test_an_always_step_beyond_its_tries_ends_the_run_with_its_reason() -> None:
    history = History(
        steps={
            "fetch": Tried(begun=1, failed=1, final=True, last_fact="no backup"),
            "discard": Tried(begun=3, failed=3, last_failed_at=NOW, last_fact="the disk is read-only"),
        }
    )
    end = next_moves(PROOF, history, seen(), NOW + timedelta(hours=1))
    assert isinstance(end, Halt)
    assert end.why == "no backup"


def test_back_off_doubles_to_half_a_minute() -> None:
    assert [back_off(n).total_seconds() for n in (0, 1, 2, 3, 9)] == [0, 0.5, 1, 2, 30]


def test_plans_that_cannot_be_run_are_refused() -> None:
    with pytest.raises(ValueError, match="circle: a, b"):
        plan(step("a", "b"), step("b", "a"))
    with pytest.raises(ValueError, match="step ids repeat: a"):
        plan(step("a"), step("a"))
    with pytest.raises(ValueError, match="unknown steps: z"):
        plan(step("a", "z"))
    with pytest.raises(ValueError, match="unknown steps: z"):
        plan(step("a", until="z"))
    with pytest.raises(KeyError):
        PROOF.step("nothing")


def test_a_digest_covers_what_is_done_and_when_it_was_asked() -> None:
    assert PROOF.digest == PROOF.but().digest == PROOF.run
    assert PROOF.digest != PROOF.but(epoch=1).digest
    assert PROOF.digest != PROOF.but(asked_at=NOW + timedelta(microseconds=1)).digest
    assert Plan.model_validate_json(PROOF.model_dump_json()).digest == PROOF.digest
    assert attempt_name("orders-db", "prove", PROOF.digest, "fetch", 2) == f"orders-db-prove-{PROOF.digest[:8]}-fetch-2"


def test_a_variant_adds_its_own_arguments() -> None:
    both = step("a", arguments={"x": 1}, graceful={"y": 2}, ungraceful={"x": 3})
    assert both.arguments_in(Mode.GRACEFUL) == {"x": 1, "y": 2}
    assert both.arguments_in(Mode.UNGRACEFUL) == {"x": 3}


# A world to be interrupted in: effects succeed, fail, are killed before or after they took hold, and truths lapse.


@dataclass
class World:
    plan: Plan
    true: set[str] = field(default_factory=set)
    tried: dict[str, Tried] = field(default_factory=dict)
    effects: list[str] = field(default_factory=list)
    now: datetime = NOW

    def look(self) -> dict[str, Seen]:
        return {s.id: HOLDS if s.id in self.true else ABSENT for s in to_observe(self.plan, self.history)}

    @property
    def history(self) -> History:
        return History(steps=dict(self.tried))

    def perform(self, move: Move, fate: str) -> None:
        name = move.step.id
        assert self.plan.before[name] <= settled(self.plan, self.history, self.look()), "moved before its needs held"
        before = self.tried.get(name, Tried())
        assert move.attempt == before.begun + 1
        self.tried[name] = replace(before, begun=move.attempt, last_begun_at=self.now)
        if fate in ("done", "killed after the effect"):
            self.true.add(name)
            self.effects.append(name)
        if fate == "done":
            self.tried[name] = replace(self.tried[name], ended=before.ended + 1)
        if fate == "failed":
            self.tried[name] = replace(self.tried[name], failed=before.failed + 1, last_failed_at=self.now)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    count = draw(st.integers(1, 7))
    steps = []
    for number in range(count):
        needs = draw(st.sets(st.integers(0, number - 1), max_size=3)) if number else set()
        steps.append(step(f"s{number}", *(f"s{n}" for n in sorted(needs)), tries=6))
    return plan(*steps)


FATES = st.sampled_from(["done", "done", "failed", "killed", "killed after the effect", "lapse"])


@settings(max_examples=400)
@given(plans(), st.lists(FATES, max_size=12))
def test_however_it_is_interrupted_it_ends_in_the_same_state(some: Plan, fates: list[str]) -> None:
    world = World(some)
    script = iter(fates)
    for _ in range(500):
        match next_moves(some, world.history, world.look(), world.now):
            case Perform(moves=moves):
                for move in moves:
                    fate = next(script, "done")
                    if fate == "lapse" and world.true:
                        world.true.discard(min(world.true))
                        break
                    world.perform(move, "done" if fate == "lapse" else fate)
            case Wait(until=until):
                assert until > world.now
                world.now = until
            case Halt(step=halted):
                assert world.tried[halted].begun >= 6
                return
            case Finish():
                assert world.true == {s.id for s in some.steps}
                return
    pytest.fail("it never ended")


@given(plans())
def test_uninterrupted_every_effect_happens_once_and_in_order(some: Plan) -> None:
    world = World(some)
    while isinstance(decision := next_moves(some, world.history, world.look(), world.now), Perform):
        for move in decision.moves:
            world.perform(move, "done")
    assert sorted(world.effects) == sorted(s.id for s in some.steps)
    assert [s.id for s in in_order(some.steps)]
