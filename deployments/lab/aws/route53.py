"""Route53 for the emulator: moto's vocabulary over our book, where moto's own behaviour would teach the wrong thing.

moto's backend is no public API, hence the pin `moto==5.2.*`: this module uses BackendDict.backend, urls.url_paths,
ActionResult, Route53ClientError, FakeZone and the parameter parsing of Route53's responses. What it mends (facts about
AWS, 1.2): changes are atomic and judged as on AWS, keys are exact (name, type, SetIdentifier), names are normalised,
PENDING is real and change ids are unique, pages split inside a group, health checks keep all their fields and their
caller's reference is idempotent, and a check's status is what the checkers found.
"""

from __future__ import annotations

import json
import secrets
import urllib.request
from datetime import UTC, datetime
from typing import Any

import moto.route53.urls
from moto.core.responses import ActionResult, EmptyResult
from moto.route53 import models
from moto.route53.exceptions import HostedZoneNotEmpty, NoSuchHealthCheck, Route53ClientError
from moto.route53.responses import Route53

from deployments.lab.aws import changing
from deployments.lab.aws.book import Book
from deployments.lab.aws.ids import check_id, zone_id

NAME_SERVERS = ["ns-2048.awsdns-64.com", "ns-2049.awsdns-65.net", "ns-2050.awsdns-66.org", "ns-2051.awsdns-67.co.uk"]
DEFAULT_SOA = f"{NAME_SERVERS[0]}. awsdns-hostmaster.amazon.com. 1 7200 900 1209600 86400"
CHECK_TYPES = ("HTTP", "HTTP_STR_MATCH", "TCP", "CALCULATED", "RECOVERY_CONTROL")
MOST_IN_A_BATCH = 1000


def install(book: Book, desk_url: str) -> None:
    """Let moto serve Route53 from this book. `desk_url`: where the health checkers tell their verdicts."""
    backend = type("LabRoute53", (_Backend,), {"book": book, "__module__": "moto.route53.models"})
    models.route53_backends.backend = backend
    responses: Any = type("LabResponses", (_Responses,), {"book": book, "desk_url": desk_url})
    paths = moto.route53.urls.url_paths
    paths.update(dict.fromkeys(paths, responses.dispatch))


class _Backend(models.Route53Backend):  # type: ignore[misc]
    """moto's backend with the zones of the book (for tags, listings and counts), made anew from it at a start."""

    book: Book

    def __init__(self, region_name: str, account_id: str) -> None:
        super().__init__(region_name, account_id)
        for key, zone in self.book.zones.items():
            self._show(key, zone)

    def create_hosted_zone(
        self, name: str, private_zone: bool, caller_reference: str | None = None, **more: Any
    ) -> Any:
        """A zone with a stable id, or the refusal of a second one by the same caller's reference."""
        key, name = zone_id(name), name.lower().rstrip(".") + "."
        if key in self.book.zones:
            text = f"A hosted zone has already been created with the specified caller reference or name: {name}"
            raise Route53ClientError("HostedZoneAlreadyExists", text)
        given = [{"Value": f"{each}."} for each in NAME_SERVERS]
        records = [
            {"Name": name, "Type": "NS", "TTL": 172800, "ResourceRecords": given},
            {"Name": name, "Type": "SOA", "TTL": 900, "ResourceRecords": [{"Value": DEFAULT_SOA}]},
        ]
        zone = {
            "name": name,
            "private": bool(private_zone),
            "reference": caller_reference or secrets.token_hex(8),
            "comment": more.get("comment"),
            "records": records,
        }
        self.book.zones[key] = zone
        self.book.keep(_change_id())
        return self._show(key, zone)

    def delete_hosted_zone(self, id_: str) -> Any:
        """Delete an empty zone."""
        zone = self.get_hosted_zone(id_)
        if any(each["Type"] not in {"NS", "SOA"} for each in self.book.records(zone.resource_id)):
            raise HostedZoneNotEmpty
        del self.book.zones[zone.resource_id]
        self.book.keep(_change_id())
        return self.zones.pop(zone.resource_id)

    def _show(self, key: str, zone: dict[str, Any]) -> Any:
        shown = models.FakeZone(
            zone["name"],
            key,
            zone["private"],
            zone["reference"],
            zone["comment"],
            models.DelegationSet("lab", NAME_SERVERS, ""),
        )
        shown.rrsets = [None] * len(zone["records"])
        shown.vpcs = [{}] if zone["private"] else []
        self.zones[key] = shown
        return shown


