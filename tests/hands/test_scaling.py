"""Instances are counted and made more, never fewer: on moto's Auto Scaling groups and on a door of one's own.

What moto does not tell the truth about, and is played here: it starts all instances at once, bounds no group by
its MaxSize (AWS refuses a MinSize above it), knows no quota of EC2, suspends `Launch` and launches all the same, and
never has another scaling activity underway.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import urllib3
from site_scene import Site, site

from recovery.catalog import S3Endpoint
from recovery.drive import Truth
from recovery.errors import Failed, Refused
from recovery.hazard import Acceptance
from recovery.observation import CapacitySeen
from recovery.step import Step
from tasks import aws, kinds, preflight_capacity
from tasks.home import Home
from tasks.observing import observe
from tasks.service import instances, scaling
from tasks.service.instances import Group, Url
from tasks.stage import Consented, Stage
from tests.hands.service_scene import Act, catalog

REGION = "us-west-2"
WEB = {"full_load": 6, "sites": {"east": {"group": "web-east"}, "west": {"group": "web-west"}}}
POLICY = {"scaling": {"web": {"replicas": {"at_least": 2, "at_most": 8}}}}


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Endpoint]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        keys = tmp_path_factory.mktemp("moto") / "keys.json"
        keys.write_text(json.dumps({"access_key_id": "testing", "secret_access_key": "testing"}))
        yield S3Endpoint(endpoint_url=f"http://{host}:{port}", credentials=f"file:{keys}")
    finally:
        server.stop()


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A starved machine's emulator is no silent cloud."""
    instances._made.cache_clear()
    monkeypatch.setattr(instances, "PATIENCE_SECONDS", 9.0)
    monkeypatch.setattr(scaling, "LEFT_SECONDS", 9.0)


@pytest.fixture
def groups(cloud: S3Endpoint) -> dict[str, Any]:
    """Both sites' clients, each with a group of its own: two of at most eight. What was there before is gone."""
    urllib3.request("POST", f"{cloud.endpoint_url}/moto-api/reset", timeout=60)
    made = {}
    for place, region in (("east", "us-east-1"), ("west", REGION)):
        made[place] = client = aws.client("autoscaling", cloud, region=region, patience_seconds=9)
        template = {"LaunchTemplateName": "web", "Version": "$Latest"}
        ec2 = aws.client("ec2", cloud, region=region, patience_seconds=9)
        ec2.create_launch_template(LaunchTemplateName="web", LaunchTemplateData={"ImageId": "ami-12c6146b"})
        client.create_auto_scaling_group(
            AutoScalingGroupName=f"web-{place}",
            MinSize=2,
            MaxSize=8,
            LaunchTemplate=template,
            AvailabilityZones=[f"{region}a"],
        )
    return made


def core(cloud: S3Endpoint, **more: Any) -> Any:
    """A catalog whose service runs in those groups."""
    door = cloud.model_dump()
    made = catalog({"compute": {"web": WEB}}, operations=POLICY, **more)
    sites = {name: each.but(compute=door) for name, each in made.sites.items()}
    return made.but(sites=sites)


ASKED = {"site": "west", "capacity": {"web": {"least": 6, "most": 8}}}


def sizes(client: Any, name: str) -> tuple[int, int, int]:
    (group,) = client.describe_auto_scaling_groups(AutoScalingGroupNames=[name])["AutoScalingGroups"]
    return group["MinSize"], group["DesiredCapacity"], len(group["Instances"])


def test_a_group_is_brought_to_what_carries_all_users_and_asked_again_nothing_is_done(
    cloud: S3Endpoint, groups: dict[str, Any], tmp_path: Path
) -> None:
    act = Act(tmp_path, core(cloud), "scale", arguments=ASKED, patience_seconds=20)
    assert act.observe().truth is Truth.ABSENT
    facts = act.perform()
    assert (facts["site"], facts["state"]) == ("west", "scaled")
    web = facts["components"]["web"]
    assert web["before"] == {"at_least": 2, "desired": 2, "in_service": 2}
    assert (web["carried"], web["wanted"], web["asked_for"], web["short"]) == (2, 6, 6, 0)
    assert (web["in_service"], web["at_most"]) == (6, 8)
    assert sizes(groups["west"], "web-west") == (6, 6, 6), "the MinSize alone was raised, and brought the others along"
    assert act.observe().truth is Truth.HOLDS
    again = act.perform()
    assert (again["state"], again["components"]["web"]["before"]["in_service"]) == ("already", 6)
    assert sizes(groups["east"], "web-east") == (2, 2, 2), "nothing is made fewer, here or there"


