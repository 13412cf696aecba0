"""A proof's document, computed from its plan and its records alone. Pure.

RTO runs from the asking to the end of the last check; discarding is after it. RPO exists for the latest moment only:
a chosen moment has a boundary check instead (TRUTH.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pydantic import JsonValue

from recovery.check import Check, Finding, Outcome, Verdict, verdict
from recovery.choose import Point
from recovery.drive import Halt
from recovery.evidence import Record
from recovery.measure import Phase, Span, partition, rpo_seconds
from recovery.objective import Objective
from recovery.plan import Plan
from recovery.planted import Planted, judged
from recovery.rates import speed
from recovery.value import Instant, Value, in_utc, rfc3339

COUNTED = ("fetch", "verify", "recover", "plant", "check")


class Proof(Value):
    """What `dr prove --json` prints for one proof."""

    resource: str
    kind: str
    sort: str
    run: str
    verdict: Verdict
    point: str
    target: str
    asked_at: Instant
    ended_at: Instant
    rpo_seconds: float | None
    rto_seconds: float
    phases: tuple[Phase, ...]
    checks: tuple[Check, ...]
    findings: tuple[Finding, ...]
    leftovers: tuple[str, ...]
    planted: Planted | None = None
    speed: dict[str, JsonValue] | None = None
    """What the next choice of a point is forecast by: recovery/rates.py reads it. None in old proofs."""


def proof(plan: Plan, kind: str, records: Sequence[Record], objective: Objective, halt: Halt | None) -> Proof:
    """The document of a run that has ended. `halt` says why it stopped before its end."""
    point = Point.model_validate(plan.pinned["point"])
    ended = {str(r.facts["step"]): r for r in records if r.kind == "step.ended"}
    spans = [
        Span(name=str(record.facts["step"]), begin=record.begin, end=record.end)
        for record in records
        if record.kind in ("step.ended", "step.failed") and record.end and record.facts["step"] in COUNTED
    ]
    end = max((span.end for span in spans), default=plan.asked_at)
    phases = partition(spans, begin=plan.asked_at, end=end, idle="decide")
    checks = [
        Check.model_validate(each) for step in ("verify", "check") for each in _list(_result(ended, step), "checks")
    ]
    if halt is not None:
        checks.append(_halted(halt))
    recovered = _result(ended, "recover")
    rpo = None
    until, bound = _until(point, recovered)
    if plan.arguments.get("sort") == "latest" and until is not None:
        rpo = rpo_seconds(asked_at=plan.asked_at, recovered_until=until)
    rto = sum(phase.seconds for phase in phases)
    if halt is None:
        checks += _promises(plan, objective, rpo, rto, bound)
    leftovers = tuple(str(each) for each in _list(_result(ended, "discard"), "leftovers"))
    findings = tuple(finding for check in checks for finding in check.findings)
    return Proof(
        resource=str(plan.arguments["resource"]),
        kind=kind,
        sort=str(plan.arguments["sort"]),
        run=plan.run,
        verdict=_verdict(checks, leftovers),
        point=" + ".join(point.backups),
        target=point.target.text(),
        asked_at=plan.asked_at,
        ended_at=end,
        rpo_seconds=rpo,
        rto_seconds=rto,
        phases=phases,
        checks=tuple(checks),
        findings=findings,
        leftovers=leftovers,
        planted=_planted(plan, _result(ended, "plant"), findings),
        speed=speed(str(plan.pinned.get("site", "")), records),
    )


def not_made(*, resource: str, kind: str, sort: str, fact: str, hint: str, now: Instant) -> Proof:
    """The document of a proof that could not even be begun: unproven, with the reason, never left out."""
    finding = Finding(check="point", fact=fact, hint=hint)
    return Proof(
        resource=resource,
        kind=kind,
        sort=sort,
        run="",
        verdict=Verdict.UNPROVEN,
        point="",
        target="",
        asked_at=now,
        ended_at=now,
        rpo_seconds=None,
        rto_seconds=0.0,
        phases=(),
        checks=(Check(name="point", outcome=Outcome.UNPROVEN, fact=fact, findings=(finding,)),),
        findings=(finding,),
        leftovers=(),
    )


def _planted(plan: Plan, told: dict[str, JsonValue], findings: Sequence[Finding]) -> Planted | None:
    """The judged fault of a proof's own test. One that could not be planted was not detected either."""
    name = plan.arguments.get("mutate")
    if not name:
        return None
    if not told:
        return Planted(name=str(name), what=f"{name} could not be planted")
    return judged(Planted.model_validate(told), findings)


def _until(point: Point, recovered: dict[str, JsonValue]) -> tuple[Instant | None, str]:
    """The instant up to which every commit came back, and what it is when it is only a bound.

    The last commit that was replayed; or, when the backup itself held all of them, the last that the archive knows
    before the place that was reached; or, on a quiet database, the instant at which the backup began."""
    replayed = recovered.get("committed_at")
    if isinstance(replayed, str):
        return _instant(replayed), ""
    if not recovered:
        return None, ""
    if point.target.at is not None or point.begun_at is None:
        return point.target.at, ""
    return point.begun_at, f", at most: no commit follows the backup, so it counts from {rfc3339(point.begun_at)}"


def _verdict(checks: Sequence[Check], leftovers: Sequence[str]) -> Verdict:
    found = verdict(checks)
    return Verdict.MISSED if leftovers else found


def _promises(plan: Plan, objective: Objective, rpo: float | None, rto: float, bound: str) -> list[Check]:
    made = [_within("rto", rto, objective.rto.total_seconds())]
    if plan.arguments.get("sort") == "latest":
        made.append(_within("rpo", rpo, objective.rpo.total_seconds(), bound))
    return made


def _within(name: str, seconds: float | None, promised: float, bound: str = "") -> Check:
    if seconds is None:
        return Check(name=name, outcome=Outcome.UNPROVEN, fact="nothing says up to when commits came back")
    fact = f"{seconds:.2f} s of {promised:g} s{bound}"
    if seconds <= promised:
        return Check(name=name, outcome=Outcome.PASSED, fact=fact)
    if bound:  # it may be less: a bound that is too large proves neither
        return Check(name=name, outcome=Outcome.UNPROVEN, fact=fact)
    finding = Finding(
        check=name, fact=f"{name.upper()} is {fact}", hint="see the phases for what took long, or renew the objective"
    )
    return Check(name=name, outcome=Outcome.FAILED, fact=fact, findings=(finding,))


def _halted(halt: Halt) -> Check:
    """A step that failed is a failure; one that could not be observed within its patience proves nothing."""
    outcome = Outcome.UNPROVEN if halt.unproven else Outcome.FAILED
    finding = Finding(check=halt.step, fact=halt.why, hint=halt.hint)
    return Check(name=halt.step, outcome=outcome, fact=halt.why, findings=(finding,))


def _result(ended: dict[str, Record], step: str) -> dict[str, JsonValue]:
    record = ended.get(step)
    found = record.facts.get("result") if record is not None else None
    return found if isinstance(found, dict) else {}


def _list(facts: dict[str, JsonValue], name: str) -> list[JsonValue]:
    found = facts.get(name)
    return found if isinstance(found, list) else []


def _instant(text: JsonValue) -> Instant:

    return in_utc(datetime.fromisoformat(str(text)))
