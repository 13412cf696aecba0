"""How a resource stands: exposure by copy, what is due and what slipped, its proofs, and the verdict. Pure.

Separate from measure.py and due.py, which know one number or one schedule: here they become the verdict of a service,
with a reason for everything that keeps it from being met (TRUTH.md). What could not be asked is `unproven`, never fine.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Literal

from recovery.check import Verdict
from recovery.due import Due, Duty, Slip, decide, next_at, slips
from recovery.measure import exposure
from recovery.objective import Objective, duration_text
from recovery.past import Past, proof_of
from recovery.policy import BackupPolicy, ProofPolicy
from recovery.proof import Proof
from recovery.slipped import LOOK_BACK, on_record
from recovery.slipped import since as in_force
from recovery.value import Instant, Value, rfc3339

SORTS = ("mark", "latest")


class Reason(Value):
    """Why a verdict is not `met`. A `warning` decides nothing, but a person should know."""

    outcome: Literal["missed", "unproven", "warning"]
    subject: str
    fact: str
    hint: str


class ServerFacts(Value):
    """A server as it was seen: `lsn` is what it has replayed or written, `flushed_lsn` on a primary only."""

    site: str
    role: Literal["primary", "standby", "silent"]
    system_id: str = ""
    timeline: int | None = None
    lsn: int | None = None
    flushed_lsn: int | None = None
    committed_at: Instant | None = None
    why: str = ""


class StoredFacts(Value):
    """A site's bucket as it was seen: the LSN up to which its newest backup's window reaches, and the newest commit
    known inside it. `why` says what is missing where `lsn` is None."""

    site: str
    system_id: str = ""
    timeline: int | None = None
    lsn: int | None = None
    committed_at: Instant | None = None
    why: str = ""


class CopyExposure(Value):
    """Exposure of one copy; a silent server is a `server`, since nothing tells its role. `judged` is `decides` for the
    copy that the objective is judged by."""

    site: str
    copy_of: Literal["standby", "server", "bucket"]
    seconds: float | None
    lsn: int | None = None
    why: str
    judged: Literal["decides", "shown"] = "shown"


class DutyState(Value):
    """A duty now. `last_at` is the newest begin; `slips` are late and missed slots, oldest first."""

    what: str
    state: Literal["kept", "due"]
    why: str
    last_at: Instant | None
    next_at: Instant
    slips: tuple[Slip, ...]


class ProofState(Value):
    """The newest proof of a sort: `fresh` while it is younger than the objective's proof age; `none` without one."""

    sort: str
    state: Literal["fresh", "stale", "none"]
    verdict: Verdict
    run: str = ""
    ended_at: Instant | None = None
    age_seconds: float | None = None
    rpo_seconds: float | None = None
    rto_seconds: float | None = None


def exposures(
    servers: Sequence[ServerFacts], stored: Sequence[StoredFacts], *, surviving: Collection[str], now: datetime
) -> tuple[CopyExposure, ...]:
    """Exposure of every copy; the least at the surviving sites decides. Nothing known there: none decides."""
    primary = next((each for each in servers if each.role == "primary"), None)
    found = [_of_standby(each, primary, now) for each in servers if each.role != "primary"]
    found += [_of_bucket(each, primary, now) for each in stored]
    known = [each for each in found if each.site in surviving and each.seconds is not None]
    best = min(known, key=lambda each: each.seconds or 0.0, default=None)
    return tuple(each.but(judged="decides") if each is best else each for each in found)


def _of_standby(server: ServerFacts, primary: ServerFacts | None, now: datetime) -> CopyExposure:
    if server.role == "silent":
        return CopyExposure(site=server.site, copy_of="server", seconds=None, why=server.why)
    if why := _elsewhere(server, primary):
        return CopyExposure(site=server.site, copy_of="standby", seconds=None, lsn=server.lsn, why=why)
    flushed = primary.flushed_lsn if primary is not None else None
    said = exposure("", stored_lsn=server.lsn, stored_at=server.committed_at, flushed_lsn=flushed, now=now)
    return CopyExposure(site=server.site, copy_of="standby", seconds=said.seconds, lsn=said.lsn, why=said.why)