def test_as_many_as_the_other_site_has_and_never_fewer_than_there_are(
    cloud: S3Endpoint, groups: dict[str, Any], tmp_path: Path
) -> None:
    groups["east"].update_auto_scaling_group(AutoScalingGroupName="web-east", DesiredCapacity=7)
    facts = Act(tmp_path, core(cloud), "scale", arguments=ASKED, patience_seconds=20).perform()
    assert (facts["components"]["web"]["carried"], facts["components"]["web"]["wanted"]) == (7, 7)
    assert sizes(groups["west"], "web-west") == (7, 7, 7)
    groups["west"].update_auto_scaling_group(AutoScalingGroupName="web-west", MinSize=2, DesiredCapacity=8)
    grown = Act(tmp_path, core(cloud), "scale", arguments=ASKED, patience_seconds=20).perform()
    assert sizes(groups["west"], "web-west") == (7, 8, 8), "a floor under those that a policy had made"
    assert grown["components"]["web"]["in_service"] == 8


def test_a_limit_that_leaves_too_few_refuses_until_people_accept_it(
    cloud: S3Endpoint, groups: dict[str, Any], tmp_path: Path
) -> None:
    groups["west"].update_auto_scaling_group(AutoScalingGroupName="web-west", MaxSize=4)
    with pytest.raises(Refused, match="west may have 4 of the 6 instances of web"):
        Act(tmp_path, core(cloud), "scale", arguments=ASKED).perform()
    assert sizes(groups["west"], "web-west") == (2, 2, 2), "refused before anything was asked for"
    agreed = Consented(by=("ann",), accepted=(Acceptance(klass="capacity-limit", limit=2, unit="instances"),))
    act = Act(tmp_path, core(cloud), "scale", arguments=ASKED, stage={"consented": lambda: agreed}, patience_seconds=20)
    facts = act.perform()
    assert (facts["state"], facts["components"]["web"]["short"], facts["components"]["web"]["in_service"]) == (
        "short",
        2,
        4,
    )
    assert act.observe().truth is Truth.HOLDS
    groups["east"].update_auto_scaling_group(AutoScalingGroupName="web-east", MaxSize=9, DesiredCapacity=9)
    groups["west"].update_auto_scaling_group(AutoScalingGroupName="web-west", MaxSize=7)
    least = Act(tmp_path, core(cloud), "scale", arguments=ASKED, patience_seconds=20).perform()
    assert least["components"]["web"]["short"] == 1, "enough for all by the catalog: nobody has to agree"


def test_a_group_says_what_it_has_what_bounds_it_and_that_it_is_not_there(
    cloud: S3Endpoint, groups: dict[str, Any]
) -> None:
    west = Group(name="web-west", endpoint=cloud, region=REGION)
    assert west.look() == CapacitySeen(answer="answers", at_least=2, desired=2, in_service=2, at_most=8)
    groups["west"].suspend_processes(AutoScalingGroupName="web-west", ScalingProcesses=["Launch"])
    held = west.look()
    assert (held.at_most, held.why) == (2, "the process Launch of web-west is suspended")
    assert west.trouble() == ""
    nowhere = Group(name="web-north", endpoint=cloud, region=REGION)
    assert nowhere.look() == CapacitySeen(
        answer="answers", at_most=0, why="us-west-2 has no Auto Scaling group web-north"
    )
    with pytest.raises(Failed, match="Auto Scaling of us-west-2: ValidationError"):
        nowhere.raise_to(3)


