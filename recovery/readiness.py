"""The reliability checklist as a scorecard that only evidence can tick (SPEC 5.15). Pure.

Separate because it will grow with every kind of evidence that comes to be; a point without any is unproven, not open to
anybody's opinion.
"""

from __future__ import annotations

from collections.abc import Sequence

from recovery.check import Verdict
from recovery.exercise import Checklist
from recovery.standing import ProofState
from recovery.value import Value

DEFAULT = Checklist(
    infrastructure=(
        "multi-zone deployment tested",
        "replication and failover operational",
        "load balancers with health checks",
        "scaling policies tested",
        "backups validated by restore",
        "monitoring and alerting active",
        "DR procedures documented and tested",
        "capacity models validated",
    ),
    application=(
        "circuit breakers for external dependencies",
        "retries with back-off",
        "degradation modes",
        "error handling for all failure scenarios",
        "comprehensive health endpoints",
        "zero-downtime deployment validated",
        "rollback tested and automated",
        "performance under load validated",
    ),
    operations=(
        "on-call procedures tested",
        "incident playbooks",
        "escalation defined and communicated",
        "DR drills scheduled",
        "capacity monitored with alerts",
        "change management enforced",
        "post-incident review",
        "reliability metrics tracked and reported",
    ),
)
BY_RESTORE = "backups validated by restore"


class Ticked(Value):
    """One point: `met` only by evidence; `why` names it, or says what is missing."""

    group: str
    point: str
    verdict: Verdict
    why: str
    evidence: tuple[str, ...] = ()


def readiness(checklist: Checklist | None, proofs: Sequence[tuple[str, ProofState]]) -> tuple[Ticked, ...]:
    """Every point of the checklist (the default one when the catalog has none). `proofs` are (resource, state)."""
    chosen = checklist or DEFAULT
    groups = (
        ("infrastructure", chosen.infrastructure),
        ("application", chosen.application),
        ("operations", chosen.operations),
    )
    return tuple(_ticked(group, point, proofs) for group, points in groups for point in points)


def _ticked(group: str, point: str, proofs: Sequence[tuple[str, ProofState]]) -> Ticked:
    if point != BY_RESTORE:
        return Ticked(group=group, point=point, verdict=Verdict.UNPROVEN, why="no evidence of this kind exists yet")
    missed = [f"{name} ({state.sort})" for name, state in proofs if state.verdict is Verdict.MISSED]
    lacking = [
        f"{name} ({state.sort}: {state.state if state.state != 'fresh' else state.verdict.value})"
        for name, state in proofs
        if state.verdict is Verdict.UNPROVEN or state.state != "fresh"
    ]
    runs = tuple(state.run for _, state in proofs if state.run)
    if missed:
        verdict, why = Verdict.MISSED, f"the newest proof is missed: {', '.join(missed)}"
    elif lacking or not proofs:
        verdict, why = Verdict.UNPROVEN, f"no fresh proof: {', '.join(lacking) or 'the catalog has no resource'}"
    else:
        verdict, why = Verdict.MET, f"{len(runs)} fresh proofs, each restored and checked"
    return Ticked(group=group, point=point, verdict=verdict, why=why, evidence=runs)