def _of_bucket(bucket: StoredFacts, primary: ServerFacts | None, now: datetime) -> CopyExposure:
    why = bucket.why if bucket.lsn is None else _elsewhere(bucket, primary)
    if why:
        return CopyExposure(site=bucket.site, copy_of="bucket", seconds=None, lsn=bucket.lsn, why=why)
    flushed = primary.flushed_lsn if primary is not None else None
    said = exposure("", stored_lsn=bucket.lsn, stored_at=bucket.committed_at, flushed_lsn=flushed, now=now)
    return CopyExposure(site=bucket.site, copy_of="bucket", seconds=said.seconds, lsn=said.lsn, why=said.why)


def _elsewhere(copied: ServerFacts | StoredFacts, primary: ServerFacts | None) -> str:
    """Why its LSN cannot be compared with the primary's, or nothing."""
    if primary is None:
        return ""
    if copied.system_id != primary.system_id:
        return f"it is of system {copied.system_id}, the primary of {primary.system_id}"
    if copied.timeline != primary.timeline:
        return f"it stands on timeline {copied.timeline}, the primary on {primary.timeline}"
    return ""


def duties(
    policy: BackupPolicy,
    proofs: ProofPolicy,
    backups: Sequence[tuple[str, datetime]],
    marked_at: Sequence[datetime],
    runs: Sequence[Past],
    *,
    now: datetime,
    back: timedelta = LOOK_BACK,
) -> tuple[Duty, ...]:
    """What a resource's policies ask for, with what was done. `backups` are (kind, begun at). Slots count from
    the first of them, at most for seven days (`back`), and not before their schedule was in force by the record."""
    first = min((at for _, at in backups), default=None)
    since = max(first, now - back) if first is not None else None
    fulls = tuple(at for kind, at in backups if kind == "full")
    every = tuple(at for _, at in backups)
    marks_since = max(since, min(marked_at)) if since is not None and marked_at else since
    found = [Duty(what="full backup", schedule=policy.full.schedule, done=fulls, since=since)]
    if policy.incremental is not None:
        found.append(Duty(what="incremental", schedule=policy.incremental.schedule, done=every, since=since))
    found.append(Duty(what="mark", schedule=policy.marks, done=tuple(marked_at), since=marks_since))
    made = [(each, proof) for each in runs if (proof := proof_of(each)) is not None]
    judged = [(each, proof) for each, proof in made if proof.verdict is not Verdict.UNPROVEN]
    for sort in SORTS:
        done = tuple(each.begun_at for each, proof in judged if proof.planted is None and proof.sort == sort)
        found.append(Duty(what=f"proof, {sort}", schedule=proofs.schedule, done=done, since=since))
    if proofs.deep is not None:
        deep = tuple(each.begun_at for each, proof in judged if each.level == "deep" and proof.planted is None)
        found.append(Duty(what="proof, deep", schedule=proofs.deep, done=deep, since=since))
    if proofs.planted_fault == "daily":
        planted = tuple(each.begun_at for each, proof in made if proof.planted is not None)
        found.append(Duty(what="planted fault", schedule=proofs.schedule, done=planted, since=since))
    record = on_record(runs)

    def from_when(each: Duty) -> datetime | None:
        return in_force(each.what, each.schedule, each.since, record, now=now, back=back)

    return tuple(each.but(since=from_when(each)) for each in found)


def state_of(duty: Duty, *, now: datetime) -> DutyState:
    """What is due of a duty and what slipped. Without a beginning nothing slips: there was nothing to keep yet."""
    decided = decide(duty.schedule, duty.done, now=now)
    return DutyState(
        what=duty.what,
        state="due" if isinstance(decided, Due) else "kept",
        why=f"slot of {rfc3339(decided.slot)}: {decided.why}" if isinstance(decided, Due) else decided.why,
        last_at=max(duty.done, default=None),
        next_at=next_at(duty.schedule, now),
        slips=slips(duty.schedule, duty.done, since=duty.since, now=now) if duty.since is not None else (),
    )


def proof_states(proofs: Iterable[Proof], objective: Objective, *, now: datetime) -> tuple[ProofState, ...]:
    """The newest proof of each sort. Those with a planted fault are no proofs of the data."""
    plain = [each for each in proofs if each.planted is None]
    return tuple(_newest(sort, [each for each in plain if each.sort == sort], objective, now) for sort in SORTS)


