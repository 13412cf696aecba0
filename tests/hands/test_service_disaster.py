"""probe, declare and approve: what is seen before anything is changed, and by whom."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from service_scene import Act, catalog
from site_scene import Site, bare, closed_port, plain, site

from recovery.drive import Truth
from recovery.errors import BadInput, Failed, Refused, Unproven
from recovery.hazard import Acceptance
from tasks.home import Home
from tasks.service import look
from tasks.service.probing import outcomes
from tasks.stage import Consented

SINCE = "2026-11-24T02:59:40.000000Z"


def told(outcome: str, failing_seconds: float = 0.0, age_seconds: float = 0.2, since: str | None = SINCE) -> bytes:
    """What a vantage point says of the probe app-east."""
    failing = outcome == "failed"
    probe = {
        "outcome": outcome,
        "why": "it answered 503" if failing else "",
        "age_seconds": age_seconds,
        "failing_since": since if failing else None,
        "failing_seconds": failing_seconds,
        "later": "keys are let be",
    }
    return plain({"name": "x", "every_seconds": 0.5, "patience_seconds": 1.0, "probes": {"app-east": probe}})


class World:
    """Two sites, their agents and a third point; each can be told what to say."""

    def __init__(self, stack: ExitStack) -> None:
        made = [stack.enter_context(site()) for _ in range(5)]
        self.east, self.west, self.agent_east, self.agent_west, self.third = made
        for point in (self.agent_east, self.agent_west, self.third):
            self.says(point, "passed")

    def says(self, point: Site, outcome: str, **more: Any) -> None:
        body = told(outcome, **more)
        point.say = lambda *_: (200, body)

    def silent(self, point: Site) -> None:
        point.say = lambda *_: (500, b"")

    def catalog(self, **core: Any) -> Any:
        there = {"dsn": "host=127.0.0.1 port=1", "data_dir": "/nowhere", "bin_dir": "/nowhere"}
        probes = {
            "app-east": {"site": "east", "url": self.east.url, "expect": "ok"},
            "app-west": {"site": "west", "url": self.west.url},
        }
        return catalog(
            {"probes": probes, "vantage": {"third": self.third.url}, **core},
            members={
                "east": {**there, "agent": self.agent_east.url},
                "west": {**there, "agent": self.agent_west.url},
            },
        )

    def lose_east(self) -> None:
        self.east.say = lambda *_: (503, b"")
        self.silent(self.agent_east)
        for point, seconds in ((self.agent_west, 20.0), (self.third, 15.0)):
            self.says(point, "failed", failing_seconds=seconds)


@pytest.fixture
def world() -> Iterator[World]:
    with ExitStack() as stack:
        yield World(stack)


def test_a_probe_holds_while_all_of_the_site_pass_and_names_those_that_fail(world: World, tmp_path: Path) -> None:
    act = Act(tmp_path, world.catalog(), "probe", arguments={"site": "west"}, patience_seconds=0.5)
    assert act.observe().truth is Truth.ABSENT
    assert act.perform()["probes"]["app-west"]["outcome"] == "passed"
    assert act.observe().truth is Truth.HOLDS
    world.west.say = lambda *_: (503, b"")
    seen = act.observe()
    assert (seen.truth, seen.why) == (Truth.ABSENT, "failed: app-west: it answered 503")
    with pytest.raises(Failed, match="west fails its probes; failed: app-west: it answered 503"):
        act.perform()
    assert outcomes(world.catalog().services["core"], "east") == {"app-east": "passed"}


def test_a_probe_that_settles_is_waited_for(world: World, tmp_path: Path) -> None:
    answers = iter([503, 503])
    world.west.say = lambda *_: (next(answers, 200), b"")
    assert Act(tmp_path, world.catalog(), "probe", arguments={"site": "west"}, patience_seconds=5.0).perform()


def test_without_probes_that_is_said_and_holds_only_for_a_probe(world: World, tmp_path: Path) -> None:
    act = Act(tmp_path, world.catalog(probes={}), "probe", arguments={"site": "west"})
    assert act.perform()["state"] == "not configured"
    assert act.observe().why.startswith("not configured")
    with pytest.raises(Unproven, match="nothing can say that east fails"):
        Act(tmp_path, world.catalog(probes={}), "declare").perform()


def test_a_disaster_is_declared_by_the_quorum_with_each_vote_and_the_outages_beginning(
    world: World, tmp_path: Path
) -> None:
    world.lose_east()
    act = Act(tmp_path, world.catalog(), "declare")
    assert act.observe().truth is Truth.ABSENT
    facts = act.perform()
    votes = facts["votes"]["app-east"]
    assert {name: vote["outcome"] for name, vote in votes.items()} == {
        "third": "failed",
        "east": "silent",
        "west": "failed",
        "machine": "failed",
    }
    assert (facts["failing"], facts["failing_since"], facts["needed"]) == (["app-east"], SINCE, 2)
    assert facts["failing_seconds"] == 15.0
    assert "app-west" not in facts["votes"]
    assert act.observe().truth is Truth.HOLDS
    for point in (world.agent_west, world.third):
        world.says(point, "passed")
    world.east.say = lambda *_: (200, b"ok")
    assert act.observe().truth is Truth.ABSENT


def test_a_site_that_serves_is_not_declared_lost_by_one_broken_network(world: World, tmp_path: Path) -> None:
    world.says(world.agent_west, "failed", failing_seconds=60.0)
    with pytest.raises(Failed, match="east does not fail by the quorum; app-east: 1 of 4 vantage points"):
        Act(tmp_path, world.catalog(), "declare", patience_seconds=0.3).perform()


def test_points_that_cannot_be_asked_or_asked_long_ago_are_no_vote(world: World, tmp_path: Path) -> None:
    world.lose_east()
    world.says(world.agent_west, "failed", failing_seconds=60.0, age_seconds=30.0)
    world.silent(world.third)
    act = Act(tmp_path, world.catalog(), "declare", patience_seconds=0.3)
    assert act.observe().truth is Truth.UNKNOWN
    with pytest.raises(Unproven, match="no quorum says that east fails"):
        act.perform()
    world.third.say = lambda *_: (200, b"[no json")
    with pytest.raises(Unproven):
        act.perform()


def test_the_step_may_ask_for_another_quorum_but_for_no_nonsense(world: World, tmp_path: Path) -> None:
    world.lose_east()
    with pytest.raises(Unproven, match="4 needed"):
        Act(tmp_path, world.catalog(), "declare", arguments={"quorum": 4}, patience_seconds=0.3).perform()
    with pytest.raises(BadInput, match="the quorum is 'all'"):
        Act(tmp_path, world.catalog(), "declare", arguments={"quorum": "all"}).perform()


def test_a_drill_only_looks_and_writes_down_what_both_sites_say(world: World, tmp_path: Path) -> None:
    act = Act(tmp_path, world.catalog(), "declare", live=False)
    facts = act.perform()
    assert facts["drill"] is True
    assert set(facts["votes"]) == {"app-east", "app-west"}
    assert act.observe().truth is Truth.HOLDS


def test_the_observation_joins_all_points_and_is_quick_though_one_hangs(world: World, tmp_path: Path) -> None:
    world.lose_east()

    def hang(link: socket.socket) -> None:
        link.recv(1)
        link.recv(100000)
        time.sleep(3)

    with bare(hang) as where:
        home = Home(
            folder=tmp_path, catalog=world.catalog(vantage={"third": world.third.url, "dead": f"http://{where}"})
        )
        begin = time.monotonic()
        seen = look.probes(home, "core")
        assert time.monotonic() - begin < 1.9
        assert (seen["app-east"].outcome, seen["app-east"].failing_seconds) == ("failed", 0.0)
        assert seen["app-west"].outcome == "passed"
        begin = time.monotonic()
        both = look.voted(home, "core", site="east", quorum=2, hurry_seconds=0.0)
        assert time.monotonic() - begin < 0.5
    assert both["app-east"].outcome == "failed"


def test_with_nobody_to_ask_everything_is_unproven_within_two_seconds(tmp_path: Path) -> None:
    probes = {"app-east": {"site": "east", "url": f"http://127.0.0.1:{closed_port()}"}}
    vantage = {"one": f"http://127.0.0.1:{closed_port()}", "two": f"http://127.0.0.1:{closed_port()}"}
    home = Home(folder=tmp_path, catalog=catalog({"probes": probes, "vantage": vantage}))
    found = look.voted(home, "core")["app-east"]
    assert (found.outcome, found.fails) == ("unproven", 1)
    assert found.votes["one"].outcome == "silent"


def test_approve_reads_who_consented_and_refuses_when_nobody_did(world: World, tmp_path: Path) -> None:
    given = [Consented()]
    act = Act(tmp_path, world.catalog(), "approve", stage={"consented": lambda: given[-1]})
    with pytest.raises(Refused, match="nobody consented to this run") as refused:
        act.perform()
    assert act.plan.digest in refused.value.hint
    given.append(Consented(by=("ann",), accepted=(Acceptance(klass="data-loss", limit=10.0, unit="s"),)))
    assert act.observe().truth is Truth.ABSENT
    assert act.perform() == {
        "by": ["ann"],
        "accepted": [{"klass": "data-loss", "limit": 10.0, "unit": "s"}],
        "standing": "",
    }
    assert act.observe().why == "by ann"
