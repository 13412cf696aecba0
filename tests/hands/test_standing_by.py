"""Standing by: nothing is done before people's conditions hold, then at once and alone, and once only."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from recovery.approval import standing_key
from recovery.failover import Proposal
from recovery.observation import ProbeSeen
from recovery.plan import NothingToDo, Plan
from tasks import approving, changing, keys
from tasks.engine import Act
from tasks.signed import keep_signed
from tasks.standing_by import PAUSE_MOST, Watch
from tests.hands.test_approving import World


class Post:
    """A watch of two persons' service, what its probes say, and what it acted on."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world = World(folder, n_of_m=2)
        self.failing = 0.0
        self.told: list[str] = []
        self.acted: list[Plan] = []
        self.answer: Callable[[Plan], Any] = lambda plan: Ended()
        self.nothing = ""
        self.watch = Watch(home=self.world.home, service="core", probes=self.probes, tell=self.told.append)
        monkeypatch.setattr(changing, "plan", self.plan)
        monkeypatch.setattr(changing, "act", self.act)

    def probes(self, home: object, service: str) -> dict[str, ProbeSeen]:
        east = ProbeSeen(outcome="failed" if self.failing else "passed", failing_seconds=self.failing)
        return {"app-east": east, "app-west": ProbeSeen(outcome="passed")}

    def plan(self, home: object, runbook: str, *, service: str, to: str | None) -> Proposal | NothingToDo:
        assert (runbook, service, to) == ("failover", "core", "west")
        if self.nothing:
            return NothingToDo(why=self.nothing)
        made = self.world.planned(at=self.world.at)
        return _proposal(made)

    def act(self, act: Act, plan: Plan, *, seen: object = None) -> Any:
        self.acted.append(plan)
        return self.answer(plan)

    def sign(self, *names: str) -> None:
        for name in names:
            approving.approve_standing(self.world.home, "east-is-out", who=name)

    def round(self, seconds: float = 0.5) -> Any:
        self.world.at += timedelta(seconds=seconds)
        if self.failing:
            self.failing += seconds
        return self.watch.act(self.watch.look())


class Ended:
    """A run's outcome, as far as the watch looks at it."""

    def __init__(self, stopped: Any = None) -> None:
        self.stopped = stopped


class Stopped:
    step, why = "promote", "no standby answers"


def _proposal(plan: Plan) -> Proposal:
    from recovery.forecast import forecast

    return Proposal(plan=plan, hazards=(), groups=(), live=frozenset(), forecast=forecast(plan.steps, ()))


@pytest.fixture
def post(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Post:
    return Post(tmp_path, monkeypatch)


def test_it_acts_in_the_round_in_which_the_condition_holds_and_not_before(post: Post) -> None:
    post.sign("ann", "bob")
    post.round()
    post.failing = 0.5
    rounds = 0
    while not post.acted and rounds < 60:
        post.round()
        rounds += 1
    assert post.failing == 15.0, "the round in which app-east had failed for 15 s"
    assert any("probe app-east: failed" in each for each in post.told)
    assert any("acting by standing approval" in each for each in post.told)


@pytest.mark.parametrize("names", [(), ("ann",)])
def test_without_enough_signatures_it_only_tells(post: Post, names: tuple[str, ...]) -> None:
    post.sign(*names)
    post.failing = 100.0
    for _ in range(10):
        post.round()
    assert post.acted == []
    assert [each for each in post.told if "app-east" in each] == ["probe app-east: failed for 100 s"]


def test_consent_that_comes_or_goes_meanwhile_counts_within_seconds(post: Post) -> None:
    post.failing = 100.0
    post.round()
    post.sign("ann", "bob")
    for _ in range(12):
        post.round()
    assert len(post.acted) >= 1
    made = approving.standing(post.world.home, "core")[0][0].approval
    approving.cancel(post.world.home, made.id, who="eve")
    post.round(6.0)
    before = len(post.acted)
    for _ in range(10):
        post.round(70.0)
    assert len(post.acted) == before


def test_a_run_that_stands_still_is_tried_again_with_growing_pauses(post: Post) -> None:
    post.sign("ann", "bob")
    post.failing = 100.0
    post.answer = lambda plan: Ended(Stopped())
    for _ in range(240):
        post.round()
    assert 4 <= len(post.acted) <= 8, "two minutes: at 0, 2, 6, 14, 30, 62 s"
    assert any("stands still at promote: no standby answers" in each for each in post.told)
    assert timedelta(minutes=1) == PAUSE_MOST


def test_where_there_is_nothing_to_do_it_is_said_once(post: Post) -> None:
    post.sign("ann", "bob")
    post.failing, post.nothing = 100.0, "west is the primary of core already"
    for _ in range(20):
        assert post.round() is None
    assert [each for each in post.told if "already" in each] == ["nothing to do: west is the primary of core already"]


def test_consent_of_before_there_were_directions_is_told_and_never_acted_on(post: Post) -> None:
    old = approving.approve_standing(post.world.home, "east-is-out", who="ann").but(to=None, signatures=())
    signs = [keys.signer(post.world.home.folder / "keys", who) for who in ("ann", "bob")]
    whole = old.model_copy(update={"signatures": tuple(sign(old.signed_bytes()) for sign in signs)})
    for sign in signs:
        keep_signed(post.world.home.ledger(), standing_key(whole), whole, sign)
    post.failing = 100.0
    post.round()
    assert post.acted == []
    assert any("names no site that takes over" in each for each in post.told), post.told
    post.sign("ann", "bob")
    post.round(6.0)
    assert len(post.acted) == 1
