"""Tell the emulator of the lab's zone, health checks and records, by boto3 through east's door. Again is harmless.

What people or drills have moved since (weights, edited records) stays as it is, as long as it points into this lab.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deployments.lab import layout
from deployments.lab.aws.ids import zone_id
from deployments.lab.dns import names
from deployments.lab.process import wait_until
from deployments.lab.world import World

if TYPE_CHECKING:
    Route53 = Any  # boto3's clients are made at run time; their stubs of Route53 are not installed

COMPARED = ("IPAddress", "Port", "ResourcePath")
"""What another block of addresses changes in a check; its other settings are people's."""


def provide(world: World) -> None:
    """Make what is missing, move what points to another block of addresses, wait until it is published."""
    route53 = client(world)
    for name, config in names.checks(world).items():
        _check(route53, name, config)
    zone = _zone(route53)
    there = {_key(each): each for each in _records(route53, zone)}
    mine = {world.address(site, source="user") for site in layout.SITES}
    changes = [
        {"Action": "UPSERT", "ResourceRecordSet": {**each, **_moved(there.get(_key(each)))}}
        for each in names.records(world)
        if not _fits(there.get(_key(each)), each, mine)
    ]
    if changes:
        told = route53.change_resource_record_sets(HostedZoneId=zone, ChangeBatch={"Changes": changes})
        change = told["ChangeInfo"]["Id"]
        wait_until(
            lambda: route53.get_change(Id=change)["ChangeInfo"]["Status"] == "INSYNC",
            what="the publication of the zone",
            patience_seconds=10,
            hint=f"read {world.processes.log('aws')}",
        )


def client(world: World) -> Route53:
    """Route53 through east's door, the only one that leads there."""
    import boto3
    from botocore.config import Config

    made: Route53 = boto3.client(
        "route53",
        endpoint_url=world.url("aws", "east"),
        region_name=world.region("east"),
        aws_access_key_id="lab",
        aws_secret_access_key="lab",  # noqa: S106 -- the emulator takes any
        config=Config(connect_timeout=2, read_timeout=10, retries={"total_max_attempts": 2}),
    )
    return made


def _zone(route53: Route53) -> str:
    wanted = zone_id(names.ZONE)
    zones = route53.list_hosted_zones_by_name(DNSName=names.ZONE)["HostedZones"]
    if not any(zone["Id"].endswith(wanted) for zone in zones):
        route53.create_hosted_zone(Name=names.ZONE, CallerReference="lab")
    return wanted


def _check(route53: Route53, name: str, config: dict[str, Any]) -> None:
    key = names.id_of(name)
    try:
        found = route53.get_health_check(HealthCheckId=key)["HealthCheck"]["HealthCheckConfig"]
    except route53.exceptions.NoSuchHealthCheck:
        reference = names.REFERENCES[name]
        route53.create_health_check(CallerReference=reference, HealthCheckConfig=config)
        return
    changed = {field: config[field] for field in COMPARED if field in config and found.get(field) != config[field]}
    if changed:
        route53.update_health_check(HealthCheckId=key, **changed)


def _records(route53: Route53, zone: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for page in route53.get_paginator("list_resource_record_sets").paginate(HostedZoneId=zone):
        found += page["ResourceRecordSets"]
    return found


def _key(record_set: dict[str, Any]) -> tuple[str, str, str | None]:
    return record_set["Name"], record_set["Type"], record_set.get("SetIdentifier")


def _moved(there: dict[str, Any] | None) -> dict[str, Any]:
    """What people set and another block of addresses doesn't change."""
    return {field: there[field] for field in ("Weight", "TTL") if there and field in there and there["Type"] == "A"}


def _fits(there: dict[str, Any] | None, wanted: dict[str, Any], mine: set[str]) -> bool:
    if there is None:
        return False
    if wanted["Type"] != "A":
        return bool(there["ResourceRecords"] == wanted["ResourceRecords"] and there["TTL"] == wanted["TTL"])
    return all(value["Value"] in mine for value in there["ResourceRecords"])
