"""The scorecard: what the ledger's runs say of each resource's promises. Pure, and from records only (HOUSE, law 12).

Separate from standing.py, which also asks the world: here is what can be said years later from the evidence alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from recovery import due, standing
from recovery.catalog import Catalog, PostgresResource
from recovery.caught import FaultScore, faults
from recovery.check import Verdict
from recovery.drilled import DrillState, drills, reasons_of_drills
from recovery.due import Slip
from recovery.measure import percentile
from recovery.objective import Objective
from recovery.past import Past, marked_at, proof_of
from recovery.proof import Proof
from recovery.readiness import Ticked, readiness
from recovery.slipped import Noted, on_record
from recovery.standing import ProofState, Reason
from recovery.value import Instant, Value

COMPARED = 10
"""The newest is compared with the median of that many before it …"""
LEAST = 5
"""… and with fewer than this many nothing is said: noise would decide (TRUTH.md)."""
REGRESSED = 1.5
FORECAST_FROM = 30
SHOWN_SLOTS = 96


class Sample(Value):
    """One measured figure and the run that measured it."""

    at: Instant
    seconds: float
    run: str


class Series(Value):
    """A figure over time, oldest first. p50 and p95 are over all samples; `trend` compares the newest with others."""

    name: str
    samples: tuple[Sample, ...]
    newest_seconds: float | None
    p50_seconds: float | None
    p95_seconds: float | None
    trend: Literal["steady", "regressed", "too few"]
    why: str


class SlotScore(Value):
    """A slot and what became of it."""

    slot: Instant
    state: Literal["kept", "waiting", "late", "missed"]


class Punctuality(Value):
    """How a duty's slots were kept since the first backup or for seven days; `slots` are the newest, oldest first."""

    what: str
    kept: int
    late: int
    missed: int
    slots: tuple[SlotScore, ...]


class BackupScore(Value):
    """A backup run that ended well."""

    run: str
    id: str
    kind: str
    begun_at: Instant
    taken_seconds: float
    size_bytes: int
    stored_bytes: int


class Forecast(Value):
    """What the next restore will take, from the newest proofs that came to their checks; None without any."""

    p50_seconds: float | None
    p95_seconds: float | None
    proofs: int


class ResourceScore(Value):
    """One resource against its promises."""

    resource: str
    service: str
    objective: Objective
    verdict: Verdict
    reasons: tuple[Reason, ...]
    proofs: tuple[ProofState, ...]
    rpo: Series
    rto: tuple[Series, ...]
    forecast: Forecast
    punctuality: tuple[Punctuality, ...]
    slipped: tuple[Noted, ...]
    """The newest slots on record as late or missed, oldest first, whatever the catalog says now."""
    backups: tuple[BackupScore, ...]


class ServiceScore(Value):
    """A service is met only while all that it stands on is."""

    service: str
    verdict: Verdict
    resources: tuple[str, ...]


class Scorecard(Value):
    """Everything that the ledger says, at one instant."""

    at: Instant
    verdict: Verdict
    services: tuple[ServiceScore, ...]
    resources: tuple[ResourceScore, ...]
    faults: tuple[FaultScore, ...]
    readiness: tuple[Ticked, ...]
    drills: tuple[DrillState, ...] = ()
    drill_reasons: tuple[Reason, ...] = ()
    """Drills that are late: like any promise that is missed they decide the verdict."""
    runs: int
    unfinished: int


def scorecard(runs: Sequence[Past], catalog: Catalog, *, now: datetime) -> Scorecard:
    """The scorecard of all of a catalog's services, from the runs of a ledger in any order."""
    old_first = sorted(runs, key=lambda each: each.begun_at)
    scores = {
        name: _resource(name, resource, catalog, [each for each in old_first if each.resource == name], now)
        for name, resource in catalog.resources.items()
    }
    services = tuple(
        ServiceScore(
            service=name,
            verdict=worst([scores[each].verdict for each in service.resources]),
            resources=service.resources,
        )
        for name, service in catalog.services.items()
    )
    proofs = [(name, state) for name, score in scores.items() for state in score.proofs]
    drilled = drills(catalog.operations.drills, old_first, now=now)
    late = reasons_of_drills(drilled)
    return Scorecard(
        at=now,
        verdict=worst([*(each.verdict for each in services), *(Verdict.MISSED for _ in late)]),
        services=services,
        resources=tuple(scores.values()),
        faults=faults(proofs_of(old_first)),
        readiness=readiness(catalog.operations.checklist, proofs),
        drills=drilled,
        drill_reasons=late,
        runs=len(old_first),
        unfinished=sum(not each.outcome for each in old_first),
    )


