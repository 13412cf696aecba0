"""A name is looked at from Route53 where it answers soon, else from its name servers; what neither knows is unknown."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws
from name_scene import EAST, WEST, always, app, catalog, name_server
from site_scene import bare, closed_port

from recovery.observation import DnsSeen
from tasks.home import Home
from tasks.route53 import look


def home(folder: Path, *servers: str, disabled: bool = False, check: str = "h-1", **more: Any) -> Home:
    checks = {"east-answers": {"id": check, "site": "east", "watches": "http://x/", "disabled": disabled}}
    names = {"app": app(*servers, check="east-answers", zone_id=more.pop("zone_id", "Z0"))}
    return Home(folder=folder, catalog=catalog(dns=names, health_checks=checks, **more))


@pytest.fixture
def silent(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A control plane that takes connections and says nothing."""
    told = tmp_path / "aws.json"
    told.write_text(json.dumps({"access_key_id": "anybody", "secret_access_key": "anything"}))
    with bare(lambda link: link.recv(1) and time.sleep(20)) as hung:
        yield {"endpoint_url": f"http://{hung}", "credentials": f"file:{told}"}


def gone(silent: dict[str, str]) -> dict[str, str]:
    return {**silent, "endpoint_url": f"http://127.0.0.1:{closed_port()}"}


def test_route53_says_ttl_checks_and_sites(tmp_path: Path) -> None:
    with mock_aws(), name_server(always(EAST), ttl=30) as server:
        client = boto3.client("route53", region_name="us-east-1")
        zone = client.create_hosted_zone(Name="lab.test", CallerReference="1")["HostedZone"]["Id"].rpartition("/")[2]
        config = {"Type": "HTTP", "IPAddress": "192.0.2.1", "Port": 80, "Disabled": True}
        made = client.create_health_check(CallerReference="1", HealthCheckConfig=config)  # type: ignore[arg-type]
        one = {"Name": "app.lab.test", "Type": "A", "SetIdentifier": "app-east", "Failover": "PRIMARY", "TTL": 300}
        change = {"Action": "UPSERT", "ResourceRecordSet": {**one, "ResourceRecords": [{"Value": EAST}]}}
        client.change_resource_record_sets(HostedZoneId=zone, ChangeBatch={"Changes": [change]})  # type: ignore[list-item]
        seen = look.dns(home(tmp_path, server.where, check=made["HealthCheck"]["Id"], zone_id=zone), "app")
    assert seen == DnsSeen(ttl_seconds=300, checks={"east-answers": "disabled"}, sites=("east",))


def test_without_route53_the_ttl_comes_from_a_name_server_and_the_rest_stays_unknown(
    tmp_path: Path, silent: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(look, "PATIENCE_SECONDS", 3.0)
    monkeypatch.setattr(look, "_ASK_SECONDS", 2.5)
    for route53 in (silent, gone(silent)):
        with name_server(always(WEST), ttl=42) as server, name_server(always(WEST)) as dead:
            dead.manner = "silent"
            begin = time.monotonic()
            seen = look.dns(home(tmp_path, server.where, dead.where, route53=route53), "app")
            assert time.monotonic() - begin < 10
        assert seen == DnsSeen(ttl_seconds=42, checks={"east-answers": "unknown"}, sites=None)


def test_the_catalog_s_word_counts_for_a_disabled_check_and_never_for_an_enabled_one(
    tmp_path: Path, silent: dict[str, str]
) -> None:
    for disabled, word in ((True, "disabled"), (False, "unknown")):
        seen = look.dns(home(tmp_path, disabled=disabled, route53=gone(silent)), "app")
        assert seen.checks == {"east-answers": word}


@pytest.mark.parametrize("manner", ["silent", "garbage", "SERVFAIL", "NXDOMAIN"])
def test_nothing_is_raised_when_nobody_answers(tmp_path: Path, silent: dict[str, str], manner: str) -> None:
    with name_server(always(WEST)) as server:
        server.manner = manner
        assert look.dns(home(tmp_path, server.where, route53=gone(silent)), "app").ttl_seconds is None
    assert look.dns(home(tmp_path, route53=gone(silent)), "nothing") == DnsSeen()


def test_wrong_credentials_are_silence_here(tmp_path: Path) -> None:
    route53 = {"credentials": f"file:{tmp_path / 'absent'}"}
    with name_server(always(WEST), ttl=7) as server:
        assert look.dns(home(tmp_path, server.where, route53=route53), "app").ttl_seconds == 7
