"""A runbook bound to a catalog: roles become this service's resources, `from` and `to` become its sites. Pure.

Separate from planning a failover, because printing, validating and planning all bind, and only planning needs to have
looked at the world.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pydantic import JsonValue

from recovery.catalog import Catalog
from recovery.compute import ASKS, asks
from recovery.errors import BadInput
from recovery.names import filled, names, unknown_names
from recovery.runbook import ROLES, Runbook, RunbookStep
from recovery.step import Step
from recovery.value import Value
from recovery.verb import VERBS


class Ends(Value):
    """Whom a bound runbook serves, the site that it leaves and the one that it goes to."""

    service: str
    source: str
    target: str


def ends(catalog: Catalog, runbook: Runbook, *, service: str | None = None, to: str | None = None) -> Ends:
    """The ends by the catalog, where they are not given. Raises BadInput for what the catalog doesn't have."""
    if service is None and len(catalog.services) > 1:
        raise BadInput("the catalog has several services", hint=f"name one of {', '.join(catalog.services)}")
    service = service or next(iter(catalog.services), "")
    if service not in catalog.services:
        raise BadInput(f"there is no service {service!r}", hint=f"name one of {', '.join(catalog.services) or 'them'}")
    sites = {name: site for name, site in catalog.sites.items() if site.role != "witness"}
    to = to or next((name for name, site in sites.items() if site.role == runbook.toward), None)
    others = [name for name in sites if name != to]
    if to not in sites or not others:
        known = ", ".join(sites) or "none"
        fact = f"there is no site {to!r} that could serve" if to else f"no site is {runbook.toward}"
        raise BadInput(
            fact if others or not to else "there is no second site", hint=f"the sites that serve are {known}"
        )
    other = "primary" if runbook.toward == "recovery" else "recovery"
    source = next((name for name in others if sites[name].role == other), others[0])
    return Ends(service=service, source=source, target=to)


def resources(catalog: Catalog, service: str, role: str) -> tuple[str, ...]:
    """What a step's resource stands for: a role gives all of the service's, an exact name gives itself if it exists."""
    here = catalog.services[service]
    match role:
        case "service":
            return (service,)
        case "database":
            return tuple(name for name in here.resources if name in catalog.resources)
        case "dns" | "rehearsal":
            use = "live" if role == "dns" else role
            return tuple(name for name in here.dns if name in catalog.dns and catalog.dns[name].use == use)
        case _:
            return (role,) if role in (*here.resources, *here.dns) else ()


def moved_by(catalog: Catalog) -> dict[str, tuple[str, ...]]:
    """How each DNS name is moved; the role `dns` is moved in every way that one of the live names is."""
    found: dict[str, tuple[str, ...]] = {name: (dns.moved_by,) for name, dns in catalog.dns.items()}
    worst = [dns.moved_by for dns in catalog.dns.values() if dns.use == "live"]
    edited = [way for way in worst if way == "record-edit"]
    if worst:
        found["dns"] = tuple(edited or worst)
    return found


def data_dirs(catalog: Catalog) -> tuple[str, ...]:
    """The folders of all the catalog's databases: where no restore may go (rule 7)."""
    return tuple(member.data_dir for each in catalog.resources.values() for member in each.members.values())


def unbound(runbook: Runbook, catalog: Catalog) -> Iterator[tuple[str, str, str, str]]:
    """What the runbook names and no service of the catalog has: step, field, fact, hint. A service that lacks what a
    role stands for is passed over as long as another has it: the runbook then isn't for that service."""
    fitting = [name for name in catalog.services if _fits(runbook, catalog, name)]
    if not fitting:
        for step in runbook.steps:
            if not any(resources(catalog, name, step.resource) for name in catalog.services):
                known = ", ".join((*ROLES, *catalog.resources, *catalog.dns))
                yield step.id, "resource", f"there is no resource `{step.resource}`", f"name one of {known}"
        return
    for step in runbook.steps:
        on, named = VERBS[step.verb].on, step.resource
        found = "database" if named in catalog.resources else "dns" if named in catalog.dns else on
        if named not in ROLES and on not in ("any", found):
            yield step.id, "resource", f"`{step.verb}` acts on a {on}, and `{named}` is none", f"write `resource: {on}`"
    for service in fitting:
        yield from _nameless(runbook, catalog, ends(catalog, runbook, service=service))


def _fits(runbook: Runbook, catalog: Catalog, service: str) -> bool:
    return all(resources(catalog, service, step.resource) for step in runbook.steps)


