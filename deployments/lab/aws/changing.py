"""What Route53 would refuse, and what a batch of changes makes of a zone's record sets. Pure.

Separate from the emulator because moto accepts nearly everything here (facts about AWS, 1.2: batches are not atomic, a
DELETE by SetIdentifier strikes every name, `APP.` and `app.` are two records) and a failover that was rehearsed against
that would fail on the day. Record sets are plain dictionaries of the API's shape.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import dns.exception
import dns.rdata
import dns.rdataclass
import dns.rdatatype

RecordSet = dict[str, Any]
Key = tuple[str, str, str | None]
"""Name, type, set identifier: what makes a record set one."""
POLICIES = ("Weight", "Failover", "MultiValueAnswer")
NOT_SERVED = ("AliasTarget", "Region", "GeoLocation", "GeoProximityLocation", "CidrRoutingConfig")
LONGEST_TTL = 2147483647
HEAVIEST = 255


class Refused(Exception):
    """The batch would be refused; nothing of it was done. Its messages say all that is wrong."""

    def __init__(self, messages: Sequence[str]) -> None:
        super().__init__("; ".join(messages))
        self.messages = tuple(messages)


def normal(record_set: Mapping[str, Any]) -> RecordSet:
    """The record set with its name in lower case and ending in a dot, numbers as numbers, empty fields gone."""
    found = {key: value for key, value in record_set.items() if value is not None and value != []}
    found["Name"] = str(found["Name"]).lower().rstrip(".") + "."
    for key in ("TTL", "Weight"):
        if key in found:
            found[key] = int(found[key])
    return found


def key_of(record_set: Mapping[str, Any]) -> Key:
    """Its key."""
    return record_set["Name"], record_set["Type"], record_set.get("SetIdentifier")


def changed(
    zone: str, now: Iterable[RecordSet], changes: Iterable[Mapping[str, Any]], checks: Iterable[str]
) -> list[RecordSet]:
    """The record sets after all changes, sorted. Raises Refused, and then nothing is done. `checks`: their ids."""
    sets = {key_of(each): each for each in now}
    wrong: list[str] = []
    known = set(checks)
    for change in changes:
        one, action = normal(change["ResourceRecordSet"]), str(change.get("Action"))
        found = list(_troubles(zone, one, known))
        here = sets.get(key_of(one))
        what = f"[name='{one['Name']}', type='{one.get('Type')}', set identifier='{one.get('SetIdentifier')}']"
        if action == "CREATE" and here is not None:
            found.append(f"Tried to create resource record set {what} but it already exists")
        elif action == "DELETE" and here is None:
            found.append(f"Tried to delete resource record set {what} but it was not found")
        elif action == "DELETE" and here != one:
            found.append(f"Tried to delete resource record set {what} but the values provided do not match")
        elif action not in {"CREATE", "UPSERT", "DELETE"}:
            found.append(f"there is no action '{action}'")
        wrong += found
        if not found:
            if action == "DELETE":
                del sets[key_of(one)]
            else:
                sets[key_of(one)] = one
    wrong += _together(zone, sets.values()) if not wrong else []
    if wrong:
        raise Refused(wrong)
    return sorted(sets.values(), key=_order)


def _order(record_set: RecordSet) -> tuple[list[str], str, str]:
    name, kind, identifier = key_of(record_set)
    return list(reversed(name.split("."))), kind, identifier or ""


def after(sets: Sequence[RecordSet], name: str | None, kind: str | None, identifier: str | None) -> list[RecordSet]:
    """The page of the sorted record sets that begins at a key."""
    if not name:
        return list(sets)
    start = _order({"Name": name.lower().rstrip(".") + ".", "Type": kind or "", "SetIdentifier": identifier})
    return [each for each in sets if _order(each) >= start]


def _troubles(zone: str, one: RecordSet, checks: set[str]) -> Iterator[str]:
    name = one["Name"]
    if name != zone and not name.endswith(f".{zone}"):
        yield f"RRSet with DNS name {name} is not permitted in zone {zone}"
    for field in NOT_SERVED:
        if field in one:
            yield f"{field} is not served by the lab's name servers; use failover, weighted or multivalue records"
    policies = [field for field in POLICIES if field in one]
    if len(policies) > 1 or bool(policies) != ("SetIdentifier" in one):
        yield f"{name}: a SetIdentifier goes with exactly one of {', '.join(POLICIES)}"
    if not 0 <= one.get("Weight", 0) <= HEAVIEST:
        yield f"{name}: the weight {one['Weight']} is not between 0 and {HEAVIEST}"
    if one.get("Failover", "PRIMARY") not in {"PRIMARY", "SECONDARY"}:
        yield f"{name}: failover is PRIMARY or SECONDARY"
    if one.get("HealthCheckId", "") and one["HealthCheckId"] not in checks:
        yield f"{name}: there is no health check {one['HealthCheckId']}"
    if one.get("HealthCheckId") and not policies:
        yield f"{name}: a simple record has no health check"
    yield from _values(one)


def _values(one: RecordSet) -> Iterator[str]:
    name, kind = one["Name"], one.get("Type", "")
    values = [each["Value"] for each in one.get("ResourceRecords", [])]
    if not values or not 0 <= one.get("TTL", -1) <= LONGEST_TTL:
        yield f"{name}: TTL and at least one value are needed"
    if kind == "CNAME" and len(values) > 1:
        yield f"{name}: a CNAME has one value"
    for value in values:
        try:
            dns.rdata.from_text(dns.rdataclass.IN, dns.rdatatype.from_text(kind), value)
        except (dns.exception.DNSException, ValueError):
            yield f"{name}: '{value}' is no value of type {kind}"


def _together(zone: str, sets: Iterable[RecordSet]) -> list[str]:
    """What is wrong with record sets beside one another."""
    names: dict[str, list[RecordSet]] = {}
    for each in sets:
        names.setdefault(each["Name"], []).append(each)
    wrong: list[str] = []
    for name, those in names.items():
        kinds = {each["Type"] for each in those}
        if "CNAME" in kinds and (len(kinds) > 1 or name == zone):
            wrong.append(f"RRSet of type CNAME with DNS name {name} is not permitted beside other types or at the apex")
        for kind in kinds:
            group = [each for each in those if each["Type"] == kind]
            policies = {next((field for field in POLICIES if field in each), "simple") for each in group}
            if len(policies) > 1:
                wrong.append(f"{name} {kind}: {' and '.join(sorted(policies))} records can't stand beside one another")
            roles = [each["Failover"] for each in group if "Failover" in each]
            if len(roles) != len(set(roles)):
                wrong.append(f"{name} {kind}: a failover has one PRIMARY and one SECONDARY")
    return wrong
