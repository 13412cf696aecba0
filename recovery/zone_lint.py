"""Whether a name could be moved on the day: its records, their TTL and their health checks, judged before it. Pure.

Separate from the hazards of a plan, which say the same of the moment of acting: here it is told weeks before, when it
can still be mended (SPEC 5.6). What Route53 could not be asked is unproven.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from recovery.check import Check, Finding, Outcome
from recovery.doors import DnsName, HealthCheck
from recovery.hazards import LONGEST_TTL_SECONDS
from recovery.zone_edit import RecordSet, sites


def lint(
    name: str,
    dns: DnsName,
    written: Mapping[str, HealthCheck],
    *,
    sets: Sequence[RecordSet] | str,
    configs: Mapping[str, Mapping[str, Any] | str],
) -> tuple[Check, ...]:
    """All checks of one name. `written`: the catalog's health checks; `sets`: the name's record sets, `configs`: by
    health check, Route53's own configuration of it; each may be why it could not be asked."""
    found: list[Check] = []
    if isinstance(sets, str):
        found.append(_unproven(f"dns {name} records", sets))
    else:
        found += [_records(name, dns, sets), _ttl(name, dns, sets)]
    checks = dict.fromkeys(record.health_check for record in dns.records.values() if record.health_check)
    if not checks:
        found.append(Check(name=f"dns {name} health", outcome=Outcome.NOT_CONFIGURED, fact="no record has one"))
    for check in checks:
        if check in written:
            found.append(_health(name, dns, check, written[check], sets, configs.get(check, "it was not asked")))
    return tuple(found)


def _records(name: str, dns: DnsName, sets: Sequence[RecordSet]) -> Check:
    title, there = f"dns {name} records", sites(sets, dns)
    missing = [site for site in dns.records if site not in there]
    if missing:
        fact = f"{dns.name} has no record for {', '.join(missing)}: users cannot be sent there"
        return _failed(title, fact, "create it now: a name that was missing is remembered as missing")
    return Check(name=title, outcome=Outcome.PASSED, fact=f"one for each of {', '.join(there)}")


def _ttl(name: str, dns: DnsName, sets: Sequence[RecordSet]) -> Check:
    title, mine = f"dns {name} ttl", {each.set_identifier for each in dns.records.values()}
    found = [float(each["TTL"]) for each in sets if "TTL" in each and each.get("SetIdentifier") in mine]
    if not found:
        return Check(name=title, outcome=Outcome.NOT_CONFIGURED, fact="no record has one of its own (an alias)")
    if max(found) > LONGEST_TTL_SECONDS:
        fact = f"resolvers keep the old answer of {dns.name} for up to {max(found):g} s"
        return _failed(title, fact, f"set it to {LONGEST_TTL_SECONDS:g} s or less; it takes effect after the old TTL")
    return Check(name=title, outcome=Outcome.PASSED, fact=f"{max(found):g} s")


def _health(
    name: str,
    dns: DnsName,
    check: str,
    written: HealthCheck,
    sets: Sequence[RecordSet] | str,
    config: Mapping[str, Any] | str,
) -> Check:
    title = f"dns {name} health {check}"
    if isinstance(config, str):
        return _unproven(title, config)
    wrong = list(_of_config(check, written, config))
    if not isinstance(sets, str):
        wrong += _of_sets(dns, check, written, sets)
    if wrong:
        findings = tuple(Finding(check=title, fact=fact, hint=hint) for fact, hint in wrong)
        return Check(
            name=title, outcome=Outcome.FAILED, fact="; ".join(fact for fact, _ in wrong), findings=findings
        )  # fmt: skip
    return Check(name=title, outcome=Outcome.PASSED, fact="inverted, enabled" if written.inverted else "enabled")


def _of_config(check: str, written: HealthCheck, config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if config.get("Disabled", False):
        yield f"{check} is disabled, which counts as healthy", "enable it; to take a site out, invert it"
    inverted = bool(config.get("Inverted", False))
    if inverted != written.inverted:
        said = "inverted" if inverted else "not inverted"
        yield f"{check} is {said} in Route53, and the catalog says otherwise", "correct the one that is wrong"
    elif inverted and written.marker is None:
        fact = f"{check} is inverted, and no marker moves it: it is healthy while what it watches fails"
        yield fact, "name the marker that it watches, or take the inversion away"


def _of_sets(dns: DnsName, check: str, written: HealthCheck, sets: Sequence[RecordSet]) -> Iterator[tuple[str, str]]:
    mine = {record.set_identifier for record in dns.records.values() if record.health_check == check}
    for each in sets:
        if each.get("SetIdentifier") in mine and each.get("HealthCheckId") != written.id:
            other = each.get("HealthCheckId") or "none"
            fact = f"the record {each['SetIdentifier']} has the health check {other}, not {written.id}"
            yield fact, "give the record its health check, or correct the id in the catalog"


def _failed(title: str, fact: str, hint: str) -> Check:
    findings = (Finding(check=title, fact=fact, hint=hint),)
    return Check(name=title, outcome=Outcome.FAILED, fact=fact, findings=findings)


def _unproven(title: str, why: str) -> Check:
    hint = "see the access to Route53 (`route53` in the catalog); its control plane is in us-east-1"
    findings = (Finding(check=title, fact=why, hint=hint),)
    return Check(name=title, outcome=Outcome.UNPROVEN, fact=why, findings=findings)