class Fake:
    """A client that answers as AWS's documentation says and moto doesn't."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers

    def __getattr__(self, name: str) -> Any:
        return lambda **_: self.answers[name]


def test_weights_are_counted_in_units_and_what_does_not_serve_is_not_counted(
    cloud: S3Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def one(state: str, health: str = "Healthy", **more: str) -> dict[str, str]:
        return {"LifecycleState": state, "HealthStatus": health, **more}

    told = {
        "MinSize": 4,
        "DesiredCapacity": 8,
        "MaxSize": 9,
        "Instances": [
            one("InService", WeightedCapacity="3"),
            one("InService", "Unhealthy", WeightedCapacity="3"),
            one("Pending"),
            one("InService"),
        ],
    }
    activity = {"StatusCode": "Failed", "StatusMessage": "You have requested more vCPU capacity than your limit of 32"}
    fake = Fake(
        describe_auto_scaling_groups={"AutoScalingGroups": [told]},
        describe_scaling_activities={"Activities": [activity]},
        get_service_quota={"Quota": {"Value": 64.0}},
    )
    monkeypatch.setattr(instances, "_client", lambda *_: fake)
    group = Group(name="web", endpoint=cloud, region=REGION)
    assert group.look() == CapacitySeen(answer="answers", at_least=4, desired=8, in_service=4, at_most=9)
    assert group.trouble() == activity["StatusMessage"]
    made = core(cloud)
    assert instances.vcpus(made, made.services["core"], ["east", "west", "mars"]) == {"east": 64.0, "west": 64.0}


def test_a_silent_control_plane_is_told_at_once_in_a_look_and_by_its_name_in_the_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scaling, "SILENT_SECONDS", 0.5)
    gone = S3Endpoint(endpoint_url="http://127.0.0.1:1", credentials="env:GONE")
    monkeypatch.setenv("GONE_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("GONE_SECRET_ACCESS_KEY", "b")
    made = core(gone)
    seen = instances.look(made, made.services["core"], ["west", "witness"])
    assert seen == {"web": {"west": CapacitySeen(why="Auto Scaling of us-west-2 is silent (connection refused)")}}
    quotas = instances.vcpus(made, made.services["core"], ["west"])
    assert quotas == {"west": "Service Quotas of us-west-2 is silent (connection refused)"}
    act = Act(tmp_path, made, "scale", arguments=ASKED, patience_seconds=20)
    with pytest.raises(Failed, match="west: Auto Scaling of us-west-2 is silent") as caught:
        act.perform()
    assert "'dr run skip'" in caught.value.hint
    assert Group(name="web", endpoint=gone, region=REGION).trouble() == ""
    act.results["it"] = {"components": {"web": {"asked_for": 6}}}
    assert act.observe().truth is Truth.HOLDS, "it takes no instance away"
    told = preflight_capacity.look(made, "core")
    assert {each.outcome.value for each in told} == {"unproven", "not configured"}


def test_a_client_is_made_once_and_before_the_clock_of_the_answers_runs(
    cloud: S3Endpoint, groups: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[str, str]] = []
    client, asking = aws.client, threading.current_thread()

    def making(service: str, endpoint: S3Endpoint, *, region: str, **more: Any) -> Any:
        made.append((service, region))
        assert threading.current_thread() is asking, "else it is taken for their silence on a slow machine"
        return client(service, endpoint, region=region, **more)

    instances._made.cache_clear()
    monkeypatch.setattr(aws, "client", making)
    here = core(cloud)
    both = here.but(services={"core": here.services["core"].but(compute={"web": WEB, "api": WEB})})
    seen = instances.look(both, both.services["core"], ["east", "west"])
    assert {each.answer for sites in seen.values() for each in sites.values()} == {"answers"}
    assert sorted(made) == [("autoscaling", "us-east-1"), ("autoscaling", REGION)], "one for each door"


class Machines:
    """A door of one's own: instances that start one at each look, once they were asked for."""

    def __init__(self, here: Site, *, count: int = 1, at_most: int | None = 9) -> None:
        self.count, self.at_least, self.at_most, self.refuses = count, 1, at_most, 0
        self.lock = threading.Lock()
        self.url = f"{here.url}/capacity"
        here.say = self.say

    def say(self, method: str, _path: str, body: bytes) -> tuple[int, bytes]:
        with self.lock:
            if method == "PUT" and self.refuses:
                self.refuses -= 1
                return 503, b"busy"
            if method == "PUT":
                self.at_least = max(self.at_least, json.loads(body)["at_least"])
            told = {
                "at_least": self.at_least,
                "desired": max(self.count, self.at_least),
                "in_service": self.count,
                "at_most": self.at_most,
                "more": "to come",
            }
            self.count += self.count < self.at_least
            return 200, json.dumps(told).encode()


