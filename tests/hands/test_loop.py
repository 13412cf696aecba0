"""The loop with verbs of our own on a directory ledger: parallel moves, failures, a lost lease, a defect, Ctrl-C."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import tasks.loop
from recovery import drive
from recovery.drive import Finish, Halt, Move, Seen, Truth
from recovery.errors import BadInput, DrError, Failed, Refused
from recovery.evidence import Record
from recovery.plan import Plan
from recovery.step import Step
from tasks.journal import Journal
from tasks.kind import Facts, Scene
from tasks.ledger_dir import DirectoryLedger
from tasks.loop import Event, Loop

NOW = datetime(2026, 11, 24, 3, tzinfo=UTC)
PATIENCE_SECONDS = 10.0


class Hand:
    """A verb whose postcondition holds once it was performed; `script` says what each performance does first."""

    def __init__(self, *script: Callable[[Move], object], sees: Iterable[Seen | DrError] = ()) -> None:
        self.script = list(script)
        self.sees = list(sees)
        self.moves: list[Move] = []

    def observe(self, step: Step, scene: Scene) -> Seen:
        if self.sees:
            told = self.sees.pop(0)
            if isinstance(told, DrError):
                raise told
            return told
        return Seen(truth=Truth.HOLDS if step.id in scene.results else Truth.ABSENT, why=f"{step.id} is not there")

    def perform(self, move: Move, scene: Scene) -> Facts:
        self.moves.append(move)
        if self.script:
            self.script.pop(0)(move)
        scene.say("half", 0.5)
        return {"made": move.step.id}


def raising(trouble: BaseException) -> Callable[[Move], object]:
    def act(move: Move) -> object:
        raise trouble

    return act


def step(id_: str, *needs: str, **more: object) -> Step:
    return Step.model_validate({"id": id_, "verb": id_, "resource": "db", "needs": needs, **more})


@pytest.fixture
def loop(tmp_path: Path) -> Callable[..., Loop]:
    def make(verbs: dict[str, Hand], *steps: Step, **more: object) -> Loop:
        plan = Plan(purpose="prove", runbook="prove", runbook_version="1", service="p", asked_at=NOW, steps=steps)
        ledger = DirectoryLedger(tmp_path / "ledger")
        journal = Journal(ledger, plan.run, who="a test", generation=1, clock=now, digest=plan.digest)
        return Loop(plan=plan, verbs=verbs, journal=journal, now=now, **more)  # type: ignore[arg-type]

    return make


def now() -> datetime:
    return datetime.now(UTC)


def kinds(loop: Loop, step_id: str) -> list[str]:
    return [each.kind.removeprefix("step.") for each in loop.journal.records() if each.facts.get("step") == step_id]


def failure_of(loop: Loop) -> Record:
    return next(each for each in loop.journal.records() if each.kind == "step.failed")


def test_steps_that_do_not_need_each_other_are_performed_at_the_same_time(loop: Callable[..., Loop]):
    together = threading.Barrier(3)
    verbs = {name: Hand(lambda move: together.wait(PATIENCE_SECONDS)) for name in ("a", "b", "c")}
    verbs["d"] = Hand()
    made = loop(verbs, step("a"), step("b"), step("c"), step("d", "a", "b", "c"))
    assert made.run() == Finish()
    order = [(each.kind, each.facts["step"]) for each in made.journal.records()]
    assert order.index(("step.begun", "d")) > max(order.index(("step.ended", name)) for name in "abc")


def test_a_failure_is_tried_again_after_its_pause_as_the_next_attempt(loop: Callable[..., Loop], monkeypatch):
    monkeypatch.setattr(drive, "BACK_OFF_FIRST", timedelta(seconds=0.3))
    hand = Hand(raising(Failed("the wire broke", hint="wait")))
    made = loop({"a": hand}, step("a", tries=2))
    begun = time.monotonic()
    assert made.run() == Finish()
    assert time.monotonic() - begun >= 0.3
    assert [move.attempt for move in hand.moves] == [1, 2]
    assert kinds(made, "a") == ["begun", "failed", "begun", "ended"]


def test_beyond_its_tries_a_step_halts_the_run_and_what_is_always_done_is_done(loop: Callable[..., Loop], monkeypatch):
    monkeypatch.setattr(drive, "BACK_OFF_FIRST", timedelta(seconds=0.01))
    broken = Hand(*[raising(Failed("the wire broke", hint="wait"))] * 2)
    never, always = Hand(), Hand()
    made = loop({"a": broken, "b": never, "z": always}, step("a", tries=2), step("b", "a"), step("z", "b", always=True))
    halt = made.run()
    assert isinstance(halt, Halt)
    assert halt.why == "the wire broke (after 2 of 2 tries)"
    assert halt.hint == "wait"
    assert (len(broken.moves), len(never.moves), len(always.moves)) == (2, 0, 1)


@pytest.mark.parametrize("trouble", [BadInput("no such thing", hint="name another"), Refused("fenced", hint="no")])
def test_what_cannot_help_is_not_tried_again(loop: Callable[..., Loop], trouble: DrError):
    hand = Hand(raising(trouble))
    halt = loop({"a": hand}, step("a", tries=5)).run()
    assert isinstance(halt, Halt)
    assert (halt.why, halt.hint, len(hand.moves)) == (trouble.fact, trouble.hint, 1)


def test_a_full_disk_is_a_failure_with_a_hint_and_not_a_crash(loop: Callable[..., Loop]):
    made = loop({"a": Hand(raising(OSError(errno.ENOSPC, "No space left on device", "/s/data"))), "z": Hand()},
                step("a", tries=3), step("z", "a", always=True))  # fmt: skip
    halt = made.run()
    assert isinstance(halt, Halt)
    assert halt.why == "no space left on device: /s/data"
    assert "free space" in halt.hint
    assert kinds(made, "z") == ["begun", "ended"]


def test_a_defect_ends_the_run_on_record_with_the_place_where_it_happened(loop: Callable[..., Loop]):
    made = loop({"a": Hand(raising(KeyError("x"))), "z": Hand()}, step("a", tries=3), step("z", "a", always=True))
    halt = made.run()
    assert isinstance(halt, Halt)
    assert halt.why == "unexpected KeyError: 'x'"
    said = failure_of(made).facts
    assert said["final"] is True
    assert "test_loop.py" in str(said["trace"])
    assert kinds(made, "z") == ["begun", "ended"]


def test_a_lost_lease_stops_the_run_before_the_next_move(loop: Callable[..., Loop]):
    lost: list[str] = []
    first = Hand(lambda move: lost.append("taken by another"))
    later = Hand()

    def may_act() -> None:
        if lost:
            raise Refused("the lease is lost", hint="act again")

    made = loop({"a": first, "b": later}, step("a"), step("b", "a"), may_act=may_act)
    with pytest.raises(Refused, match="the lease is lost"):
        made.run()
    assert (len(first.moves), later.moves) == (1, [])
    assert kinds(made, "b") == []


@pytest.mark.parametrize("back", [False, True])
def test_a_lease_that_is_lost_at_a_slow_door_lets_no_effect_through(loop: Callable[..., Loop], back: bool):
    """Between the decision and the effect lie the ledger and the door, and there the engine may be stopped for minutes.
    `back`: the lease is held again a moment later."""
    asked: list[str] = []
    hand = Hand()

    def door(move: Move, perform: Callable[[], Facts]) -> Facts:
        asked.append("at the door")
        return perform()

    def may_act() -> None:
        if asked and not (back and len(asked) > 1):
            asked.append("refused")
            raise Refused("the lease is lost", hint="act again")

    made = loop({"a": hand}, step("a"), may_act=may_act, door=door)
    with pytest.raises(Refused, match="the lease is lost"):
        made.run()
    assert hand.moves == []
    assert kinds(made, "a") == ["begun"], "it is no failure of the step: who resumes the run begins it again"


def test_a_move_of_several_effects_asks_for_the_lease_between_them(loop: Callable[..., Loop]):
    lost: list[str] = []
    done: list[str] = []

    class Shifts(Hand):
        def perform(self, move: Move, scene: Scene) -> Facts:
            for share in ("10 %", "50 %"):
                scene.may_act()
                done.append(share)
                lost.append("taken by another")
            return {}

    def may_act() -> None:
        if lost:
            raise Refused("the lease is lost", hint="act again")

    made = loop({"a": Shifts()}, step("a"), may_act=may_act)
    with pytest.raises(Refused, match="the lease is lost"):
        made.run()
    assert done == ["10 %"]
    assert kinds(made, "a") == ["begun"]


def test_a_failure_behind_a_lost_lease_is_not_held_against_the_step(loop: Callable[..., Loop]):
    """As an agent refuses the order of an engine that slept; final, it would leave the next owner no try."""
    lost: list[str] = []

    def refused(move: Move) -> None:
        lost.append("taken by another")
        raise Refused("another engine has ordered since", hint="see who drives the service")

    def may_act() -> None:
        if lost:
            raise Refused("the lease is lost", hint="act again")

    made = loop({"a": Hand(refused)}, step("a"), may_act=may_act)
    with pytest.raises(Refused, match="the lease is lost"):
        made.run()
    assert kinds(made, "a") == ["begun"]


def test_a_ledger_that_cannot_be_written_stops_the_run_and_nothing_more_is_performed(loop: Callable[..., Loop]):
    made = loop({"a": Hand(lambda move: broken.append("now")), "b": Hand()}, step("a"), step("b", "a"))
    broken: list[str] = []
    append = made.journal.append

    def refuse(*words: object, **more: object) -> Record:
        if broken:
            raise Failed("the ledger cannot be written", hint="free space there")
        return append(*words, **more)  # type: ignore[arg-type]

    made.journal.append = refuse  # type: ignore[method-assign]
    with pytest.raises(Failed, match="cannot be written"):
        made.run()
    assert made.verbs["b"].moves == []  # type: ignore[attr-defined]


def test_what_cannot_be_observed_is_unknown_and_is_asked_again(loop: Callable[..., Loop]):
    hand = Hand(sees=[Failed("no answer", hint="wait")])
    assert loop({"a": hand}, step("a")).run() == Finish()
    assert len(hand.moves) == 1


def test_what_can_never_be_observed_ends_unproven_and_nothing_was_performed(loop: Callable[..., Loop]):
    hand = Hand(sees=[Failed("no answer", hint="wait")] * 1000)
    halt = loop({"a": hand}, step("a", patience_seconds=0.3)).run()
    assert isinstance(halt, Halt)
    assert (halt.unproven, halt.why, hand.moves) == (True, "no answer", [])


def test_a_watcher_that_has_gone_fails_no_move(loop: Callable[..., Loop]):
    def gone(event: Event) -> None:
        raise BrokenPipeError

    made = loop({"a": Hand()}, step("a"), tell=gone)
    assert made.run() == Finish()


def test_ctrl_c_leaves_at_once_and_what_is_underway_writes_nothing_any_more(loop: Callable[..., Loop], monkeypatch):
    begun, go = threading.Event(), threading.Event()

    def act(move: Move) -> object:
        begun.set()
        return go.wait(PATIENCE_SECONDS)

    made = loop({"a": Hand(act)}, step("a"))

    def interrupt(futures: object, **more: object) -> None:
        assert begun.wait(PATIENCE_SECONDS)
        raise KeyboardInterrupt

    monkeypatch.setattr(tasks.loop, "wait", interrupt)
    before = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        made.run()
    assert time.monotonic() - before < 5
    underway = [thread for thread in threading.enumerate() if thread.name.startswith("move")]
    go.set()
    for thread in underway:
        thread.join(PATIENCE_SECONDS)
    assert kinds(made, "a") == ["begun"]


def test_a_move_that_ends_while_the_world_is_looked_at_is_performed_once(loop: Callable[..., Loop]):
    """The records are read, then the move ends, then its step is observed: the records do not know its end yet."""
    ended = threading.Event()
    slow, other = Hand(lambda move: ended.wait(10)), Hand()
    made = loop({"a": slow, "b": other}, step("a", tries=3), step("b", tries=3))
    read = made.journal.records

    def records(since=0):
        known = read(since)
        begun = any(record.kind == "step.begun" and record.facts["step"] == "a" for record in known)
        if begun and not ended.is_set() and threading.current_thread() is threading.main_thread():
            ended.set()
            made._flying["a"].result(10)
        return known

    made.journal.records = records  # type: ignore[method-assign]
    assert isinstance(made.run(), Finish)
    assert (len(slow.moves), len(other.moves)) == (1, 1)
