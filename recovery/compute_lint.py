"""Whether each site could carry all users, judged before the event: counts, limits and quotas, site against site. Pure.

Separate from the hazards of a plan (compute.py), which say the same of the moment of acting: here it is told weeks
before, when a limit can still be raised.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from recovery.catalog import Catalog
from recovery.check import Check, Finding, Outcome, Severity
from recovery.compute import Ask, allowed, asks, goal, short
from recovery.observation import CapacitySeen

Seen = Mapping[str, Mapping[str, CapacitySeen]]
"""By component and site."""


def lint(catalog: Catalog, service: str, seen: Seen, vcpus: Mapping[str, float | str]) -> tuple[Check, ...]:
    """All checks of a service's instances. `vcpus`: by site the account's quota, or why it could not be asked."""
    here = catalog.services[service]
    sites = [name for name, site in catalog.sites.items() if site.role != "witness"]
    found: list[Check] = []
    for site in sites:
        asked = asks(catalog, here, site)
        for name in here.compute:
            title = f"capacity {name} {site}"
            if name in asked:
                found.append(_component(title, name, asked[name], site, seen.get(name, {})))
            else:
                fact = f"the catalog has no instances of {name} at {site}"
                found.append(Check(name=title, outcome=Outcome.NOT_CONFIGURED, fact=fact))
        found += _quota(site, asked, seen, vcpus)
    return tuple(found)


def _component(title: str, name: str, ask: Ask, site: str, seen: Mapping[str, CapacitySeen]) -> Check:
    here = seen.get(site, CapacitySeen(why="it was not asked"))
    if here.answer == "silent":
        hint = "see the site's `compute` in the catalog, and what its credentials may do"
        return _said(title, Outcome.UNPROVEN, here.why, hint, Severity.WARNING)
    others = [each for other, each in seen.items() if other != site]
    wanted = max((goal(ask, each) for each in others), default=ask.least)
    if short(wanted, here):
        hint = "raise the limit now (a group's MaxSize): on the day it would be found in the middle"
        return _said(title, Outcome.FAILED, allowed(name, wanted, here, site), hint)
    most = "without a limit" if here.at_most is None else f"at most {here.at_most}"
    fact = f"{here.in_service} in service, {most}; {wanted} carry all users"
    if ask.most is not None and short(ask.most, here):
        hint = f"the policy goes up to {ask.most}: let the site's limit allow as many"
        return _said(title, Outcome.PASSED, fact, hint, Severity.WARNING)
    return Check(name=title, outcome=Outcome.PASSED, fact=fact)


def _quota(site: str, asked: Mapping[str, Ask], seen: Seen, vcpus: Mapping[str, float | str]) -> Iterator[Check]:
    """Nothing where no instance of the site is counted by a quota."""
    if site not in vcpus:
        return
    title, quota = f"capacity quota {site}", vcpus[site]
    counted = {name: ask for name, ask in asked.items() if ask.cpus}
    if not counted:
        fact = "operations.limits has no cpus of what runs in its groups"
        yield Check(name=title, outcome=Outcome.NOT_CONFIGURED, fact=fact)
        return
    if isinstance(quota, str):
        hint = (
            "let the credentials of the site's `compute` call servicequotas:GetServiceQuota, or see it in the console"
        )
        yield _said(title, Outcome.UNPROVEN, quota, hint, Severity.WARNING)
        return
    need = 0.0
    for name, ask in counted.items():
        others = [each for other, each in seen.get(name, {}).items() if other != site]
        need += max((goal(ask, each) for each in others), default=ask.least) * (ask.cpus or 0.0)
    fact = f"{need:g} vCPUs carry all users, the account's quota is {quota:g} (others may use of it, too)"
    more = [f"{other} has {each:g}" for other, each in vcpus.items() if not isinstance(each, str) and each > quota]
    if need > quota:
        yield _said(title, Outcome.FAILED, fact, "ask for a higher quota now: it takes hours to days")
    elif more:
        hint = f"{', '.join(more)}: the sites are not alike; ask for the same quota"
        yield _said(title, Outcome.PASSED, fact, hint, Severity.WARNING)
    else:
        yield Check(name=title, outcome=Outcome.PASSED, fact=fact)


def _said(title: str, outcome: Outcome, fact: str, hint: str, severity: Severity = Severity.FAILURE) -> Check:
    finding = Finding(check=title, severity=severity, fact=fact, hint=hint)
    return Check(name=title, outcome=outcome, fact=fact, findings=(finding,))
