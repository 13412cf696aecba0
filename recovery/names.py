"""The real names behind a runbook's roles: what `{to.dsn}` stands for in this catalog, and manuals with them filled in.

Separate from printing because plans carry the filled manual too, and because a manual that names what the catalog
doesn't have is a fault of the runbook, found long before the night on which somebody reads it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import product
from urllib.parse import urlsplit

from recovery.approval import FORM
from recovery.catalog import Catalog, Member, Service
from recovery.doors import DnsName, Probe
from recovery.dsn import dsn, shown
from recovery.manual import asked, aws, lapsed, moves, scaling, server, term
from recovery.manual_restore import asserted, copy_asked, restored
from recovery.objective import duration_text

_PLACE = re.compile(r"\{([a-z][a-z0-9_.-]*)(\??)\}")
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
    live = [catalog.dns[name] for name in here.dns if name in catalog.dns and catalog.dns[name].use == "live"]
    for role, site in (("from", source), ("to", target)):
        found |= {f"{role}.{name}": values for name, values in _of_site(catalog, here, site, live).items()}
    found |= _of_database(catalog, resource, source, target)
    found |= _asked(catalog, [resource] if resource in catalog.resources else here.resources, target)
    if resource in catalog.dns:
        found |= _of_name(catalog, catalog.dns[resource], source, target)
    found["names"] = tuple(dns.name for dns in live)
    found["names.ask"] = tuple(asked(dns, by) for dns in live for by in (dns.resolvers or (None,)))
    return {name: values for name, values in found.items() if values}


def _of_site(catalog: Catalog, here: Service, site: str, live: Sequence[DnsName]) -> dict[str, tuple[str, ...]]:
    probes = [probe for probe in here.probes.values() if probe.site == site]
    found: dict[str, tuple[str, ...]] = {
        "region": (catalog.sites[site].region,),
        "s3": (aws(catalog.sites[site].s3, catalog.sites[site].region),),
        "probe": tuple(f"{each.url} (must say: {each.expect or 'anything'})" for each in probes),
        "scale": tuple(scaling(catalog, here, site)),
        "probe_by_name": tuple(_by_name(each, dns) for dns in live for each in probes),
    }
    if site in here.side_effects:
        found["side_effects"] = (here.side_effects[site],)
    if site in here.drain:
        found["drain"] = (here.drain[site].rstrip("/"),)
    return found


def _by_name(probe: Probe, dns: DnsName) -> str:
    """A probe as users ask: with the live name in the place of the host."""
    parts = urlsplit(probe.url)
    name = dns.name.rstrip(".")
    url = parts._replace(netloc=f"{name}:{parts.port}" if parts.port else name).geturl()
    return f"{url} (must say: {probe.expect or 'anything'})"


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
            found[f"{role}.slot"] = (site.replace("-", "_"),)  # as the engine names it: tasks/postgres/roles/follow.py
    found["restore"] = tuple(restored(catalog, resource, target))
    found["fence.term"] = tuple(term(catalog, resource, target))
    found["fence.lease"] = tuple(lapsed(catalog, resource, source))
    return {name: values for name, values in found.items() if values}


def _asked(catalog: Catalog, databases: Sequence[str], target: str) -> dict[str, tuple[str, ...]]:
    """How the assertions of those databases are asked at the target: of its servers, and of copies that were restored
    there."""
    found: dict[str, tuple[str, ...]] = {"to.assertions": (), "copy": (), "copy.assertions": ()}
    for database in (catalog.resources[name] for name in databases if name in catalog.resources):
        for _, member in database.at(target)[:1]:
            copy, server_of = copy_asked(member), shown(member.dsn)
            found["copy"] += (copy,)
            found["copy.assertions"] += tuple(asserted(database, partial(_in_copy, copy)))
            found["to.assertions"] += tuple(asserted(database, partial(_at_server, server_of)))
    return found


def _in_copy(copy: str, database: str) -> str:
    return f"# {copy} -d {database}"


def _at_server(asked: str, database: str) -> str:
    return f'$ psql "{_inside(asked, database)}"'


def _inside(asked: str, database: str) -> str:
    """The DSN, in both of its forms, with another database in the place of its own."""
    if "://" in asked:
        return urlsplit(asked)._replace(path=f"/{database}").geturl()
    return " ".join((*(each for each in asked.split() if not each.startswith("dbname=")), f"dbname={database}"))


def _of_member(member: Member) -> dict[str, str]:
    host, port = _address(member.dsn)
    found = {
        "dsn": shown(member.dsn),
        "data_dir": member.data_dir,
        "bin_dir": member.bin_dir,
        "host": host,
        "port": port,
        "machine": f"the machine of {host}" if member.host == "local" else member.host.removeprefix("ssh:"),
    }
    if member.agent:
        found["agent"] = member.agent
    if member.instance:
        found["instance"] = member.instance
    return found


def _address(text: str) -> tuple[str, str]:
    """Host and port of a connection string; of one that cannot be read what libpq would take without any."""
    try:
        found = dsn(text)
    except ValueError:
        return "localhost", "5432"
    return found.host, found.port


def _of_name(catalog: Catalog, dns: DnsName, source: str, target: str) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {
        "dns.name": (dns.name,),
        "dns.zone": (dns.zone,),
        "dns.zone_id": (dns.zone_id,),
        "dns.type": (dns.type,),
        "dns.ttl": (f"{dns.ttl.total_seconds():g}",),
        "dns.server": tuple(map(server, dns.name_servers)),
        "dns.resolver": tuple(map(server, dns.resolvers)),
    }
    for role, site in (("from", source), ("to", target)):
        record = dns.records.get(site)
        if record is not None:
            found[f"{role}.address"] = (record.value,)
    found["dns.move"] = tuple(moves(catalog, dns, source, target))
    found["dns.back"] = tuple(moves(catalog, dns, target, source))
    return found


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
