"""How every resource of a home stands now: asks what there is to ask and lets recovery judge.

Separate from watching, which gives facts of one resource: here they meet the ledger's past and the catalog's promises.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Literal

from recovery import standing, wal
from recovery.catalog import PostgresResource
from recovery.check import Verdict
from recovery.drilled import DrillState, drills
from recovery.errors import DrError, NoPoint
from recovery.past import Past, marked_at, proof_of
from recovery.point import Backup
from recovery.scorecard import backups_of
from recovery.slipped import Noted, on_record
from recovery.standing import CopyExposure, DutyState, ProofState, Reason, ServerFacts, StoredFacts
from recovery.timeline import moments
from recovery.value import Instant, Value
from tasks.home import Home
from tasks.postgres.engines.native import MEND
from tasks.remembered import pasts_of
from tasks.scoring import Pasts, Unreadable
from tasks.watching import AgentSaid, Bucket, Server, Watched, watch


class Standing(Value):
    """One resource now."""

    resource: str
    service: str
    verdict: Verdict
    reasons: tuple[Reason, ...]
    servers: tuple[ServerFacts, ...]
    agents: tuple[AgentSaid, ...]
    exposure: tuple[CopyExposure, ...]
    backups: tuple[Backup, ...]
    duties: tuple[DutyState, ...]
    slipped: tuple[Noted, ...]
    """Slots on record as late or missed, oldest first. Looking puts none there."""
    proofs: tuple[ProofState, ...]


class Overview(Value):
    """A home now. `ledger`: `answers` or `silent`; without it nothing is known of proofs. `ledger_silent`: the copies
    of it that did not answer, and why."""

    at: Instant
    ledger: Literal["answers", "silent"]
    ledger_place: str
    ledger_silent: dict[str, str]
    unfinished: tuple[Past, ...]
    unreadable: tuple[Unreadable, ...]
    resources: tuple[Standing, ...]
    drills: tuple[DrillState, ...] = ()
    """Empty while the ledger is silent: only its runs tell of them."""


def overview(home: Home, names: Sequence[str]) -> Overview:
    """Every named resource; all are asked at the same time, the ledger too."""
    with ThreadPoolExecutor(max_workers=8) as pool:
        reading = pool.submit(_past, home)
        watched = list(pool.map(lambda name: watch(home, name), names))
        found, silent = reading.result()
    now = home.now()
    return Overview(
        at=now,
        drills=() if silent else drills(home.catalog.operations.drills, found.runs, now=now),
        ledger="silent" if silent else "answers",
        ledger_place=silent or found.place,
        ledger_silent=found.silent,
        unfinished=tuple(each for each in found.runs if not each.outcome),
        unreadable=found.unreadable,
        resources=tuple(_standing(home, each, found, silent) for each in watched),
    )


def _past(home: Home) -> tuple[Pasts, str]:
    try:
        return pasts_of(home), ""
    except DrError as trouble:
        return Pasts(place=""), trouble.fact


def _standing(home: Home, watched: Watched, past: Pasts, silent: str) -> Standing:
    resource = home.resource(watched.resource)
    objective = home.catalog.objectives[resource.objective]
    policy = home.catalog.backups[resource.backup]
    now = watched.asked_at
    mine = [each for each in past.runs if each.resource == watched.resource]
    backups = _backups(watched.buckets)
    servers = tuple(_server(each) for each in watched.servers)
    marked = sorted({*marked_at(mine), *(at for each in watched.buckets for at in each.marked_at)})
    # those on record, too: one that was swept since has kept its slot all the same
    taken = [*((each.kind, each.begun_at) for each in backups), *((b.kind, b.begun_at) for b in backups_of(mine))]
    duties = standing.duties(policy, home.catalog.proofs[resource.proof], taken, marked, mine, now=now)
    if silent:
        duties = tuple(each for each in duties if not each.what.startswith(("proof", "planted")))
    states = tuple(standing.state_of(each, now=now) for each in duties)
    made = [proof for each in mine if (proof := proof_of(each)) is not None]
    proofs = standing.proof_states(made, objective, now=now)
    exposure = standing.exposures(
        servers, [stored(each) for each in watched.buckets], surviving=_surviving(home, resource, servers), now=now
    )
    reasons = (
        *_of_ledger(silent, past.silent),
        *(() if silent else standing.reasons_of_proofs(proofs, objective)),
        *standing.reasons_of_faults(made),
        *standing.reasons_of_exposure(exposure, objective),
        *_of_backups(backups),
        *_of_damage(watched.buckets),
        *standing.reasons_of_duties(states),
        *_of_copies(watched.buckets, backups, policy.copies, now, policy.full.schedule.late_after.total_seconds()),
        *_of_doubts(watched.buckets),
        *_of_servers(servers, _at_home(home, resource)),
        *_of_agents(watched.agents),
    )
    return Standing(
        resource=watched.resource,
        service=home.service_of(watched.resource),
        verdict=standing.verdict_of(reasons),
        reasons=reasons,
        servers=servers,
        agents=watched.agents,
        exposure=exposure,
        backups=backups,
        duties=states,
        slipped=on_record(mine).slots,
        proofs=proofs,
    )


def _surviving(home: Home, resource: PostgresResource, servers: Sequence[ServerFacts]) -> frozenset[str]:
    """The sites that are left when the primary's is lost; as the catalog says while no primary answers."""
    observed = {resource.site_of(each.site) for each in servers if each.role == "primary"}
    lost = observed or {name for name, site in home.catalog.sites.items() if site.role == "primary"}
    return frozenset(name for name, site in home.catalog.sites.items() if site.role != "witness") - lost


