"""The names are rehearsed while users work: they notice nothing; what would keep a name from moving is told before."""

from __future__ import annotations

from pathlib import Path

import boto3
import moved
import pytest

from deployments.lab import observer
from deployments.lab.world import World
from recovery.doors import DnsName
from tasks import aws, preflight_dns
from tasks.resolving import resolve
from tasks.route53.zone import REGION

pytestmark = [pytest.mark.lab, pytest.mark.slow]


def answers(dns: DnsName) -> set[str]:
    return {value for server in dns.resolvers for value in resolve(server, dns.name, dns.type).values}


def outcomes(world: World, name: str) -> dict[str, str]:
    found = preflight_dns.look(moved.home_of(world).catalog, name)
    return {each.name.removeprefix(f"dns {name} "): each.outcome.value for each in found}


def test_a_rehearsal_moves_its_own_name_there_and_back_and_users_are_served_all_the_while(tmp_path: Path) -> None:
    with moved.lab(tmp_path / "lab") as world:
        home = moved.home_of(world)
        live, rehearsal = home.catalog.dns["app"], home.catalog.dns["rehearsal"]
        assert set(outcomes(world, "app").values()) == {"passed"}
        before = observer.look(world)
        told = moved.acted(home, moved.planned(home, "rehearse-dns", "west").plan)
        moved.seen(world, "east")
        after = observer.look(world)
        assert told.outcome == "met"
        assert after["outages"] == before["outages"]
        assert after["missing"] == before["missing"]
        assert after["acknowledged"] > before["acknowledged"]
        assert answers(live) == {live.records["east"].value}
        assert answers(rehearsal) == {rehearsal.records["east"].value}

        keys = aws.credentials(home.catalog.route53.credentials)
        route53 = boto3.client(
            "route53", region_name=REGION, endpoint_url=home.catalog.route53.endpoint_url,
            aws_access_key_id=keys.access_key_id, aws_secret_access_key=keys.secret_access_key,
        )  # fmt: skip
        check = home.catalog.health_checks["rehearsal-east-serves"]
        route53.update_health_check(HealthCheckId=check.id, Disabled=True)
        (east,) = [
            each
            for each in route53.list_resource_record_sets(HostedZoneId=rehearsal.zone_id)["ResourceRecordSets"]
            if each.get("SetIdentifier") == rehearsal.records["east"].set_identifier
        ]
        edit = {"Changes": [{"Action": "UPSERT", "ResourceRecordSet": {**east, "TTL": 300}}]}
        route53.change_resource_record_sets(HostedZoneId=rehearsal.zone_id, ChangeBatch=edit)
        assert outcomes(world, "rehearsal") == {
            "records": "passed",
            "ttl": "failed",
            "health rehearsal-east-serves": "failed",
        }
        assert set(outcomes(world, "app").values()) == {"passed"}
