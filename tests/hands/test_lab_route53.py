"""The emulator's Route53 by the real boto3 client: it refuses what AWS refuses, and forgets nothing."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from lab_names_scene import until

from deployments.lab.aws.changing import Refused, changed
from deployments.lab.aws.ids import check_id, zone_id
from deployments.lab.environment import for_python, module

EAST, WEST = "127.61.9.1", "127.61.9.2"
PROBE = {"Type": "HTTP", "IPAddress": "192.0.2.1", "Port": 80, "RequestInterval": 10, "FailureThreshold": 3}
ZONE = "lab.test."


@dataclass
class Emulator:
    """The process, with its two doors."""

    folder: Path
    port: int
    process: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self) -> None:
        argv = module("deployments.lab.aws.serve", self.folder / "config.json")
        quiet = (self.folder / "log").open("ab")
        self.process.append(subprocess.Popen(argv, env={**os.environ, **for_python()}, stdout=quiet, stderr=quiet))
        quiet.close()
        until(lambda: socket.socket().connect_ex((WEST, self.port)) == 0, "the emulator", patience_seconds=40)

    def end(self) -> None:
        self.process[-1].kill()
        self.process[-1].wait()

    def client(self, address: str = EAST) -> Any:
        return boto3.client(
            "route53",
            endpoint_url=f"http://{address}:{self.port}",
            region_name="us-east-1",
            aws_access_key_id="lab",
            aws_secret_access_key="lab",
            config=Config(retries={"total_max_attempts": 1}),
        )

    def published(self) -> dict[str, Any]:
        return json.loads((self.folder / "zone.json").read_text())


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    folder = tmp_path_factory.mktemp("aws")
    with socket.socket() as plug:
        plug.bind((EAST, 0))
        port = plug.getsockname()[1]
    config = {
        "addresses": {"east": EAST, "west": WEST},
        "global": "east",
        "port": port,
        "state": str(folder / "route53.json"),
        "published": str(folder / "zone.json"),
        "desk_url": "http://127.61.9.3:1",
        "delay_seconds": 0.2,
    }
    (folder / "config.json").write_text(json.dumps(config))
    made = Emulator(folder, port)
    made.start()
    made.client().create_hosted_zone(Name="lab.test", CallerReference="test")
    yield made
    made.end()


def a(name: str, value: str = "192.0.2.1", **more: Any) -> dict[str, Any]:
    return {"Name": name, "Type": "A", "TTL": 1, "ResourceRecords": [{"Value": value}], **more}


def batch(client: Any, *changes: tuple[str, dict[str, Any]]) -> str:
    told = client.change_resource_record_sets(
        HostedZoneId=zone_id(ZONE),
        ChangeBatch={"Changes": [{"Action": action, "ResourceRecordSet": each} for action, each in changes]},
    )
    assert told["ChangeInfo"]["Status"] == "PENDING"
    return str(told["ChangeInfo"]["Id"])


def sets(client: Any, name: str = "", page: int = 300) -> list[dict[str, Any]]:
    pages = client.get_paginator("list_resource_record_sets").paginate(
        HostedZoneId=zone_id(ZONE), PaginationConfig={"PageSize": page}
    )
    return [each for told in pages for each in told["ResourceRecordSets"] if each["Name"].startswith(name)]


def test_a_change_is_pending_until_the_name_servers_file_is_written(emulator: Emulator):
    client = emulator.client()
    first = batch(client, ("UPSERT", a("pending.lab.test")))
    until(lambda: client.get_change(Id=first)["ChangeInfo"]["Status"] == "INSYNC", "INSYNC")
    assert "pending.lab.test." in json.dumps(emulator.published())
    assert batch(client, ("UPSERT", a("pending.lab.test"))) != first
    with pytest.raises(ClientError, match="NoSuchChange"):
        client.get_change(Id="/change/CNOBODY")


def test_a_batch_is_done_whole_or_not_at_all(emulator: Emulator):
    client = emulator.client()
    with pytest.raises(ClientError, match="InvalidChangeBatch"):
        batch(client, ("UPSERT", a("good.lab.test")), ("UPSERT", a("bad.elsewhere.test")))
    assert sets(client, "good") == []


def test_a_delete_by_set_identifier_strikes_one_name_only(emulator: Emulator):
    client = emulator.client()
    both = [a(f"{name}.lab.test", SetIdentifier="blue", Weight=1) for name in ("d1", "d2")]
    batch(client, *(("UPSERT", each) for each in both))
    with pytest.raises(ClientError, match="do not match"):
        batch(client, ("DELETE", {**both[0], "Weight": 2}))
    batch(client, ("DELETE", both[0]))
    assert [each["Name"] for each in sets(client, "d")] == ["d2.lab.test."]


def test_names_are_one_whatever_their_case_and_pages_split_inside_a_group(emulator: Emulator):
    client = emulator.client()
    batch(client, *(("UPSERT", a("GROUP.lab.test", SetIdentifier=str(at), Weight=at)) for at in range(5)))
    batch(client, ("UPSERT", a("group.LAB.test.", "192.0.2.9", SetIdentifier="0", Weight=200)))
    found = sets(client, "group", page=2)
    assert [(each["SetIdentifier"], each["Weight"]) for each in found] == [
        ("0", 200), ("1", 1), ("2", 2), ("3", 3), ("4", 4),
    ]  # fmt: skip


def test_a_check_keeps_all_its_settings_and_its_reference_makes_it_once(emulator: Emulator):
    client = emulator.client()
    control = {"Type": "RECOVERY_CONTROL", "RoutingControlArn": "arn:aws:route53-recovery-control::1:control/x"}
    key = client.create_health_check(CallerReference="arc", HealthCheckConfig=control)["HealthCheck"]["Id"]
    assert key == check_id("arc")
    assert client.get_health_check(HealthCheckId=key)["HealthCheck"]["HealthCheckConfig"].items() >= control.items()
    for _ in range(2):
        made = client.create_health_check(CallerReference="probe", HealthCheckConfig=PROBE)["HealthCheck"]
    with pytest.raises(ClientError, match="HealthCheckAlreadyExists"):
        client.create_health_check(CallerReference="probe", HealthCheckConfig={**PROBE, "Port": 81})
    changed = client.update_health_check(HealthCheckId=made["Id"], HealthCheckVersion=1, Disabled=True)["HealthCheck"]
    assert changed["HealthCheckConfig"].items() >= {**PROBE, "Disabled": True}.items()
    with pytest.raises(ClientError, match="HealthCheckVersionMismatch"):
        client.update_health_check(HealthCheckId=made["Id"], HealthCheckVersion=1, Disabled=False)
    assert client.get_health_check_status(HealthCheckId=made["Id"])["HealthCheckObservations"] == []


def test_the_other_regions_door_does_not_lead_to_it(emulator: Emulator):
    with pytest.raises(ClientError, match="UnknownEndpoint"):
        emulator.client(WEST).list_hosted_zones()
    sts = boto3.client(
        "sts",
        endpoint_url=f"http://{WEST}:{emulator.port}",
        region_name="us-west-2",
        aws_access_key_id="lab",
        aws_secret_access_key="lab",
    )
    assert sts.get_caller_identity()["Account"]


def test_killed_and_started_again_it_has_every_zone_set_and_check_with_its_id(emulator: Emulator):
    client = emulator.client()
    reference = client.create_health_check(CallerReference="kept", HealthCheckConfig=PROBE)["HealthCheck"]["Id"]
    last = batch(client, ("UPSERT", a("kept.lab.test", SetIdentifier="k", Weight=7, HealthCheckId=reference)))
    before = sets(client), client.list_health_checks()["HealthChecks"], client.list_hosted_zones()["HostedZones"]
    emulator.end()
    emulator.start()
    client = emulator.client()
    after = sets(client), client.list_health_checks()["HealthChecks"], client.list_hosted_zones()["HostedZones"]
    assert after == before
    assert client.get_change(Id=last)["ChangeInfo"]["Status"] == "INSYNC"
    assert "kept.lab.test." in json.dumps(emulator.published())
    with pytest.raises(ClientError, match="HealthCheckInUse"):
        client.delete_health_check(HealthCheckId=reference)


HERE = [a("app.lab.test.", SetIdentifier="e", Weight=1), a("plain.lab.test.")]


@pytest.mark.parametrize(
    ("record", "why"),
    [
        (a("w.lab.test", SetIdentifier="x", Weight=300), "not between 0 and 255"),
        (a("w.lab.test", "garbage"), "no value of type A"),
        (a("w.lab.test", SetIdentifier="x"), "exactly one of"),
        (a("w.lab.test", Weight=1), "exactly one of"),
        (a("w.lab.test", SetIdentifier="x", Weight=1, HealthCheckId="nobody"), "there is no health check"),
        (a("app.lab.test"), "can't stand beside one another"),
        (a("plain.lab.test", SetIdentifier="x", Failover="PRIMARY"), "can't stand beside one another"),
        ({**a("plain.lab.test"), "Type": "CNAME", "ResourceRecords": [{"Value": "x.lab.test."}]}, "CNAME"),
        ({**a("lab.test"), "Type": "CNAME", "ResourceRecords": [{"Value": "x.lab.test."}]}, "apex"),
        ({"Name": "w.lab.test", "Type": "A", "AliasTarget": {}}, "not served"),
        (a("xlab.test"), "not permitted in zone"),
    ],
)
def test_what_aws_refuses_is_refused(record: dict[str, Any], why: str):
    with pytest.raises(Refused, match=why):
        changed(ZONE, HERE, [{"Action": "UPSERT", "ResourceRecordSet": record}], [])


@pytest.mark.parametrize(
    ("action", "record", "why"),
    [
        ("CREATE", HERE[0], "already exists"),
        ("DELETE", a("nobody.lab.test."), "was not found"),
        ("DELETE", {**HERE[1], "TTL": 2}, "do not match"),
        ("MERGE", HERE[1], "no action"),
    ],
)
def test_each_action_is_exact(action: str, record: dict[str, Any], why: str):
    with pytest.raises(Refused, match=why):
        changed(ZONE, HERE, [{"Action": action, "ResourceRecordSet": record}], [])


def test_two_primaries_are_refused():
    both = [a("f.lab.test", SetIdentifier=name, Failover="PRIMARY") for name in "xy"]
    with pytest.raises(Refused, match="one PRIMARY"):
        changed(ZONE, HERE, [{"Action": "CREATE", "ResourceRecordSet": each} for each in both], [])
