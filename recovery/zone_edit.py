"""What an edit makes of a name's record sets: a new batch and the batch that takes it back. Pure; Route53's own words.

Separate from sending it, because an UPSERT replaces a whole set (facts about AWS, D9): what is not to change has to be
carried over from what was read, and a set that nobody knows must stop the edit, not vanish in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from recovery.doors import DnsName
from recovery.errors import BadInput

RecordSet = dict[str, Any]
Batch = dict[str, Any]
WHOLE = 100
"""The sum of the weights of a name that this engine sets: a weight is a percentage."""


def of_name(sets: Iterable[Mapping[str, Any]], dns: DnsName) -> list[RecordSet]:
    """The record sets of that name and type, in a stable order."""
    found = [dict(each) for each in sets if plain(each.get("Name", "")) == plain(dns.name) and each["Type"] == dns.type]
    return sorted(found, key=lambda each: str(each.get("SetIdentifier", "")))


def plain(name: str) -> str:
    """A name in lower case without the last dot."""
    return name.lower().rstrip(".")


def sites(sets: Sequence[RecordSet], dns: DnsName) -> tuple[str, ...]:
    """The sites that have a record among these sets, in the catalog's order."""
    there = {str(each.get("SetIdentifier", "")) for each in sets}
    return tuple(site for site, record in dns.records.items() if record.set_identifier in there)


def shifted(sets: Sequence[RecordSet], dns: DnsName, site: str, share: int) -> list[RecordSet]:
    """Weighted sets in which the site has `share` percent (0 to 100), and the others of the catalog what is left, in
    proportion to what they have. Raises BadInput where that cannot be said."""
    if not 0 <= share <= WHOLE:
        raise BadInput(f"a share of {share} percent is none", hint="write whole percentages from 0 to 100")
    known = _known(sets, dns, site)
    for each in sets:
        if "Weight" not in each:
            raise BadInput(f"{_title(each)} has no weight", hint="make its records weighted, or move it in another way")
        if _identifier(each) not in known and int(each["Weight"]):
            raise _stranger(each)
    mine = dns.records[site].set_identifier
    others = [each for each in sets if _identifier(each) in known and _identifier(each) != mine]
    parts = dict(
        zip(map(_identifier, others), _parts([int(each["Weight"]) for each in others], WHOLE - share), strict=True)
    )
    return [
        {**each, "Weight": share if _identifier(each) == mine else parts.get(_identifier(each), 0)} for each in sets
    ]


def _parts(weights: Sequence[int], whole: int) -> list[int]:
    """Whole numbers that add up to `whole`, in proportion to the weights (evenly when all are zero)."""
    if not weights:
        return []
    total = sum(weights)
    shares = [whole * each // total if total else whole // len(weights) for each in weights]
    shares[max(range(len(weights)), key=lambda at: weights[at])] += whole - sum(shares)
    return shares


def pointed(sets: Sequence[RecordSet], dns: DnsName, site: str) -> list[RecordSet]:
    """Failover or simple sets so edited that the name answers the site. Where the site is the failover's primary every
    set gets its own site's value back; else all of them get the site's, since a health check may choose any."""
    values = {record.set_identifier: record.value for record in dns.records.values()}
    for each in sets:
        if "AliasTarget" in each:
            raise BadInput(f"{_title(each)} is an alias", hint="move it by its weights or health checks, or by hand")
    if len(sets) == 1 and "SetIdentifier" not in sets[0]:
        return [_answering(sets[0], dns.records[site].value)]
    known = _known(sets, dns, site)
    for each in sets:
        if _identifier(each) not in known:
            raise _stranger(each)
    home = any(each.get("Failover") == "PRIMARY" and known[_identifier(each)] == site for each in sets)
    wanted = dns.records[site].value
    return [_answering(each, values[_identifier(each)] if home else wanted) for each in sets]


def batch(before: Sequence[RecordSet], after: Sequence[RecordSet], comment: str) -> Batch | None:
    """The changes that make `after` of `before`; None when nothing differs."""
    changes = [
        {"Action": "UPSERT", "ResourceRecordSet": new} for old, new in zip(before, after, strict=True) if old != new
    ]
    return {"Comment": comment, "Changes": changes} if changes else None


def _known(sets: Sequence[RecordSet], dns: DnsName, site: str) -> dict[str, str]:
    """Set identifier → site. Raises BadInput when the site has no record in the zone."""
    known = {record.set_identifier: name for name, record in dns.records.items()}
    record = dns.records.get(site)
    if record is None or record.set_identifier not in {_identifier(each) for each in sets}:
        raise BadInput(
            f"{dns.name} has no record for {site} in the zone",
            hint="create it with the set identifier that the catalog says, before it is needed",
        )
    return known


def _answering(record_set: RecordSet, value: str) -> RecordSet:
    return {**record_set, "ResourceRecords": [{"Value": value}]}


def _identifier(record_set: Mapping[str, Any]) -> str:
    return str(record_set.get("SetIdentifier", ""))


def _title(record_set: Mapping[str, Any]) -> str:
    return f"the record {_identifier(record_set) or record_set.get('Type')} of {plain(record_set.get('Name', ''))}"


def _stranger(record_set: Mapping[str, Any]) -> BadInput:
    return BadInput(
        f"{_title(record_set)} is not in the catalog: where it sends users is not known",
        hint="add it to the name's records in the catalog, or remove it from the zone",
    )
