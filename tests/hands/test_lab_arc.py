"""The lab's ARC endpoints, by the real boto3 client: two may be down, rules refuse, nothing acknowledged is lost."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from lab_names_scene import until

from deployments.lab.arc import cluster
from deployments.lab.arc.cluster import Cluster, NoMajority
from deployments.lab.arc.replica import Replica, agreed
from deployments.lab.environment import for_python, module

PANEL = "arn:aws:route53-recovery-control::123456789012:controlpanel/abc"
EAST, WEST, RULE = f"{PANEL}/routingcontrol/e", f"{PANEL}/routingcontrol/w", f"{PANEL}/safetyrule/r"
NUMBERS = (1, 2, 3, 4, 5)


@dataclass
class Arc:
    """Five endpoint processes."""

    folder: Path
    ports: dict[int, int]
    processes: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, number: int) -> None:
        argv = module("deployments.lab.arc.serve", self.folder / "config.json", number)
        self.processes[number] = subprocess.Popen(argv, env={**os.environ, **for_python()})

    def listens(self, number: int) -> bool:
        with socket.socket() as plug:
            return plug.connect_ex((address(number), self.ports[number])) == 0

    def client(self, number: int) -> Any:
        return boto3.client(
            "route53-recovery-cluster",
            endpoint_url=f"http://{address(number)}:{self.ports[number]}",
            region_name="us-east-1",
            aws_access_key_id="lab",
            aws_secret_access_key="lab",
            config=Config(connect_timeout=1, read_timeout=4, retries={"total_max_attempts": 1}),
        )

    def replicas(self) -> list[dict[str, Any]]:
        files = [self.folder / f"arc-{number}.json" for number in NUMBERS]
        return [json.loads(file.read_text()) for file in files if file.exists()]


def address(number: int) -> str:
    return f"127.61.8.{number}"


def free_port(number: int) -> int:
    with socket.socket() as plug:
        plug.bind((address(number), 0))
        return int(plug.getsockname()[1])


@pytest.fixture(scope="module")
def arc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arc]:
    folder = tmp_path_factory.mktemp("arc")
    ports = {number: free_port(number) for number in NUMBERS}
    config = {
        "folder": str(folder),
        "endpoints": {str(number): [address(number), port] for number, port in ports.items()},
        "control_panel": PANEL,
        "controls": {"east": {"arn": EAST, "first": True}, "west": {"arn": WEST, "first": False}},
        "rules": [{"arn": RULE, "name": "one on", "controls": [EAST, WEST], "at_least": 1}],
    }
    (folder / "config.json").write_text(json.dumps(config))
    made = Arc(folder, ports)
    for number in NUMBERS:
        made.start(number)
    until(lambda: all(map(made.listens, NUMBERS)), "five endpoints", patience_seconds=20)
    yield made
    for process in made.processes.values():
        process.kill()
        process.wait()


def put(client: Any, *, east: bool, west: bool, **more: Any) -> None:
    entries = [
        {"RoutingControlArn": arn, "RoutingControlState": "On" if on else "Off"}
        for arn, on in ((EAST, east), (WEST, west))
    ]
    client.update_routing_control_states(UpdateRoutingControlStateEntries=entries, **more)


def states(client: Any) -> tuple[str, str]:
    by = {each["RoutingControlArn"]: each for each in client.list_routing_controls()["RoutingControls"]}
    assert by[EAST]["RoutingControlName"] == "east"
    return by[EAST]["RoutingControlState"], by[WEST]["RoutingControlState"]


def refusal(call: Any, *args: Any, **more: Any) -> dict[str, Any]:
    with pytest.raises(ClientError) as told:
        call(*args, **more)
    return told.value.response


def test_what_one_endpoint_was_told_every_endpoint_says(arc: Arc):
    put(arc.client(2), east=False, west=True)
    assert {states(arc.client(number)) for number in NUMBERS} == {("Off", "On")}
    got = arc.client(4).get_routing_control_state(RoutingControlArn=WEST)
    assert (got["RoutingControlState"], got["RoutingControlName"]) == ("On", "west")
    put(arc.client(5), east=True, west=False)
    assert states(arc.client(1)) == ("On", "Off")


def test_a_safety_rule_refuses_until_it_is_overridden_by_its_name(arc: Arc):
    put(arc.client(1), east=True, west=False)
    off = {"RoutingControlArn": EAST, "RoutingControlState": "Off"}
    told = refusal(arc.client(1).update_routing_control_state, **off)
    assert (told["Error"]["Code"], told["resourceId"]) == ("ConflictException", RULE)
    assert states(arc.client(3)) == ("On", "Off"), "a refused change does nothing"
    arc.client(1).update_routing_control_state(**off, SafetyRulesToOverride=[RULE])
    assert states(arc.client(3)) == ("Off", "Off")
    put(arc.client(1), east=True, west=False)


def test_what_is_not_there_and_what_is_no_state_are_refused(arc: Arc):
    client = arc.client(1)
    told = refusal(client.get_routing_control_state, RoutingControlArn=f"{PANEL}/routingcontrol/x")
    assert told["Error"]["Code"] == "ResourceNotFoundException"
    told = refusal(client.update_routing_control_state, RoutingControlArn=EAST, RoutingControlState="Maybe")
    assert told["Error"]["Code"] == "ValidationException"


def test_two_endpoints_may_be_down_and_not_three_and_none_brings_an_old_state_back(arc: Arc):
    put(arc.client(1), east=True, west=False)
    arc.processes[4].send_signal(signal.SIGSTOP)
    arc.processes[5].kill()
    arc.processes[5].wait()
    put(arc.client(2), east=False, west=True)
    assert states(arc.client(1)) == ("Off", "On")
    arc.processes[3].send_signal(signal.SIGSTOP)
    told = refusal(put, arc.client(2), east=True, west=False)
    assert told["Error"]["Code"] == "EndpointTemporarilyUnavailableException"
    for number in (3, 4):
        arc.processes[number].send_signal(signal.SIGCONT)
    arc.start(5)
    until(lambda: arc.listens(5), "endpoint 5")
    assert states(arc.client(5)) == ("Off", "On")
    assert agreed(arc.replicas(), of=5) == {EAST: False, WEST: True}


def test_writers_at_once_leave_one_agreed_state(arc: Arc):
    def write(at: int) -> bool:
        try:
            put(arc.client(at % 5 + 1), east=bool(at % 2), west=not at % 2)
        except arc.client(1).exceptions.EndpointTemporarilyUnavailableException:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert any(pool.map(write, range(12)))
    assert len({states(arc.client(number)) for number in NUMBERS}) == 1


@pytest.mark.parametrize("seed", range(20))
def test_an_acknowledged_change_survives_whatever_is_lost_on_the_way(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Each change adds a mark; messages are lost at random, on the way there or back, and writers differ."""
    chance = random.Random(seed)
    replicas = {number: Replica(tmp_path / f"{number}.json") for number in NUMBERS}

    def ask(peer: Any, what: str, asked: dict[str, Any]) -> dict[str, Any] | None:
        if chance.random() < lossy[0]:
            return None
        told = replicas[peer[1]]
        ballot = cluster.ballot_of(asked)
        said = told.promise(ballot) if what == "promise" else told.accept(ballot, asked["state"])
        return None if chance.random() < lossy[0] else said

    lossy = [0.3]
    monkeypatch.setattr(cluster, "_ask", ask)
    monkeypatch.setattr(cluster, "PATIENCE_SECONDS", 0.02)
    monkeypatch.setattr(cluster.time, "sleep", lambda _: None)
    ends = {
        number: Cluster(number, replicas[number], [("", other) for other in NUMBERS if other != number], {})
        for number in NUMBERS
    }
    acknowledged = set()
    for at in range(30):
        try:
            ends[chance.choice(NUMBERS)].change(lambda state, at=at: {**state, str(at): True})
            acknowledged.add(str(at))
        except NoMajority:
            continue
    lossy[0] = 0.0
    monkeypatch.setattr(cluster, "PATIENCE_SECONDS", 2)
    assert acknowledged
    assert acknowledged <= set(ends[chance.choice(NUMBERS)].change(lambda state: state))
