"""The outcome of a change of roles, from its plan and its records alone: what `dr act --json` ends with. Pure.

Separate from the proof's document, which speaks of a restored copy: here a service moved, and what it cost is told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from pydantic import JsonValue, SerializerFunctionWrapHandler, model_serializer, model_validator

from recovery.check import Verdict
from recovery.course import Moment, course
from recovery.drive import Halt, History
from recovery.evidence import Record
from recovery.journal import BEGUN, ENDED, STEP_KEPT, STEP_UNDONE, history, results
from recovery.measure import Phase
from recovery.objective import Objective
from recovery.outage import over_by
from recovery.plan import Plan
from recovery.rto import Rto, rto
from recovery.step import Mode
from recovery.value import Instant, Value, in_utc


class Stopped(Value):
    """Why a run stands still: it is not ended. `spent`: the step has no try left, and acting again changes nothing
    until somebody orders one. `paused`: until somebody orders it on."""

    step: str
    why: str
    hint: str
    unproven: bool = False
    spent: bool = False
    paused: bool = False

    def going_on(self, run: str) -> tuple[str, ...]:
        """The commands that go on with it, in their order."""
        named = run[:12]
        order = f"dr run retry {named} {self.step} --as NAME" if self.spent else f"dr run resume {named} --as NAME"
        return (*((order,) if self.spent or self.paused else ()), f"dr resume {named}")


def _renamed(read: Any) -> Any:
    """A document of before the number of the database's timeline had its standard name."""
    if not isinstance(read, dict) or "timeline" not in read or not isinstance(read["timeline"], int | None):
        return read
    return {"timeline_id": read["timeline"], **{name: each for name, each in read.items() if name != "timeline"}}


class Promoted(Value):
    """A database that changed its primary. `lsn`: where the new timeline branched off. `rpo_seconds`: None is unproven;
    it is a bound from above, since what had not arrived is not known until the old data is read."""

    database: str
    system_id: str = ""
    timeline_id: int | None = None
    lsn: int | None = None
    recovered_until: Instant | None = None
    rpo_seconds: float | None = None

    _before = model_validator(mode="before")(_renamed)


class Changed(Value):
    """What came of it. `outcome` is a verdict, or `cancelled`. `lost_commits` counts those that were listed.
    `timeline_id` is the database's, of the first that was promoted. `timeline` is the run's course; None where the
    document is a record of the run itself, in whose chain it stands."""

    run: str
    runbook: str
    service: str
    source: str
    target: str
    mode: Mode
    outcome: str
    rto_seconds: float | None
    rto_segments: dict[str, float | Literal["unproven"]]
    rto_steps: tuple[Phase, ...]
    rpo_seconds: float | None
    lost_commits: int | Literal["unproven"]
    timeline_id: int | None
    epoch: int
    databases: tuple[Promoted, ...]
    outage_began_at: Instant | None
    served_at: Instant | None
    consent: tuple[str, ...]
    stopped: Stopped | None = None
    live: bool = True
    """Whether it changed what users live on; a rehearsal and a restore did not."""
    copies: dict[str, str] = {}
    """Database → the folder of a restored copy that was kept."""
    findings: tuple[str, ...] = ()
    timeline: tuple[Moment, ...] | None = None

    _before = model_validator(mode="before")(_renamed)

    @model_serializer(mode="wrap")
    def _told(self, plain: SerializerFunctionWrapHandler) -> dict[str, JsonValue]:
        found: dict[str, JsonValue] = plain(self)
        return {name: each for name, each in found.items() if name != "timeline" or each is not None}


def changed(plan: Plan, records: Sequence[Record], objectives: Mapping[str, Objective], halt: Halt | None) -> Changed:
    """The document of a run as far as it went. `objectives`: each database's. `halt`: why it stands still."""
    told = history(records)
    mode = told.mode(plan.mode)
    measured = rto(plan, records)
    found = results(records)
    databases = tuple(_promoted(plan, records, found, over_by(plan, records), mode))
    worst = [each.rpo_seconds for each in databases]
    rpo = None if not worst or None in worst else max(each for each in worst if each is not None)
    why = (f"cancelled: {told.cancelled}",) if told.cancelled else ()
    findings = (*why, *_findings(measured, objectives, databases), *_given_back(records))
    return Changed(
        run=plan.run,
        runbook=plan.runbook,
        service=plan.service,
        source=str(plan.pinned["from"]),
        target=str(plan.pinned["to"]),
        mode=mode,
        outcome=_outcome(told.cancelled, halt, measured, rpo, objectives, databases, findings),
        rto_seconds=measured.seconds,
        rto_segments={name: "unproven" if each is None else each for name, each in measured.segments.items()},
        rto_steps=measured.steps,
        rpo_seconds=rpo,
        lost_commits=_lost(plan, found, databases, mode, told),
        timeline_id=next((each.timeline_id for each in databases), None),
        epoch=plan.epoch + 1 if databases and plan.live else plan.epoch,
        databases=databases,
        outage_began_at=measured.begin,
        served_at=measured.end,
        consent=_consent(records),
        stopped=None if told.cancelled else _stopped(halt, paused=bool(told.paused)),
        live=plan.live,
        copies=_copies(plan, found),
        findings=findings,
        timeline=course(plan, records),
    )


