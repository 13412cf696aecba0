"""The commands of a printed page: what a person types into dig and aws, with this catalog's names and doors. Pure.

Separate from names.py, which knows what a placeholder stands for: here is how a name is asked for and moved by hand,
through the same doors and with the same credentials as the engine uses.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from math import ceil

from pydantic import JsonValue

from recovery.catalog import Catalog, S3Endpoint, Service
from recovery.compute import asks
from recovery.doors import DnsName
from recovery.term import leashed_key, term_key


def aws(door: S3Endpoint, region: str | None = None) -> str:
    """The options by which aws goes through a door: region, profile, endpoint. Keys that are kept in a file or in the
    environment are no option of aws: `access` says where they are."""
    scheme, _, rest = door.credentials.partition(":")
    options = (
        ("region", region),
        ("profile", rest if scheme == "profile" else None),
        ("endpoint-url", door.endpoint_url),
    )
    return " ".join(f"--{name} {value}" for name, value in options if value)


def access(catalog: Catalog, manuals: str) -> Iterator[str]:
    """What has to be at hand before a page's first command: whose keys aws needs at which of the doors that its manuals
    go through, each a line."""
    doors = dict(_doors(catalog, [line[2:] for line in manuals.splitlines() if line[:2] in ("$ ", "# ")]))
    for reference in dict.fromkeys(doors.values()):
        where = ", ".join(name for name, each in doors.items() if each == reference)
        scheme, _, rest = reference.partition(":")
        match scheme:
            case "profile":
                yield f"{where}: aws's profile {rest}"
            case "file":
                yield f"{where}: the keys in {rest}, exported as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            case "env":
                yield f"{where}: {rest}_ACCESS_KEY_ID and {rest}_SECRET_ACCESS_KEY, exported as AWS_…"
            case _:
                yield f"{where}: aws's own default credentials"


def _doors(catalog: Catalog, commands: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The doors that the commands go through, each with its credentials."""

    def used(tool: str, options: str = "") -> bool:
        return any(line.startswith(f"aws {tool}") and options in line for line in commands)

    for name, site in catalog.sites.items():
        if used("s3", aws(site.s3, site.region)):
            yield f"S3 at {name}", site.s3.credentials
        if used("autoscaling ", aws(site.compute, site.region)):
            yield f"instances at {name}", site.compute.credentials
    if catalog.routing is not None and used("route53-recovery-cluster "):
        yield "the routing controls", catalog.routing.credentials
    if used("route53 "):
        yield "Route53's records", catalog.route53.credentials


def term(catalog: Catalog, resource: str, target: str) -> Iterator[str]:
    """How the leashes are told who may write; nothing where no leash would read it. The turn grows and not the
    generation, so that the engine's next change of roles is the newer one."""
    place = _leases(catalog, resource)
    if place is None:
        return
    through, bucket = place
    key = f"{bucket}/{term_key(resource)}"
    yield f"Tell its leashes, which go by what stands in {bucket}. It says now (an error 404: nothing yet):"
    yield f"$ aws s3 cp {through} {key} -"
    yield (
        f"Write that {target} is the primary: the generation that it says in the place of 1, its turn plus one in the"
        " place of 0; where there was nothing yet, as it is printed here (in bash):"
    )
    yield (
        f"$ aws s3 cp {through} - {key} <<< '"
        f'{{"resource":"{resource}","generation":1,"turn":0,"primary":"{target}","run":"by-hand",'
        f'"at":"\'$(date -u +%FT%TZ)\'"}}\''
    )


def lapsed(catalog: Catalog, resource: str, source: str) -> Iterator[str]:
    """The proof by the lapsed lease: nothing where there is no leash."""
    place, database = _leases(catalog, resource), catalog.resources[resource]
    if place is None or database.fence is None:
        return
    through, bucket = place
    seconds = ceil((database.fence.lease + database.fence.clock_bound).total_seconds())
    yield (
        f"- Since that was written {seconds} s have passed (lease_seconds and clock_bound_seconds of this, where they"
        f" are more), and this says that {source} runs under a leash, which has stopped it by then. It proves nothing"
        f' where its "at" is more than two minutes before {source} fell silent:'
    )
    for member, _ in database.at(source):
        yield f"$ aws s3 cp {through} {bucket}/{leashed_key(resource, member)} -"


def _leases(catalog: Catalog, resource: str) -> tuple[str, str] | None:
    """The options and the bucket by which terms are read and written; None without leashes or witness."""
    witness = next((site for site in catalog.sites.values() if site.role == "witness"), None)
    if witness is None or catalog.resources[resource].fence is None:
        return None
    return aws(witness.s3, witness.region), f"s3://{catalog.ledger.leases}"


def scaling(catalog: Catalog, service: Service, site: str) -> Iterator[str]:
    """How a site gets the instances that carry all users. Only the fewest are raised: that makes more where there are
    less, never takes one away, and no policy takes them away again before the users come."""
    through = aws(catalog.sites[site].compute, catalog.sites[site].region)
    for name, ask in asks(catalog, service, site).items():
        there = service.compute[name].sites[site]
        if there.url is not None:
            yield (
                f'- {name}: send a PUT of {{"at_least": {ask.least}}} to {there.url} by any HTTP client. Opened in a'
                f" browser, it must then say {ask.least} or more in service."
            )
            continue
        yield f"- {name}: {ask.least} carry all users. The fewest, the wanted, and the most that there may be:"
        described = f"$ aws autoscaling describe-auto-scaling-groups {through} --auto-scaling-group-names {there.group}"
        yield f"{described} --query 'AutoScalingGroups[].[MinSize,DesiredCapacity,MaxSize]' --output text"
        yield f"Where the first is under {ask.least}; with the most under it, add --max-size {ask.least}:"
        yield (
            f"$ aws autoscaling update-auto-scaling-group {through} --auto-scaling-group-name {there.group}"
            f" --min-size {ask.least}"
        )
        yield f"Ask until it says {ask.least} or more:"
        yield f"{described} --query \"length(AutoScalingGroups[].Instances[?LifecycleState=='InService'][])\""


def asked(dns: DnsName, by: str | None = None) -> str:
    """The command that asks a server, or this machine's own resolver, for a name."""
    return f"$ dig +short +time=2 +tries=1 {dns.name} {dns.type}" + (f" @{server(by)}" if by else "")


def server(written: str) -> str:
    """`ADDRESS:PORT` as dig is told it behind an @."""
    address, _, port = written.rpartition(":")
    return f"{address} -p {port}" if address and ":" not in address else written


def moves(catalog: Catalog, dns: DnsName, source: str, target: str) -> list[str]:
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
        where = aws(site.s3, site.region)
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
    door = S3Endpoint(credentials=routing.credentials)
    lines = [
        f"$ aws route53-recovery-cluster update-routing-control-states {aws(door.but(endpoint_url=url), region)}"
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
    through = aws(catalog.route53)
    command = f"$ aws route53 change-resource-record-sets{through and f' {through}'} --hosted-zone-id {dns.zone_id}"
    return f"{command} --change-batch '{batch}'"
