"""A name's servers, asked side by side: who answers the new site, who something else, and who nothing.

Separate because redirecting, converging and looking ask alike. A slow server keeps nobody waiting but itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial

from recovery.convergence import Said, same
from recovery.doors import DnsName
from recovery.errors import BadInput
from tasks.probing import at_once
from tasks.resolving import Resolved, resolve

PATIENCE_SECONDS = 1.0
_GRACE_SECONDS = 0.2


def ask(server: str, dns: DnsName, *, patience_seconds: float = PATIENCE_SECONDS) -> Resolved:
    """Ask one server for the name."""
    return resolve(server, dns.name, dns.type, patience_seconds=patience_seconds)


def ask_all(servers: Iterable[str], dns: DnsName, *, patience_seconds: float = PATIENCE_SECONDS) -> dict[str, Resolved]:
    """Ask all of them at once: server → answer. Never longer than a little over the patience."""
    listed = tuple(dict.fromkeys(servers))
    jobs = {each: partial(ask, each, dns, patience_seconds=patience_seconds) for each in listed}
    came = at_once(jobs, patience_seconds + _GRACE_SECONDS)
    late = Resolved(outcome="silent", why=f"no answer within {patience_seconds:g} s")
    return {each: came.get(each, late) for each in listed}


def said(answer: Resolved, dns: DnsName, site: str) -> Said:
    """What an answer means for a move to that site."""
    if answer.outcome == "silent":
        return "silent"
    return "new" if same(answer.values, dns.records[site].value) else "other"


def words(server: str, answer: Resolved) -> str:
    """For people."""
    if answer.outcome == "silent":
        return f"{server} does not answer ({answer.why})"
    return f"{server} answers {', '.join(answer.values) or 'nothing'}"


def judged(answers: Mapping[str, Resolved], dns: DnsName, site: str) -> tuple[Said, str]:
    """What all of them mean together: one that answers something else decides; silence decides only when nobody speaks
    (converging waits for everybody)."""
    means = {server: said(answer, dns, site) for server, answer in answers.items()}
    for word in ("other", "silent"):
        those = [words(server, answers[server]) for server, each in means.items() if each == word]
        if those and (word == "other" or "new" not in means.values()):
            return word, "; ".join(those)
    return "new", f"{sum(each == 'new' for each in means.values())} of {len(means)} answer {dns.records[site].value}"


def name_of(names: Mapping[str, DnsName], name: str, site: str) -> DnsName:
    """The catalog's name that a step moves to a site. Raises BadInput for what cannot be moved or asked."""
    dns = names.get(name)
    if dns is None:
        raise BadInput(f"the catalog has no DNS name {name!r}", hint=f"it has: {', '.join(names) or 'none'}")
    if site not in dns.records:
        hint = f"give it a record there in the catalog and in the zone; it has records for {', '.join(dns.records)}"
        raise BadInput(f"{dns.name} has no record for {site}", hint=hint)
    if not dns.name_servers:
        raise BadInput(
            f"the catalog lists no name server of {dns.name}: nobody could be asked whether it moved",
            hint=f"list the zone's own under dns.{name}.name_servers",
        )
    return dns
