"""Route53's control plane for one zone: reading a name's record sets, changing them in one batch, waiting for INSYNC.

Separate as the only place that calls it: it lives in us-east-1 and may be gone on the day (facts about AWS, D1), so
every call is short, silence is told at once, and only what AWS says to try again is tried again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from recovery.catalog import Catalog
from recovery.doors import DnsName
from recovery.errors import BadInput, DrError, Failed, Refused
from recovery.value import canonical
from recovery.zone_edit import Batch, RecordSet, of_name, plain
from tasks import aws
from tasks.route53 import wire
from tasks.unanswered import why

T = TypeVar("T")
REGION = "us-east-1"
SILENCE_SECONDS = 2.0
BUSY_SECONDS = 15.0
"""For so long a request that AWS asks to repeat (another change is underway, throttling) is repeated."""
_POLL_FIRST_SECONDS, _POLL_MOST_SECONDS = 0.05, 0.5
_AGAIN = {"PriorRequestNotComplete", "Throttling", "ThrottlingException", "TooManyRequestsException"}
_PAGE = "100"


class ZoneDoor:
    """Route53 as the catalog says to reach it. `patience_seconds`: for the silence of one request."""

    def __init__(self, catalog: Catalog, *, patience_seconds: float = SILENCE_SECONDS) -> None:
        self._client: Any = wire.client(catalog.route53, region=REGION, patience_seconds=patience_seconds)

    def sets(self, dns: DnsName) -> list[RecordSet]:
        """The name's record sets. Pages are turned by the last key where the answer names none: a page may end
        within a group. Raises Failed for silence, BadInput for a zone that is not there."""
        found: list[RecordSet] = []
        asked: dict[str, str] = {"StartRecordName": dns.name, "StartRecordType": dns.type}
        while True:
            page = self._call(
                lambda asked=asked: self._client.list_resource_record_sets(  # type: ignore[misc]
                    HostedZoneId=dns.zone_id, MaxItems=_PAGE, **asked
                )
            )
            sets = page["ResourceRecordSets"]
            found += of_name(sets, dns)
            if not page.get("IsTruncated") or not sets or plain(sets[-1]["Name"]) != plain(dns.name):
                return of_name(_once(found), dns)
            fresh = _after(page, sets[-1])
            if fresh == asked:
                raise Failed(f"the listing of {dns.name} does not end", hint="look at the zone with another tool")
            asked = fresh

    def disabled(self, check_id: str) -> bool:
        """Whether that health check is disabled, which counts as healthy."""
        return bool(self.config(check_id).get("Disabled", False))

    def config(self, check_id: str) -> Mapping[str, Any]:
        """A health check's configuration, as Route53 has it. Raises as `sets`."""
        found = self._call(lambda: self._client.get_health_check(HealthCheckId=check_id))
        if found["HealthCheck"].get("Id") != check_id:
            raise Failed(f"asked for the health check {check_id}, Route53 tells of another", hint="ask again")
        config: Mapping[str, Any] = found["HealthCheck"]["HealthCheckConfig"]
        return config

    def change(self, dns: DnsName, batch: Batch) -> str:
        """Send one batch, which is done whole or not at all; gives the change's id. Raises Refused when Route53 takes
        no such batch."""
        answer = self._call(
            lambda: self._client.change_resource_record_sets(HostedZoneId=dns.zone_id, ChangeBatch=batch)
        )
        return str(answer["ChangeInfo"]["Id"])

    def in_sync(self, change: str, *, patience_seconds: float) -> float:
        """Wait until all of Route53's name servers have the change; gives the seconds. Raises Failed when they have not
        within the patience."""
        begin = time.monotonic()
        pause = _POLL_FIRST_SECONDS
        why = "it is still PENDING"
        while True:
            try:
                if self._call(lambda: self._client.get_change(Id=change))["ChangeInfo"]["Status"] == "INSYNC":
                    return round(time.monotonic() - begin, 3)
            except Failed as trouble:  # the change is under way whoever can be asked about it
                why = trouble.fact
            if time.monotonic() + pause - begin > patience_seconds:
                raise Failed(
                    f"the change is not known to be at all name servers after {patience_seconds:g} s: {why}",
                    hint=f"ask for it: aws route53 get-change --id {change}",
                )
            time.sleep(pause)
            pause = min(pause * 1.5, _POLL_MOST_SECONDS)

    def _call(self, ask: Callable[[], T]) -> T:
        deadline = time.monotonic() + BUSY_SECONDS
        pause = _POLL_FIRST_SECONDS
        while True:
            try:
                return ask()
            except DrError:
                raise
            except Exception as error:  # noqa: BLE001 -- boto3 raises a dozen kinds; _trouble tells them apart
                code, text = aws.said(error)
                if code not in _AGAIN or time.monotonic() + pause > deadline:
                    raise _trouble(error, code, text) from None
            time.sleep(pause)
            pause = min(pause * 2, _POLL_MOST_SECONDS)


def _after(page: Mapping[str, Any], last: RecordSet) -> dict[str, str]:
    """Where the next page begins: where the answer says, or at the last set of this one where it doesn't."""
    given = {
        "StartRecordName": page.get("NextRecordName") or last["Name"],
        "StartRecordType": page.get("NextRecordType") or last["Type"],
        "StartRecordIdentifier": page.get("NextRecordIdentifier"),
    }
    if given["StartRecordIdentifier"] is None and plain(str(given["StartRecordName"])) == plain(last["Name"]):
        given["StartRecordIdentifier"] = last.get("SetIdentifier")
    return {key: str(value) for key, value in given.items() if value}


def _once(sets: Sequence[RecordSet]) -> list[RecordSet]:
    return list({(each["Name"], each["Type"], each.get("SetIdentifier")): each for each in sets}.values())


def _trouble(error: Exception, code: str, text: str) -> DrError:
    if code in {"InvalidChangeBatch", "InvalidInput"}:
        return Refused(
            f"Route53 takes no such change: {text or code}",
            hint="mend the zone or the catalog; a record protection has to be deleted first",
        )
    if code in {"NoSuchHostedZone", "NoSuchHealthCheck"}:
        return BadInput(f"Route53 doesn't know it: {text or code}", hint="correct the id in the catalog")
    if aws.meaning(error) == "denied" or code.startswith("AccessDenied"):
        return Refused(
            f"Route53 refuses these credentials ({code or aws.NONE_FOUND})",
            hint="correct `route53.credentials` in the catalog, or what they may do",
        )
    said = code or why(error)
    return Failed(
        f"Route53's control plane does not answer as it should ({said})",
        hint="it is in us-east-1; name a way under `by` that does not need it: health checks or routing controls",
    )


def kept(folder: Path, run: str, step: str, before: Sequence[RecordSet]) -> Batch:
    """The batch that takes a step's edits back, written to HOME before the first of them. A later attempt finds the one
    of the first: by then the zone may no longer say how it was."""
    place = folder / "zones" / f"{run[:16]}-{step}.json"
    if place.exists():
        found: Batch = json.loads(place.read_text())
        return found
    changes = [{"Action": "UPSERT", "ResourceRecordSet": each} for each in before]
    undo: Batch = {"Comment": f"takes back step {step} of run {run[:12]}", "Changes": changes}
    place.parent.mkdir(parents=True, exist_ok=True)
    fresh = place.with_suffix(".new")
    fresh.write_bytes(canonical(undo))
    fresh.replace(place)
    return undo