def _promoted(
    plan: Plan,
    records: Sequence[Record],
    found: Mapping[str, JsonValue],
    over: datetime | None,
    mode: Mode,
) -> list[Promoted]:
    """The databases whose promotion was reached. `over`: the latest instant of a commit at the old site."""
    ended = {str(each.facts.get("step")) for each in records if each.kind == ENDED}
    made: list[Promoted] = []
    for step in plan.steps:
        told = found.get(step.id)
        if step.verb != "promote" or step.id not in ended or not isinstance(told, dict):
            continue
        until = told.get("recovered_until")
        recovered = in_utc(datetime.fromisoformat(until)) if isinstance(until, str) else None
        rpo = None if over is None or recovered is None else max(0.0, (over - recovered).total_seconds())
        lsn, timeline = told.get("lsn"), told.get("timeline")
        made.append(
            Promoted(
                database=step.resource,
                system_id=str(told.get("system_id") or ""),
                timeline_id=timeline if isinstance(timeline, int) else None,
                lsn=lsn if isinstance(lsn, int) else None,
                recovered_until=recovered,
                rpo_seconds=0.0 if _lossless(plan, found, step.resource, mode) else rpo,
            )
        )
    return made


def _lossless(plan: Plan, found: Mapping[str, JsonValue], database: str, mode: Mode) -> bool:
    """Graceful: the old primary stopped at an LSN that the new one had reached, which `promote` compared."""
    if mode is not Mode.GRACEFUL:
        return False
    demoted = [step.id for step in plan.steps if step.verb == "demote" and step.resource == database]
    told = found.get(demoted[0]) if demoted else None
    return isinstance(told, dict) and isinstance(told.get("lsn"), int)


def _lost(
    plan: Plan, found: Mapping[str, JsonValue], databases: Sequence[Promoted], mode: Mode, told: History
) -> int | Literal["unproven"]:
    if databases and all(_lossless(plan, found, each.database, mode) for each in databases):
        return 0
    if not plan.live:
        return 0  # a drill promotes a copy: nothing that was live is given up
    if told.cancelled and not any(told.of(step.id).begun for step in plan.steps if step.verb == "promote"):
        return 0  # and a run that was cancelled before any promotion gave nothing up
    return "unproven"


def _findings(measured: Rto, objectives: Mapping[str, Objective], databases: Sequence[Promoted]) -> list[str]:
    """What was promised and not kept, in words; what could not be measured, too."""
    said: list[str] = []
    promised = min((each.rto.total_seconds() for each in objectives.values()), default=None)
    if measured.why:
        said.append(measured.why)
    if promised is not None and measured.seconds is not None and measured.seconds > promised:
        said.append(f"RTO is {measured.seconds:.1f} s of {promised:g} s")
    for each in databases:
        objective = objectives.get(each.database)
        if objective is None:
            continue
        if each.rpo_seconds is None:
            said.append(f"nothing says up to when commits of {each.database} came back")
        elif each.rpo_seconds > objective.rpo.total_seconds():
            said.append(f"RPO of {each.database} is {each.rpo_seconds:.1f} s of {objective.rpo.total_seconds():g} s")
    return said


def _copies(plan: Plan, found: Mapping[str, JsonValue]) -> dict[str, str]:
    told = {step.resource: found.get(step.id) for step in plan.steps if step.verb == "restore"}
    return {name: str(each["data_dir"]) for name, each in told.items() if isinstance(each, dict) and "data_dir" in each}


def _given_back(records: Sequence[Record]) -> Iterator[str]:
    """What a cancelled run gave back, and what stays as it is, in words; each once."""
    said = [
        str(record.facts.get("kept" if record.kind == STEP_KEPT else "why") or "")
        for record in records
        if record.kind in (STEP_KEPT, STEP_UNDONE)
    ]
    yield from (each for each in dict.fromkeys(said) if each)


def _outcome(
    cancelled: str,
    halt: Halt | None,
    measured: Rto,
    rpo: float | None,
    objectives: Mapping[str, Objective],
    databases: Sequence[Promoted],
    findings: Sequence[str],
) -> str:
    if cancelled:
        return "cancelled"
    if halt is not None:
        return (Verdict.UNPROVEN if halt.unproven else Verdict.MISSED).value
    rto_promised = min((each.rto.total_seconds() for each in objectives.values()), default=None)
    over = rto_promised is not None and measured.seconds is not None and measured.seconds > rto_promised
    lost = any(
        each.rpo_seconds is not None
        and each.database in objectives
        and each.rpo_seconds > objectives[each.database].rpo.total_seconds()
        for each in databases
    )
    if over or lost:
        return Verdict.MISSED.value
    return (Verdict.UNPROVEN if findings or (databases and rpo is None) else Verdict.MET).value


def _consent(records: Sequence[Record]) -> tuple[str, ...]:
    """Who consented, as the run's first record says."""
    first = records[0].facts.get("consent") if records else None
    by = first.get("by") if isinstance(first, dict) else None
    return tuple(str(each) for each in by) if isinstance(by, list) else ()


def _stopped(halt: Halt | None, *, paused: bool) -> Stopped | None:
    if halt is None:
        return None
    return Stopped(
        step=halt.step, why=halt.why, hint=halt.hint, unproven=halt.unproven, spent=halt.spent, paused=paused
    )


def step_seconds(records: Sequence[Record]) -> dict[str, float]:
    """How long each step took from its first beginning to its last end: what forecasts are made of."""
    begun: dict[str, datetime] = {}
    for record in records:
        if record.kind == BEGUN:
            begun.setdefault(str(record.facts.get("step")), record.begin)
    ends = {str(each.facts.get("step")): each.end for each in records if each.kind == ENDED and each.end is not None}
    return {step: (end - begun[step]).total_seconds() for step, end in ends.items() if step in begun}