class _Responses(Route53):  # type: ignore[misc]
    """The operations that moto answers otherwise than AWS."""

    book: Book
    desk_url: str

    def change_resource_record_sets(self) -> ActionResult:
        """A batch, whole or not at all."""
        zone = self.backend.get_hosted_zone(self._get_param("HostedZoneId"))
        changes = self._get_param("ChangeBatch.Changes") or []
        weight = sum(
            len(each["ResourceRecordSet"].get("ResourceRecords") or []) * (1 + (each["Action"] == "UPSERT"))
            for each in changes
        )
        if weight > MOST_IN_A_BATCH:
            raise Route53ClientError("InvalidChangeBatch", f"Number of records limit of {MOST_IN_A_BATCH} exceeded.")
        try:
            self.book.change(zone.resource_id, changes)
        except changing.Refused as refused:
            raise Route53ClientError("InvalidChangeBatch", f"[{', '.join(refused.messages)}]") from refused
        zone.rrsets = [None] * len(self.book.records(zone.resource_id))
        change = _change_id()
        at = self.book.keep(change)
        return ActionResult({"ChangeInfo": _info(change, "PENDING", at)})

    def list_resource_record_sets(self) -> ActionResult:
        """A page of the record sets, with the identifier at which the next one begins."""
        zone = self.backend.get_hosted_zone(self._get_param("HostedZoneId"))
        most = self._get_int_param("MaxItems", 300)
        rest = changing.after(
            self.book.records(zone.resource_id),
            self._get_param("StartRecordName"),
            self._get_param("StartRecordType"),
            self._get_param("StartRecordIdentifier"),
        )
        told: dict[str, Any] = {
            "ResourceRecordSets": rest[:most],
            "IsTruncated": len(rest) > most,
            "MaxItems": most,
        }
        if len(rest) > most:
            name, kind, identifier = changing.key_of(rest[most])
            told |= {"NextRecordName": name, "NextRecordType": kind, "NextRecordIdentifier": identifier}
        return ActionResult(told)

    def get_change(self) -> ActionResult:
        """PENDING until the name servers have it."""
        change = str(self._get_param("Id")).removeprefix("/change/")
        found = self.book.status(change)
        if found is None:
            raise Route53ClientError("NoSuchChange", f"A change with id {change} does not exist.")
        return ActionResult({"ChangeInfo": _info(change, *found)})

    def create_health_check(self) -> ActionResult:
        """A check by its caller's reference: the same again is the same check, other settings are refused."""
        reference, config = self._get_param("CallerReference"), dict(self._get_param("HealthCheckConfig"))
        if config.get("Type") not in CHECK_TYPES:
            text = f"the lab's checkers know the types {', '.join(CHECK_TYPES)}, not {config.get('Type')}"
            raise Route53ClientError("InvalidInput", text)
        key = check_id(reference)
        here = self.book.checks.get(key)
        if here is not None and here["created"] != config:
            text = f"A health check with the reference {reference} and other settings already exists."
            raise Route53ClientError("HealthCheckAlreadyExists", text)
        if here is None:
            here = {"reference": reference, "version": 1, "created": config, "config": dict(config)}
            self.book.checks[key] = here
            self.book.keep(_change_id())
        location = f"https://route53.amazonaws.com/2013-04-01/healthcheck/{key}"
        return ActionResult({"HealthCheck": _shown(key, here), "Location": location})

    def get_health_check(self) -> ActionResult:
        """One check with all its settings."""
        key, found = self._check()
        return ActionResult({"HealthCheck": _shown(key, found)})

    def list_health_checks(self) -> ActionResult:
        """All checks, in one page."""
        told = [_shown(key, each) for key, each in self.book.checks.items()]
        return ActionResult({"HealthChecks": told, "IsTruncated": False, "Marker": "", "MaxItems": 1000})

    def update_health_check(self) -> ActionResult:
        """Change what is given and nothing else; a version that is no longer the newest is refused."""
        key, found = self._check()
        given = {name: value for name, value in self._get_params().items() if value is not None}
        version = given.pop("HealthCheckVersion", None)
        if version is not None and int(version) != found["version"]:
            raise Route53ClientError("HealthCheckVersionMismatch", f"the health check's version is {found['version']}")
        given.pop("HealthCheckId", None)
        reset = given.pop("ResetElements", [])
        with self.book.lock:
            found["config"] = {name: each for name, each in {**found["config"], **given}.items() if name not in reset}
            found["version"] += 1
        self.book.keep(_change_id())
        return ActionResult({"HealthCheck": _shown(key, found)})

    def delete_health_check(self) -> EmptyResult:
        """Withdraw a check that no record names."""
        key, _ = self._check()
        users = [each["Name"] for zone in self.book.zones.values() for each in zone["records"]
                 if each.get("HealthCheckId") == key]  # fmt: skip
        if users:
            raise Route53ClientError("HealthCheckInUse", f"the health check stands behind {', '.join(users)}")
        del self.book.checks[key]
        self.book.keep(_change_id())
        return EmptyResult()

    def get_health_check_status(self) -> ActionResult:
        """What the checkers found last; no observation while they are silent."""
        key, _ = self._check()
        try:
            with urllib.request.urlopen(f"{self.desk_url}/health-checks", timeout=1) as answer:  # noqa: S310
                told = json.loads(answer.read())["checks"]
        except (OSError, ValueError):
            told = []
        seen = [
            {
                "Region": "us-east-1",
                "IPAddress": "127.0.0.2",
                "StatusReport": {
                    "Status": f"{'Success' if each['healthy'] != each['inverted'] else 'Failure'}: {each['why']}",
                    "CheckedTime": datetime.fromtimestamp(each["probed_at"], UTC),
                },
            }
            for each in told
            if each["id"] == key and each["probed_at"]
        ]
        return ActionResult({"HealthCheckObservations": seen})

    def _check(self) -> tuple[str, dict[str, Any]]:
        key = self._get_param("HealthCheckId")
        found = self.book.checks.get(key)
        if found is None:
            raise NoSuchHealthCheck(key)
        return key, found


def _change_id() -> str:
    return "C" + secrets.token_hex(10).upper()


def _info(change: str, status: str, at: float) -> dict[str, Any]:
    return {"Id": f"/change/{change}", "Status": status, "SubmittedAt": datetime.fromtimestamp(at, UTC)}


def _shown(key: str, found: dict[str, Any]) -> dict[str, Any]:
    return {
        "Id": key,
        "CallerReference": found["reference"],
        "HealthCheckVersion": found["version"],
        "HealthCheckConfig": {"Inverted": False, "Disabled": False, **found["config"]},
    }