def _nameless(runbook: Runbook, catalog: Catalog, by: Ends) -> Iterator[tuple[str, str, str, str]]:
    for step in runbook.steps:
        for resource in resources(catalog, by.service, step.resource):
            known = names(catalog, service=by.service, resource=resource, source=by.source, target=by.target)
            for name in unknown_names(step.manual, known):
                hint = (
                    f"add it to the catalog, write {{{name}?}} to leave the line out, or use one of {', '.join(known)}"
                )
                yield step.id, "manual", f"the manual of `{step.id}` names {{{name}}}, which is not there", hint


def bind(
    runbook: Runbook, catalog: Catalog, by: Ends, extra: Mapping[str, JsonValue] | None = None
) -> tuple[Step, ...]:
    """The runbook's steps (nested ones opened) for that service and these sites. A role with several resources gives a
    step for each, `id-resource`; what needed it needs all. `extra` are arguments by verb that the planner pinned, as
    `VERB.NAME`. Raises BadInput for a resource or a name that the catalog doesn't have."""
    several: dict[str, tuple[str, ...]] = {}
    for step in runbook.steps:
        found = resources(catalog, by.service, step.resource)
        if not found:
            fact = f"step `{step.id}` of {runbook.name} acts on `{step.resource}`, which {by.service} doesn't have"
            raise BadInput(fact, hint="see `dr runbook validate`")
        several[step.id] = (step.id,) if len(found) == 1 else tuple(f"{step.id}-{each}" for each in found)
    bound: list[Step] = []
    for step in runbook.steps:
        needs = tuple(name for need in step.needs for name in several[need])
        for name, resource in zip(several[step.id], resources(catalog, by.service, step.resource), strict=True):
            known = names(catalog, service=by.service, resource=resource, source=by.source, target=by.target)
            lacking = unknown_names(step.manual, known)
            if lacking:
                raise BadInput(
                    f"the manual of `{step.id}` names {{{lacking[0]}}}, which the catalog doesn't have",
                    hint="see `dr runbook validate`",
                )
            until = several[step.until][0] if step.until else None
            bound.append(
                _bound(step, catalog, by, name, resource, needs, until, filled(step.manual, known), extra or {})
            )
    return tuple(bound)


def _bound(
    step: RunbookStep,
    catalog: Catalog,
    by: Ends,
    name: str,
    resource: str,
    needs: Sequence[str],
    until: str | None,
    manual: str,
    extra: Mapping[str, JsonValue],
) -> Step:
    pinned = {key.partition(".")[2]: value for key, value in extra.items() if key.startswith(f"{step.verb}.")}
    arguments = {**step.arguments, **pinned}
    if step.verb == "redirect" and "by" not in arguments and resource in catalog.dns:
        arguments["by"] = [catalog.dns[resource].moved_by]
    if step.verb == "scale":
        site = str(_sited({"site": "to", **arguments}, by)["site"])
        found = asks(catalog, catalog.services[by.service], site)
        if found:
            arguments[ASKS] = {each: ask.model_dump(mode="json", exclude_none=True) for each, ask in found.items()}
    return Step(
        id=name,
        verb=step.verb,
        resource=resource,
        arguments=_sited(arguments, by),
        graceful=_sited(step.graceful, by),
        ungraceful=_sited(step.ungraceful, by),
        needs=tuple(needs),
        until=until,
        patience_seconds=step.patience.total_seconds(),
        tries=step.tries,
        always=step.always,
        manual=manual,
    )


def _sited(arguments: Mapping[str, JsonValue], by: Ends) -> dict[str, JsonValue]:
    """Roles of sites as the sites themselves."""
    real = {"from": by.source, "to": by.target}
    return {name: real.get(str(value), value) if name == "site" else value for name, value in arguments.items()}


def groups(steps: Sequence[Step]) -> tuple[tuple[str, ...], ...]:
    """The steps in the order in which they can begin: each group needs only those before it."""
    level: dict[str, int] = {}
    left = {step.id: step for step in steps}
    while left:
        for step in [each for each in left.values() if all(need in level for need in each.needs)]:
            level[step.id] = 1 + max((level[need] for need in step.needs), default=-1)
            del left[step.id]
    found: dict[int, list[str]] = {}
    for step in steps:
        found.setdefault(level[step.id], []).append(step.id)
    return tuple(tuple(found[each]) for each in sorted(found))


def live_ids(runbook: Runbook, catalog: Catalog, by: Ends) -> frozenset[str]:
    """The ids of the bound steps that change what users live on."""
    found: set[str] = set()
    for step in runbook.steps:
        those = resources(catalog, by.service, step.resource)
        if step.live and not all(each in catalog.dns and catalog.dns[each].use == "rehearsal" for each in those):
            found |= {step.id} if len(those) == 1 else {f"{step.id}-{each}" for each in those}
    return frozenset(found)
