"""The real names behind a runbook's roles: what `{to.dsn}` stands for in this catalog, and manuals with them filled in.

Separate from printing because plans carry the filled manual too, and because a manual that names what the catalog
doesn't have is a fault of the runbook, found long before the night on which somebody reads it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import product

from pydantic import JsonValue

from recovery.approval import FORM
from recovery.catalog import Catalog, Member
from recovery.doors import DnsName
from recovery.objective import duration_text

_PLACE = re.compile(r"\{([a-z][a-z0-9_.-]*)(\??)\}")
_SECRET = re.compile(r"\bpassword=('[^']*'|\S*)\s*|(?<=[^/@:\s]):[^/@\s]+(?=@)")
"""A password in a DSN, in both of its forms: it is never printed."""
Names = Mapping[str, tuple[str, ...]]
"""Placeholder → its values; a line is repeated for each value of those with several. A line with `{name?}` is left out
where the catalog doesn't have that name."""


def names(catalog: Catalog, *, service: str, resource: str, source: str, target: str) -> Names:
    """All placeholders for a step on that resource (of the service, of its databases or its DNS names)."""
    here = catalog.services[service]
    witness = tuple(name for name, site in catalog.sites.items() if site.role == "witness")
    home = catalog.ledger.home
    found: dict[str, tuple[str, ...]] = {
        "service": (service,),
        "from": (source,),
        "to": (target,),
        "from.region": (catalog.sites[source].region,),
        "to.region": (catalog.sites[target].region,),
        "witness": witness,
        "ledger": (home,),
        "ledger.bucket": (catalog.ledger.bucket,),
        "leases.bucket": (catalog.ledger.leases,),
        "owner": (here.owner,),
        "bake": (duration_text(here.bake),),
        "approvals": (str(catalog.consent.n_of_m),),
        "approver": tuple(
            f"{name} ({person.contact})" if person.contact else name
            for name, person in catalog.consent.approvers.items()
            if name != FORM  # a form is nobody to ask
        ),
    }
    if home in catalog.sites:
        found["ledger.region"] = (catalog.sites[home].region,)
    for role, site in (("from", source), ("to", target)):
        probes = [probe for probe in here.probes.values() if probe.site == site]
        found[f"{role}.probe"] = tuple(f"{each.url} (must say: {each.expect or 'anything'})" for each in probes)
    found |= _of_database(catalog, resource, source, target)
    if resource in catalog.dns:
        found |= _of_name(catalog, catalog.dns[resource], source, target)
    live = [name for name in here.dns if name in catalog.dns and catalog.dns[name].use == "live"]
    found["names"] = tuple(catalog.dns[name].name for name in live)
    return {name: values for name, values in found.items() if values}


def _of_database(catalog: Catalog, resource: str, source: str, target: str) -> dict[str, tuple[str, ...]]:
    database = catalog.resources.get(resource)
    if database is None:
        return {}
    prefix = database.prefix.strip("/")
    found: dict[str, tuple[str, ...]] = {
        "db": (resource,),
        "bucket": (database.bucket,),
        "prefix": (prefix and f"{prefix}/",),
    }
    for role, site in (("from", source), ("to", target)):
        if site in database.members:
            found |= {f"{role}.{name}": (value,) for name, value in _of_member(database.members[site]).items()}
    return found


def _of_member(member: Member) -> dict[str, str]:
    found = {
        "dsn": _SECRET.sub("", member.dsn).strip(),
        "data_dir": member.data_dir,
        "bin_dir": member.bin_dir,
        "machine": "this machine" if member.host == "local" else member.host.removeprefix("ssh:"),
    }
    if member.agent:
        found["agent"] = member.agent
    if member.instance:
        found["instance"] = member.instance
    return found


def _of_name(catalog: Catalog, dns: DnsName, source: str, target: str) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {
        "dns.name": (dns.name,),
        "dns.zone": (dns.zone,),
        "dns.zone_id": (dns.zone_id,),
        "dns.type": (dns.type,),
        "dns.ttl": (f"{dns.ttl.total_seconds():g}",),
        "dns.server": tuple(map(_for_dig, dns.name_servers)),
        "dns.resolver": tuple(map(_for_dig, dns.resolvers)),
    }
    for role, site in (("from", source), ("to", target)):
        record = dns.records.get(site)
        if record is not None:
            found[f"{role}.address"] = (record.value,)
    found["dns.move"] = tuple(_moves(catalog, dns, source, target))
    found["dns.back"] = tuple(_moves(catalog, dns, target, source))
    return found


