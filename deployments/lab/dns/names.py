"""The lab's names: the zone lab.test, the health checks behind its records, the routing controls. Pure, of a world.

One place, because the emulator is told it, the catalog says it and the status shows it. `app` is what users live on;
the others exist so that each way of moving a name can be rehearsed alone.
"""

from __future__ import annotations

from typing import Any

from deployments.lab import layout
from deployments.lab.aws.ids import check_id, zone_id
from deployments.lab.world import World

ZONE = "lab.test"
TTL_SECONDS = 1
NEGATIVE_TTL_SECONDS = 5
"""AWS's default keeps "no such name" for 15 minutes (D7); a lab has no time for that lesson, a real zone should not."""
LIVE = "app"
REFERENCES = {
    "east-serves": "lab-east-serves",
    "rehearsal-east-serves": "lab-rehearsal-east-serves",
    "east-answers": "lab-east-answers",
    "arc-east": "lab-arc-east",
    "arc-west": "lab-arc-west",
}
"""Health check by its name in the catalog → the caller's reference by which it was made."""
MARKERS = {"east-serves": "east-is-out", "rehearsal-east-serves": "rehearsal-east-is-out"}
"""Inverted checks: while the object is in the west's bucket `doors`, the east counts as unhealthy."""
EVERY_SECONDS, FAILURES = 10, 3
ACCOUNT = "123456789012"
CONTROL_PANEL = f"arn:aws:route53-recovery-control::{ACCOUNT}:controlpanel/0f1e2d3c4b5a69788796a5b4c3d2e1f0"
CONTROLS = {
    "arc-east": f"{CONTROL_PANEL}/routingcontrol/aa11bb22cc33dd44",
    "arc-west": f"{CONTROL_PANEL}/routingcontrol/ee55ff6600771188",
}
SAFETY_RULE = f"{CONTROL_PANEL}/safetyrule/99aa88bb77cc66dd"
SAFETY_RULE_SAYS = "at least one of arc-east and arc-west is on"
HEALTH_PATH = "/health"


def id_of(check: str) -> str:
    """The id of a health check by its name in the catalog."""
    return check_id(REFERENCES[check])


def marker(check: str) -> str:
    """s3://doors/KEY of an inverted check."""
    return f"s3://{layout.DOORS}/{MARKERS[check]}"


def watched(world: World, check: str) -> str:
    """What a check watches: a URL, or a routing control's ARN."""
    if check in MARKERS:
        return f"http://{world.address('west', source='user')}:{layout.PORTS['s3']}/{layout.DOORS}/{MARKERS[check]}"
    if check == "east-answers":
        return f"http://{world.address('east', source='user')}:{layout.PORTS['app']}{HEALTH_PATH}"
    return CONTROLS[check]


def checks(world: World) -> dict[str, dict[str, Any]]:
    """The configuration of each health check in Route53's words, by its name in the catalog."""
    probed = {"Type": "HTTP", "RequestInterval": EVERY_SECONDS, "FailureThreshold": FAILURES, "Disabled": False}
    west, east = world.address("west", source="user"), world.address("east", source="user")
    found: dict[str, dict[str, Any]] = {
        name: {
            **probed,
            "IPAddress": west,
            "Port": layout.PORTS["s3"],
            "ResourcePath": f"/{layout.DOORS}/{key}",
            "Inverted": True,
        }
        for name, key in MARKERS.items()
    }
    found["east-answers"] = {
        **probed,
        "IPAddress": east,
        "Port": layout.PORTS["app"],
        "ResourcePath": HEALTH_PATH,
        "Inverted": False,
    }
    for name, arn in CONTROLS.items():
        found[name] = {"Type": "RECOVERY_CONTROL", "RoutingControlArn": arn, "Inverted": False, "Disabled": False}
    return found


def records(world: World) -> list[dict[str, Any]]:
    """The record sets in Route53's words."""
    found = [
        {
            "Name": f"{ZONE}.",
            "Type": "SOA",
            "TTL": NEGATIVE_TTL_SECONDS,
            "ResourceRecords": [{"Value": f"ns.{ZONE}. hostmaster.{ZONE}. 1 7200 900 1209600 {NEGATIVE_TTL_SECONDS}"}],
        },
        {"Name": f"{ZONE}.", "Type": "TXT", "TTL": 60, "ResourceRecords": [{"Value": '"a lab of standfast"'}]},
    ]
    for name, primary, secondary in (
        ("app", "east-serves", None),
        ("rehearsal", "rehearsal-east-serves", None),
        ("app-auto", "east-answers", None),
        ("app-arc", "arc-east", "arc-west"),
    ):
        found.append(_answer(world, name, "east", {"Failover": "PRIMARY", "HealthCheckId": id_of(primary)}))
        behind = {"HealthCheckId": id_of(secondary)} if secondary else {}
        found.append(_answer(world, name, "west", {"Failover": "SECONDARY", **behind}))
    for site, weight in (("east", 100), ("west", 0)):
        found.append(_answer(world, "app-weighted", site, {"Weight": weight}))
    return found


def catalog_values(world: World) -> dict[str, Any]:
    """The values of the lab's catalog that speak of names."""
    return {
        "zone": ZONE,
        "zone_id": zone_id(ZONE),
        "dns_ttl": f"{TTL_SECONDS} s",
        **{f"user_{site}": world.address(site, source="user") for site in layout.SITES},
        "name_servers": [f"{layout.hidden(world.block, 'dns')}:{layout.DNS_PORT}"],
        "resolvers": [f"{layout.hidden(world.block, 'resolver')}:{layout.DNS_PORT}"],
        **{f"check_{name.replace('-', '_')}": id_of(name) for name in REFERENCES},
        **{f"watched_{name.replace('-', '_')}": watched(world, name) for name in REFERENCES},
        **{f"marker_{name.replace('-', '_')}": marker(name) for name in MARKERS},
        "arc_endpoints": {region: world.url("arc", f"arc-{number}") for number, region in layout.ARC.items()},
        "arc_controls": CONTROLS,
        "arc_rules": [SAFETY_RULE_SAYS],
        "witness_probe": world.url("probe", layout.WITNESS),
    }


def _answer(world: World, name: str, site: str, policy: dict[str, Any]) -> dict[str, Any]:
    return {
        "Name": f"{name}.{ZONE}.",
        "Type": "A",
        "SetIdentifier": f"{name}-{site}",
        "TTL": TTL_SECONDS,
        "ResourceRecords": [{"Value": world.address(site, source="user")}],
        **policy,
    }
