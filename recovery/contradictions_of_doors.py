"""What a catalog may not say of DNS names, health checks, routing controls, probes and approvers. Pure.

Separate from contradictions.py, which knows data and its promises; here are the doors through which users and people
come. A danger that may be accepted (a long TTL, a disabled check) is a hazard of a plan and no contradiction.
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from recovery import accepting
from recovery.approval import FORM, MOST_STANDING
from recovery.catalog import Catalog, Service
from recovery.doors import DnsName
from recovery.errors import BadInput
from recovery.objective import duration_text
from recovery.quorum import MACHINE, agents, points

Told = tuple[tuple[str | int, ...], str, str]
"""Path, fact, hint."""
_Reference = tuple[tuple[str | int, ...], str, str, set[str]]
"""Path, what is named, what that is, and all that there are."""


def of_doors(catalog: Catalog) -> Iterator[Told]:
    """All contradictions of the doors, in no particular order."""
    yield from _lost_names(catalog)
    for name, service in catalog.services.items():
        yield from _askable(service, ("services", name))
        yield from _agreeable(catalog, service, ("services", name))
        yield from _countable(catalog, service, ("services", name, "compute"))
    for name, dns in catalog.dns.items():
        yield from _movable(catalog, name, dns)
        if name in catalog.resources:
            yield ("dns", name), f"`{name}` is also a resource", "give one of them another name: runbooks name both"
    yield from _signable(catalog)
    approvers = catalog.consent.approvers
    people, wanted = set(approvers) - {FORM}, catalog.consent.n_of_m
    if approvers and wanted > len(people) and not (wanted == 1 and FORM in approvers):
        fact = f"{wanted} approvals are asked for, but {len(people)} people may give one"
        yield ("consent", "n_of_m"), fact, "list more approvers, or ask for fewer"
    first: dict[str, str] = {}
    for name, approver in approvers.items():
        if name == "engine" or name.startswith("engine-"):  # whose keys are named so: dr keys make
            fact = f"`{name}` is no person: engines' keys are named so"
            yield ("consent", "approvers", name), fact, "list people; the engine's own key pauses and cancels anyway"
        other = first.setdefault(approver.key, name)
        if other != name:
            fact = f"`{name}` and `{other}` hold the same key"
            yield ("consent", "approvers", name, "key"), fact, "approvals count persons: give each a key of their own"


def _movable(catalog: Catalog, name: str, dns: DnsName) -> Iterator[Told]:
    """A name can only be moved by what stands behind its records."""
    checks = {record.health_check for record in dns.records.values() if record.health_check}
    controls = {record.control for record in dns.records.values() if record.control}
    markers = {check for check in checks if check in catalog.health_checks and catalog.health_checks[check].marker}
    lacking = {
        "health-check": (not checks, "no record has a health check"),
        "inverted-health-check": (not markers, "no record has a health check with a marker"),
        "routing-control": (not controls, "no record has a routing control"),
        "record-edit": (False, ""),
    }[dns.moved_by]
    if lacking[0]:
        yield ("dns", name, "moved_by"), f"`{name}` is moved by {dns.moved_by}, but {lacking[1]}", "add what moves it"


def _askable(service: Service, here: tuple[str | int, ...]) -> Iterator[Told]:
    """What a service is asked by can be asked."""
    for probe, asked in service.probes.items():
        if not _url(asked.url, ("http", "https", "tcp")):
            hint = "write http://, https:// or tcp:// with a host (and a port for tcp)"
            yield (*here, "probes", probe, "url"), f"{asked.url!r} cannot be probed", hint
    sections = {"vantage": service.vantage, "side_effects": service.side_effects, "drain": service.drain}
    for section, urls in sections.items():
        for key, url in urls.items():
            if not _url(url, ("http", "https")):
                yield (*here, section, key), f"{url!r} is no http or https URL", "write http:// or https:// with a host"
    for whom, reference in service.notify.items():
        scheme, _, rest = reference.partition(":")
        if scheme not in ("env", "file") or not rest:
            fact = f"the channel of `{whom}` is no reference"
            yield (*here, "notify", whom), fact, "write env:NAME or file:PATH: the URL itself may be a secret"


def _signable(catalog: Catalog) -> Iterator[Told]:
    """Standing terms that can be signed, and that wait for something."""
    for name, terms in catalog.consent.standing.items():
        here = ("consent", "standing", name)
        if terms.lasts > MOST_STANDING:
            hint = f"write at most {MOST_STANDING.days} days: people look at it again by then"
            yield (*here, "lasts"), f"`{name}` would last {duration_text(terms.lasts)}", hint
        service = catalog.services.get(terms.service)
        there = [probe for probe in terms.conditions if service and probe in service.probes]
        if service and any(service.probes[probe].site == terms.to for probe in there):
            hint = "name the site that takes over when those probes fail"
            yield (*here, "to"), f"`{name}` goes to {terms.to}, whose own probes it waits for to fail", hint
        for probe, span in terms.conditions.items():
            if not span:
                hint = "write for how long it must have failed, like 15 s"
                yield (*here, "conditions", probe), f"`{probe}` need not fail at all: it would act at once", hint
        for klass, text in terms.accept.items():
            try:
                accepting.terms({klass: text})
            except BadInput as trouble:
                yield (*here, "accept", klass), trouble.fact, "write a figure like 10 s, or nothing for one without"


def _countable(catalog: Catalog, service: Service, here: tuple[str | int, ...]) -> Iterator[Told]:
    """How many instances carry all users is said, the policy allows as many, and they can be counted and asked for."""
    for name, component in service.compute.items():
        policy = catalog.operations.scaling.get(name)
        if policy is None and component.full_load is None:
            hint = "write full_load, or a policy of that name below operations.scaling"
            yield (*here, name), f"nothing says how many instances of `{name}` carry all users", hint
        if policy is not None and (component.full_load or 0) > policy.replicas.at_most:
            fact = f"{component.full_load} instances carry all users, but its policy allows {policy.replicas.at_most}"
            yield (*here, name, "full_load"), fact, "allow more below operations.scaling, or correct this figure"
        for site, there in component.sites.items():
            path = (*here, name, "sites", site)
            if (there.group is None) == (there.url is None):
                yield path, f"the instances at {site} are counted by one thing", "write either group or url"
            if there.url is not None and not _url(there.url, ("http", "https")):
                yield (*path, "url"), f"{there.url!r} is no http or https URL", "write http:// or https:// with a host"


def _agreeable(catalog: Catalog, service: Service, here: tuple[str | int, ...]) -> Iterator[Told]:
    """The quorum can be had, whichever probed site is lost."""
    for point in service.vantage:
        if point in {MACHINE, *agents(catalog, service)}:
            yield (*here, "vantage", point), f"`{point}` is already a vantage point", "give this one another name"
    for site in {probe.site for probe in service.probes.values()}:
        left = [each for each, point in points(catalog, service).items() if point.site != site]
        if service.quorum is not None and service.quorum > len(left):
            fact = f"{service.quorum} vantage points must agree, but when {site} is lost {len(left)} are left"
            yield (*here, "quorum"), fact, "add vantage points, or ask for fewer"
            return


def _url(url: str, schemes: tuple[str, ...]) -> bool:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    return parts.scheme in schemes and bool(parts.hostname) and (parts.scheme != "tcp" or port is not None)


def _lost_names(catalog: Catalog) -> Iterator[Told]:
    """Every place that names something which has to exist elsewhere in the catalog."""
    for path, named, section, known in _references(catalog):
        if named not in known:
            hint = f"name one of {', '.join(sorted(known)) or 'those that you add'}, or add `{named}`"
            yield path, f"there is no {section} `{named}`", hint


def _references(catalog: Catalog) -> Iterator[_Reference]:
    sites = set(catalog.sites)
    for name, service in catalog.services.items():
        for index, dns in enumerate(service.dns):
            yield ("services", name, "dns", index), dns, "DNS name", set(catalog.dns)
        for probe, asked in service.probes.items():
            yield ("services", name, "probes", probe, "site"), asked.site, "site", sites
        for component, told in service.compute.items():
            for site in told.sites:
                yield ("services", name, "compute", component, "sites", site), site, "site", sites
        for section, by_site in (("side_effects", service.side_effects), ("drain", service.drain)):
            for site in by_site:
                yield ("services", name, section, site), site, "site", sites
    for name, check in catalog.health_checks.items():
        yield ("health_checks", name, "site"), check.site, "site", sites
    for name, door in catalog.dns.items():
        yield from _of_records(catalog, name, door)
    yield from _of_standing(catalog)


def _of_records(catalog: Catalog, name: str, door: DnsName) -> Iterator[_Reference]:
    controls = set(catalog.routing.controls) if catalog.routing else set[str]()
    for site, record in door.records.items():
        here = ("dns", name, "records", site)
        yield here, site, "site", set(catalog.sites)
        if record.health_check:
            yield (*here, "health_check"), record.health_check, "health check", set(catalog.health_checks)
        if record.control:
            yield (*here, "control"), record.control, "routing control", controls


def _of_standing(catalog: Catalog) -> Iterator[_Reference]:
    for name, terms in catalog.consent.standing.items():
        here = ("consent", "standing", name)
        yield (*here, "service"), terms.service, "service", set(catalog.services)
        if terms.to is not None:
            serving = {site for site, each in catalog.sites.items() if each.role != "witness"}
            yield (*here, "to"), terms.to, "site that serves", serving
        service = catalog.services.get(terms.service)
        if service is not None:  # another service's probe would never be seen to fail
            for probe in terms.conditions:
                yield (*here, "conditions", probe), probe, f"probe of {terms.service}", set(service.probes)