def _backups(buckets: Sequence[Bucket]) -> tuple[Backup, ...]:
    """All backups of all sites, each once, oldest first."""
    found = {each.id: each for bucket in buckets if bucket.points is not None for each in bucket.points.backups}
    return tuple(sorted(found.values(), key=lambda each: (each.ended_at, each.id)))


def _server(server: Server) -> ServerFacts:
    place = server.asked.place
    if place is None:
        return ServerFacts(site=server.site, role="silent", why=server.asked.why)
    return ServerFacts(
        site=server.site,
        role=server.role,
        system_id=place.system_id,
        timeline=place.timeline,
        lsn=place.lsn,
        flushed_lsn=server.flushed_lsn,
        committed_at=place.committed_at,
    )


def stored(bucket: Bucket) -> StoredFacts:
    """Up to where the newest backup's window reaches: WAL behind a gap, or without a backup, brings nothing back."""
    points = bucket.points
    if points is None:
        return StoredFacts(site=bucket.site, why=bucket.why)
    try:
        known = moments(points.known, points.end, points.reached)
        reached = wal.windows(points.archive, points.backups, points.timeline, known)
    except NoPoint as trouble:
        return StoredFacts(site=bucket.site, why=trouble.fact)
    usable = [each for each in reached if each.stops != "unusable"]
    if not usable:
        return StoredFacts(site=bucket.site, why="there is no backup that its WAL makes consistent")
    best = max(usable, key=lambda each: each.to_lsn)
    return StoredFacts(
        site=bucket.site,
        system_id=points.system_id,
        timeline=points.timeline,
        lsn=best.to_lsn,
        committed_at=best.to_at,
        why=bucket.end_why,
    )


def _of_ledger(silent: str, copies: Mapping[str, str]) -> tuple[Reason, ...]:
    if not silent:
        hint = "what is told is what the other copies hold; 'dr evidence sync' carries to it what it lacks afterwards"
        return tuple(
            Reason(outcome="warning", subject="ledger", fact=f"{place} does not answer: {why}", hint=hint)
            for place, why in copies.items()
        )
    hint = "see whether its site answers with 'dr check'; proofs are known from the ledger only"
    return (Reason(outcome="unproven", subject="ledger", fact=silent, hint=hint),)