def _for_dig(server: str) -> str:
    """`ADDRESS:PORT` as dig is told it behind an @."""
    address, _, port = server.rpartition(":")
    return f"{address} -p {port}" if address and ":" not in address else server


def _moves(catalog: Catalog, dns: DnsName, source: str, target: str) -> list[str]:
    """The commands that move a name from `source` to `target`, each a whole line."""
    primary = next((site for site, record in dns.records.items() if record.health_check), None)
    match dns.moved_by:
        case "inverted-health-check":
            return _marker(catalog, dns, away=primary == source)
        case "routing-control":
            return _controls(catalog, dns, source, target)
        case "health-check":
            return [f"nothing to do: the health check moves {dns.name} by itself once {source} fails it"]
        case _:
            return [_edit(catalog, dns, target)]


def _marker(catalog: Catalog, dns: DnsName, *, away: bool) -> list[str]:
    found: list[str] = []
    for record in dns.records.values():
        check = catalog.health_checks.get(record.health_check or "")
        if check is None or check.marker is None:
            continue
        site = catalog.sites[check.site]
        where = f"--region {site.region}"
        if site.s3.endpoint_url:
            where += f" --endpoint-url {site.s3.endpoint_url}"
        if away:
            bucket, _, key = check.marker.removeprefix("s3://").partition("/")
            found.append(f"$ aws s3api put-object {where} --bucket {bucket} --key {key}")
        else:
            found.append(f"$ aws s3 rm {where} {check.marker}")
    return found


def _controls(catalog: Catalog, dns: DnsName, source: str, target: str) -> list[str]:
    routing = catalog.routing
    if routing is None:
        return []
    entries = []
    for site, on in ((target, True), (source, False)):
        record = dns.records.get(site)
        arn = routing.controls.get(record.control or "") if record is not None else None
        if arn:
            entries.append(f"RoutingControlArn={arn},RoutingControlState={'On' if on else 'Off'}")
    if not entries:
        return []
    lines = [
        f"$ aws route53-recovery-cluster update-routing-control-states --region {region} --endpoint-url {url}"
        f" --update-routing-control-state-entries {' '.join(entries)}"
        for region, url in routing.endpoints.items()
    ]
    return ["one of these is enough; when an endpoint does not answer within 5 s, take the next:", *lines]


def _edit(catalog: Catalog, dns: DnsName, target: str) -> str:
    """As recovery/zone_edit.py does it: an UPSERT replaces a whole set, so each is written out with all that it has."""
    if target not in dns.records:
        return f"{dns.name} has no record for {target}: it cannot be moved there"
    primary = next((site for site, record in dns.records.items() if record.health_check), next(iter(dns.records)))
    changes = []
    for site, record in dns.records.items():
        check = catalog.health_checks.get(record.health_check or "")
        own = dns.policy == "weighted" or target == primary
        policy: dict[str, JsonValue] = (
            {"Weight": 100 if site == target else 0}
            if dns.policy == "weighted"
            else {"Failover": "PRIMARY" if site == primary else "SECONDARY"}
        )
        record_set: dict[str, JsonValue] = {
            "Name": dns.name,
            "Type": dns.type,
            "SetIdentifier": record.set_identifier,
            **policy,
            **({} if check is None else {"HealthCheckId": check.id}),
            "TTL": int(dns.ttl.total_seconds()),
            "ResourceRecords": [{"Value": record.value if own else dns.records[target].value}],
        }
        changes.append({"Action": "UPSERT", "ResourceRecordSet": record_set})
    batch = json.dumps({"Changes": changes}, separators=(",", ":"))
    return f"$ aws route53 change-resource-record-sets --hosted-zone-id {dns.zone_id} --change-batch '{batch}'"


def unknown_names(text: str, known: Names) -> tuple[str, ...]:
    """The placeholders of a text that have no value, in order, each once."""
    return tuple(dict.fromkeys(name for name, optional in _PLACE.findall(text) if not optional and name not in known))


def filled(text: str, known: Names) -> str:
    """The text with every placeholder filled in. Raises KeyError for one without a value."""
    return "\n".join(line for each in text.strip().splitlines() for line in _lines(each.rstrip(), known))


def _lines(line: str, known: Names) -> Sequence[str]:
    found = _PLACE.findall(line)
    if any(optional and name not in known for name, optional in found):
        return ()
    places = list(dict.fromkeys(name for name, _ in found))
    lines = []
    for values in product(*(known[place] for place in places)):
        chosen = dict(zip(places, values, strict=True))
        lines.append(_PLACE.sub(partial(_chosen, chosen), line))
    return lines


def _chosen(chosen: Mapping[str, str], found: re.Match[str]) -> str:
    return chosen[found[1]]