@contextmanager
def machines(**more: Any) -> Iterator[Machines]:
    with site() as here:
        yield Machines(here, **more)


def own(west: str, east: str = "http://127.0.0.1:1/") -> Any:
    sites = {"east": {"url": east}, "west": {"url": west}}
    return catalog({"compute": {"web": {"full_load": 6, "sites": sites}}})


def test_a_door_of_ones_own_is_waited_for_and_a_refusal_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scaling, "PAUSE_MOST_SECONDS", 0.05)
    monkeypatch.setattr(scaling, "PAUSE_FIRST_SECONDS", 0.02)
    with machines() as here:
        here.refuses = 2
        act = Act(tmp_path, own(here.url), "scale", arguments=ASKED, patience_seconds=20)
        facts = act.perform()
        assert facts["components"]["web"]["before"]["in_service"] == 1
        assert facts["components"]["web"]["carried"] == "unknown", "the other site is silent, which stops nobody"
        assert here.count == 6
        assert "3 of 6 instances of web are in service" in act.said
        here.count = 4
        assert act.observe() == scaling.absent("4 of 6 instances of web are in service")


def test_what_does_not_start_fails_with_what_was_seen_last_and_a_cancelled_run_does_not_wait_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with site(lambda *_: (200, b'{"desired": 6, "in_service": 2}')) as stuck:
        act = Act(tmp_path, own(stuck.url), "scale", arguments=ASKED, patience_seconds=1)
        with pytest.raises(Failed, match="west: 2 of 6 instances of web are in service"):
            act.perform()
        unwanted = Act(tmp_path, own(stuck.url), "scale", arguments=ASKED, patience_seconds=60)
        scene = unwanted.scene
        monkeypatch.setattr(unwanted, "scene", lambda: _cancelled(scene()))
        with pytest.raises(Failed, match="2 of 6"):
            unwanted.perform()
    with site(lambda *_: (200, b"many")) as mumbling:
        assert "can't be read" in Url(url=mumbling.url).look().why
        assert Url(url=mumbling.url).trouble() == ""


def _cancelled(scene: Any) -> Any:
    from dataclasses import replace

    return replace(scene, wanted=lambda: False)


def test_a_service_without_compute_says_that_nothing_was_scaled_and_is_refused_where_it_must_be(tmp_path: Path) -> None:
    act = Act(tmp_path, catalog({}), "scale")
    assert act.perform()["state"] == "not configured"
    assert act.observe().truth is Truth.HOLDS
    with pytest.raises(Refused, match="nothing was scaled"):
        Act(tmp_path, catalog({}), "scale", arguments={"required": True}).perform()
    assert preflight_capacity.look(catalog({}), "core") == ()


def test_plans_count_what_there_is_and_a_service_without_compute_asks_nobody(tmp_path: Path) -> None:
    with machines(count=4) as west, machines(count=7) as east:
        home = Home(folder=tmp_path, catalog=own(west.url, east.url))
        seen = observe(home, "core")
        assert {site: each.in_service for site, each in seen.capacity["web"].items()} == {"east": 7, "west": 4}
        assert seen.vcpus == {}, "no group, no quota"
    assert observe(Home(folder=tmp_path, catalog=catalog({})), "core").capacity == {}


def test_a_cancelled_run_keeps_what_it_was_given_and_says_so(tmp_path: Path) -> None:
    from recovery.drive import History

    act = Act(tmp_path, catalog({}), "scale")
    stage = Stage(home=Home(folder=tmp_path, catalog=catalog({})), plan=act.plan, sign=None)  # type: ignore[arg-type]
    step = Step(id="it", verb="scale", resource="core")
    result: Any = {
        "site": "west",
        "components": {"web": {"state": "scaled", "asked_for": 6}, "api": {"state": "already"}},
    }
    assert kinds.undo(stage, step, History(), result) == {"kept": "west keeps the instances that it was given (web 6)"}
    assert kinds.undo(stage, step, History(), {"state": "not configured"}) == {}