def _of_backups(backups: Sequence[Backup]) -> tuple[Reason, ...]:
    if backups:
        return ()
    hint = "take one with 'dr backup RESOURCE'; without it nothing can be restored"
    return (Reason(outcome="missed", subject="backup", fact="there is no backup yet", hint=hint),)


def _of_damage(buckets: Sequence[Bucket]) -> tuple[Reason, ...]:
    """Commit markers that do not read: their backups are lost to every restore."""
    return tuple(
        Reason(outcome="missed", subject=f"backup at {bucket.site}", fact=fact, hint=MEND)
        for bucket in buckets
        if bucket.points is not None
        for fact in bucket.points.damaged
    )


def _of_copies(
    buckets: Sequence[Bucket], backups: Sequence[Backup], copies: Sequence[str], now: datetime, grace_seconds: float
) -> tuple[Reason, ...]:
    """Backups that a bucket should hold a copy of and does not, once they are old enough to be there."""
    found: list[Reason] = []
    for bucket in buckets:
        if bucket.points is None or bucket.site not in copies:
            continue
        there = {each.id for each in bucket.points.backups}
        lacking = [
            b.id for b in backups if b.id not in there and (now - b.ended_at).total_seconds() > grace_seconds
        ]  # fmt: skip
        if lacking:
            fact = f"{len(lacking)} backups are not copied to {bucket.site}, the newest is {lacking[-1]}"
            hint = "see whether the agent at the other site ships; its alerts are listed here"
            found.append(Reason(outcome="missed", subject="copies", fact=fact, hint=hint))
    return tuple(found)


def _of_doubts(buckets: Sequence[Bucket]) -> tuple[Reason, ...]:
    """Where nothing but the archive tells of a newer timeline, what can be restored to is not known for sure."""
    doubts = {each.points.doubt for each in buckets if each.points is not None and each.points.doubt}
    hint = "look at both with 'dr points', then restore with --timeline N"
    return tuple(Reason(outcome="unproven", subject="timeline", fact=fact, hint=hint) for fact in sorted(doubts))


def _at_home(home: Home, resource: PostgresResource) -> frozenset[str]:
    """The servers at the site that the catalog calls primary."""
    return frozenset(each for each in resource.members if home.catalog.sites[resource.site_of(each)].role == "primary")


def _of_servers(servers: Sequence[ServerFacts], at_home: AbstractSet[str]) -> tuple[Reason, ...]:
    """`at_home`: where the primary is on quiet days. A failover leaves it stopped on purpose: nobody is to start it."""
    primaries = [each.site for each in servers if each.role == "primary"]
    found = []
    for each in [each for each in servers if each.role == "silent"]:
        hint = "see whether it runs: 'dr check'"
        if primaries and each.site in at_home:
            hint = (
                f"{primaries[0]} is the primary: a failover keeps {each.site} stopped on purpose, don't start it by"
                " hand; 'dr plan failback' lists what it alone holds and brings it back"
            )
        found.append(Reason(outcome="warning", subject=f"server {each.site}", fact=each.why, hint=hint))
    if len(primaries) > 1:
        fact = f"two servers say that they are primary: {', '.join(primaries)}"
        hint = "fence one of them before anything else"
        found.append(Reason(outcome="missed", subject="servers", fact=fact, hint=hint))
    return tuple(found)


def _of_agents(agents: Sequence[AgentSaid]) -> tuple[Reason, ...]:
    found: list[Reason] = []
    for each in agents:
        subject = f"agent {each.site}"
        if each.state == "silent":
            hint = "start it again with 'dr agent run --config FILE'; until then nothing is archived there"
            found.append(Reason(outcome="warning", subject=subject, fact=each.why, hint=hint))
        found += [Reason(outcome="warning", subject=subject, fact=a.fact, hint=a.hint) for a in each.alerts]
    return tuple(found)