def proofs_of(runs: Sequence[Past]) -> list[Proof]:
    """The documents of the proofs among the runs, in their order."""
    return [proof for each in runs if (proof := proof_of(each)) is not None]


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """Missed beats unproven beats met; of nothing: unproven."""
    return next(
        (each for each in (Verdict.MISSED, Verdict.UNPROVEN, Verdict.MET) if each in verdicts), Verdict.UNPROVEN
    )


def series(name: str, samples: Sequence[Sample]) -> Series:
    """The figure's series with its percentiles and its trend."""
    values = [each.seconds for each in samples]
    trend, why = _trend(values)
    return Series(
        name=name,
        samples=tuple(samples),
        newest_seconds=values[-1] if values else None,
        p50_seconds=percentile(values, 0.5),
        p95_seconds=percentile(values, 0.95),
        trend=trend,
        why=why,
    )


def _trend(values: Sequence[float]) -> tuple[Literal["steady", "regressed", "too few"], str]:
    """Regressed: above REGRESSED times the median of those before, and beyond their noise (three median deviations)."""
    before = list(values[:-1])[-COMPARED:]
    if len(before) < LEAST:
        return "too few", f"{len(before)} before the newest; a trend needs {LEAST}"
    median = percentile(before, 0.5) or 0.0
    noise = percentile([abs(each - median) for each in before], 0.5) or 0.0
    said = f"{values[-1]:.2f} s, the median of the {len(before)} before is {median:.2f} s"
    if values[-1] > REGRESSED * median and values[-1] > median + 3 * noise:
        return "regressed", said
    return "steady", said


def _resource(
    name: str, resource: PostgresResource, catalog: Catalog, runs: Sequence[Past], now: datetime
) -> ResourceScore:
    objective = catalog.objectives[resource.objective]
    backups = backups_of(runs)
    made = proofs_of(runs)
    plain = [each for each in made if each.planted is None]
    checked = [each for each in plain if any(phase.name == "check" for phase in each.phases)]
    states = standing.proof_states(plain, objective, now=now)
    duties = standing.duties(
        catalog.backups[resource.backup],
        catalog.proofs[resource.proof],
        [(each.kind, each.begun_at) for each in backups],
        marked_at(runs),
        runs,
        now=now,
    )
    slipped = standing.reasons_of_duties([standing.state_of(each, now=now) for each in duties])
    reasons = (*standing.reasons_of_proofs(states, objective), *slipped, *standing.reasons_of_faults(made))
    return ResourceScore(
        resource=name,
        service=next((each for each, service in catalog.services.items() if name in service.resources), ""),
        objective=objective,
        verdict=standing.verdict_of(reasons),
        reasons=reasons,
        proofs=states,
        rpo=series("RPO, latest", [_sample(p, p.rpo_seconds) for p in checked if p.rpo_seconds is not None]),
        rto=tuple(
            series(f"RTO, {sort}", [_sample(p, p.rto_seconds) for p in checked if p.sort == sort])
            for sort in dict.fromkeys((*standing.SORTS, *(p.sort for p in checked)))
        ),
        forecast=_forecast(checked),
        punctuality=tuple(_punctuality(each, now) for each in duties),
        slipped=on_record(runs).slots[-SHOWN_SLOTS:],
        backups=backups,
    )


def _sample(proof: Proof, seconds: float) -> Sample:
    return Sample(at=proof.ended_at, seconds=seconds, run=proof.run)


def _forecast(checked: Sequence[Proof]) -> Forecast:
    values = [each.rto_seconds for each in checked[-FORECAST_FROM:]]
    return Forecast(p50_seconds=percentile(values, 0.5), p95_seconds=percentile(values, 0.95), proofs=len(values))


def _punctuality(duty: due.Duty, now: datetime) -> Punctuality:
    found = () if duty.since is None else due.kept(duty.schedule, duty.done, since=duty.since, now=now)
    scores = [
        SlotScore(slot=each.slot, state=each.kind if isinstance(each, Slip) else each.state) for each in found
    ]  # fmt: skip
    counted = {state: sum(each.state == state for each in scores) for state in ("kept", "late", "missed")}
    return Punctuality(what=duty.what, slots=tuple(scores[-SHOWN_SLOTS:]), **counted)


def backups_of(runs: Sequence[Past]) -> tuple[BackupScore, ...]:
    """The backups among the runs that ended well, in their order."""
    found: list[BackupScore] = []
    for each in runs:
        said = each.said
        if said is None or said.kind != "backup" or each.outcome != Verdict.MET.value:
            continue
        facts = said.facts
        found.append(
            BackupScore(
                run=each.run,
                id=str(facts.get("id", "")),
                kind=str(facts.get("kind", "")),
                begun_at=each.begun_at,
                taken_seconds=said.measures.get("seconds", 0.0),
                size_bytes=_whole(facts.get("size_bytes")),
                stored_bytes=_whole(facts.get("stored_bytes")),
            )
        )
    return tuple(found)


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 0