def _newest(sort: str, proofs: Sequence[Proof], objective: Objective, now: datetime) -> ProofState:
    newest = max(proofs, key=lambda each: each.ended_at, default=None)
    if newest is None:
        return ProofState(sort=sort, state="none", verdict=Verdict.UNPROVEN)
    return ProofState(
        sort=sort,
        state="fresh" if now - newest.ended_at <= objective.proof_age else "stale",
        verdict=newest.verdict,
        run=newest.run,
        ended_at=newest.ended_at,
        age_seconds=(now - newest.ended_at).total_seconds(),
        rpo_seconds=newest.rpo_seconds,
        rto_seconds=newest.rto_seconds,
    )


def reasons_of_proofs(states: Iterable[ProofState], objective: Objective) -> tuple[Reason, ...]:
    """What keeps the proofs from being met."""
    found: list[Reason] = []
    for each in states:
        subject = f"proof, {each.sort}"
        if each.state == "none":
            hint = "take a mark on a standby with 'dr backup RESOURCE --mark', then 'dr prove --mark'"
            found.append(
                Reason(
                    outcome="unproven",
                    subject=subject,
                    fact="there is no proof of this sort yet",
                    hint=hint if each.sort == "mark" else "'dr prove --latest'",
                )
            )
        elif each.verdict is Verdict.MISSED:
            hint = f"'dr show {each.run[:8]}' has every finding"
            found.append(Reason(outcome="missed", subject=subject, fact="the newest proof is missed", hint=hint))
        elif each.verdict is Verdict.UNPROVEN:
            hint = f"'dr show {each.run[:8]}' says what could not be checked"
            found.append(Reason(outcome="unproven", subject=subject, fact="the newest proof is unproven", hint=hint))
        elif each.state == "stale":
            fact = f"the newest proof is older than {duration_text(objective.proof_age)}"
            found.append(Reason(outcome="unproven", subject=subject, fact=fact, hint=f"'dr prove --{each.sort}'"))
    return tuple(found)


def reasons_of_duties(states: Iterable[DutyState]) -> tuple[Reason, ...]:
    """What was late or missed."""
    found: list[Reason] = []
    for each in states:
        counted = [f"{n} {kind}" for kind in ("missed", "late") if (n := sum(s.kind == kind for s in each.slips))]
        if counted:
            fact = f"{', '.join(counted)}; the newest of them at {rfc3339(each.slips[-1].slot)[:16]}Z"
            hint = "see whether the schedules run; what is due now can be done by hand ('dr backup', 'dr prove')"
            found.append(Reason(outcome="missed", subject=each.what, fact=fact, hint=hint))
    return tuple(found)


def reasons_of_exposure(found: Sequence[CopyExposure], objective: Objective) -> tuple[Reason, ...]:
    """Whether the copy at the surviving site keeps the RPO."""
    deciding = next((each for each in found if each.judged == "decides"), None)
    if deciding is None or deciding.seconds is None:
        hint = "see below which copies are silent and why; mend one at the surviving site"
        fact = "nothing says up to when commits are at a surviving site"
        return (Reason(outcome="unproven", subject="exposure", fact=fact, hint=hint),)
    if deciding.seconds > objective.rpo.total_seconds():
        fact = f"{deciding.seconds:.0f} s at {deciding.site}, of {duration_text(objective.rpo)} promised"
        hint = "see whether the agent archives and ships ('dr status' lists its alerts) and the standby streams"
        return (Reason(outcome="missed", subject="exposure", fact=fact, hint=hint),)
    return ()


def reasons_of_faults(proofs: Iterable[Proof]) -> tuple[Reason, ...]:
    """The planted faults that were not caught when they were planted last. `proofs` in any order."""
    newest: dict[str, Proof] = {}
    for each in sorted(proofs, key=lambda one: one.ended_at):
        if each.planted is not None:
            newest[each.planted.name] = each
    return tuple(
        Reason(
            outcome="missed",
            subject="planted fault",
            fact=f"{name} was not caught",
            hint=f"the checks have a hole: 'dr show {each.run[:8]}'",
        )
        for name, each in sorted(newest.items())
        if each.planted is not None and not each.planted.detected
    )


def verdict_of(reasons: Iterable[Reason]) -> Verdict:
    """Any missed: missed. Else any unproven: unproven. Else met."""
    outcomes = {each.outcome for each in reasons}
    return Verdict.MISSED if "missed" in outcomes else Verdict.UNPROVEN if "unproven" in outcomes else Verdict.MET
