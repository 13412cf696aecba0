"""The emulator's Route53 on disk: zones, record sets and health checks with their ids, and the publication of it all.

Written at every change before it is answered, read at the start: a restart of the emulator forgets nothing. Publishing
comes a moment later, as on AWS: a change is PENDING until the name servers' file is written, then INSYNC.
"""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

from deployments.lab.aws.changing import RecordSet, changed
from deployments.lab.dns.files import write
from deployments.lab.dns.zone import Check, Published, Zone
from deployments.lab.dns.zone import RecordSet as Served

MOST_CHANGES = 1000


class Book:
    """The state and its two files. `delay_seconds`: how long a change stays PENDING."""

    def __init__(self, state: Path, published: Path, *, delay_seconds: float) -> None:
        self.state, self.published, self.delay_seconds = state, published, delay_seconds
        found = json.loads(state.read_text()) if state.exists() else {}
        self.zones: dict[str, dict[str, Any]] = found.get("zones", {})
        self.checks: dict[str, dict[str, Any]] = found.get("checks", {})
        self.changes: dict[str, list[Any]] = found.get("changes", {})
        self.serial: int = found.get("serial", 0)
        self.lock = threading.RLock()
        self._wanted = threading.Event()
        self._in_sync = 0
        self.publish()

    def start(self) -> None:
        """Publish in a thread from now on."""
        threading.Thread(target=self._keep_publishing, name="publish", daemon=True).start()

    def change(self, zone_id: str, changes: list[dict[str, Any]]) -> None:
        """Apply a batch to a zone, whole or not at all. Raises changing.Refused."""
        with self.lock:
            zone = self.zones[zone_id]
            zone["records"] = changed(zone["name"], zone["records"], changes, self.checks)

    def keep(self, change_id: str) -> float:
        """Write the state down under a new change; gives when it was submitted (seconds since the epoch)."""
        with self.lock:
            self.serial += 1
            at = time.time()
            self.changes[change_id] = [self.serial, at]
            for old in list(self.changes)[:-MOST_CHANGES]:
                del self.changes[old]
            self._write()
        self._wanted.set()
        return at

    def status(self, change_id: str) -> tuple[str, float] | None:
        """PENDING or INSYNC, and when it was submitted; None for an unknown change."""
        found = self.changes.get(change_id)
        return None if found is None else ("INSYNC" if found[0] <= self._in_sync else "PENDING", found[1])

    def records(self, zone_id: str) -> list[RecordSet]:
        """The record sets of a zone, sorted."""
        with self.lock:
            return list(self.zones[zone_id]["records"])

    def publish(self) -> None:
        """Write the name servers' file, unless it says the same already."""
        with self.lock:
            serial = self.serial
            told = Published(
                serial=serial,
                zones=tuple(_zone(key, zone) for key, zone in self.zones.items() if not zone["private"]),
                checks=tuple(_check(key, each) for key, each in self.checks.items()),
            )
        if serial:  # an empty book publishes nothing: the last published zone stays
            write(self.published, told.model_dump(mode="json"))
        self._in_sync = serial

    def _keep_publishing(self) -> None:
        while True:
            self._wanted.wait()
            time.sleep(self.delay_seconds)
            self._wanted.clear()
            self.publish()

    def _write(self) -> None:
        write(
            self.state,
            {"serial": self.serial, "zones": self.zones, "checks": self.checks, "changes": self.changes},
        )


def _zone(zone_id: str, zone: dict[str, Any]) -> Zone:
    return Zone(id=zone_id, name=zone["name"], records=tuple(map(_record, zone["records"])))


def _record(record_set: RecordSet) -> Served:
    return Served(
        name=record_set["Name"],
        type=record_set["Type"],
        ttl=record_set["TTL"],
        values=tuple(each["Value"] for each in record_set["ResourceRecords"]),
        set_identifier=record_set.get("SetIdentifier"),
        weight=record_set.get("Weight"),
        failover=record_set.get("Failover"),
        multivalue=bool(record_set.get("MultiValueAnswer")),
        health_check=record_set.get("HealthCheckId") or None,
    )


def _check(check_id: str, found: dict[str, Any]) -> Check:
    config = found["config"]
    return Check(
        id=check_id,
        reference=found["reference"],
        type=config["Type"],
        address=config.get("IPAddress"),
        port=config.get("Port") or 80,
        path=config.get("ResourcePath") or "/",
        host=config.get("FullyQualifiedDomainName"),
        search=config.get("SearchString"),
        every_seconds=config.get("RequestInterval") or 30,
        failures=config.get("FailureThreshold") or 3,
        inverted=bool(config.get("Inverted")),
        disabled=bool(config.get("Disabled")),
        children=tuple(config.get("ChildHealthChecks") or ()),
        threshold=config.get("HealthThreshold") or 0,
        control=config.get("RoutingControlArn"),
    )
