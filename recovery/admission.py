"""May this plan run now? Start it, resume it, only report it, or refuse: PLAN.md's answer, from values. Pure.

Separate from approvals (who consented) and from planning: here both meet what is seen at the act. The order matters: a
finished run only reports, whatever the world says now; nothing is touched before every question has an answer.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import assert_never

from recovery.approval import FORM, Admitted, Asked, ConsentPolicy, Given, GivenStanding, Missing, admitted
from recovery.errors import Refused
from recovery.failover import lease_of, refuse_beyond_limits
from recovery.hazard import Acceptance, Hazard, agreed
from recovery.observation import Observation
from recovery.plan import NothingToDo, Plan
from recovery.rules import RULES, one_run


@dataclass(frozen=True, kw_only=True, slots=True)
class RunState:
    """What the ledger knows of the plan's only run. `cancelled`: people ordered its end, which is not there yet."""

    begun: bool = False
    outcome: str | None = None
    cancelled: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Consents:
    """What people said, as it was found: approvals of this plan, standing ones, what was spent and taken back."""

    policy: ConsentPolicy
    given: Sequence[Given] = ()
    standing: Sequence[GivenStanding] = ()
    spent: Mapping[str, str] | None = None
    cancelled: Collection[str] = ()
    troubles: Sequence[str] = ()
    """Documents that could not be read or count for nothing: no consent, but said when consent is missing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """Begin the run: these consented, and these approvals are spent by it."""

    by: tuple[str, ...]
    spends: tuple[str, ...]
    standing: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Resume:
    """Go on with the run where it stopped; one that is cancelled in another epoch has only its end left."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """The run has ended: nothing is done again."""

    outcome: str


Admission = Start | Resume | Report


def admit(
    stored: Plan,
    derived: Plan | NothingToDo | None,
    seen: Observation,
    found: tuple[Hazard, ...],
    *,
    state: RunState,
    consents: Consents,
    now: datetime,
) -> Admission:
    """The answer to `dr act DIGEST`. `derived`: the plan made again from the stored one's inputs and what is seen now
    (None when it is resumed: the world is then half changed). `found`: its hazards now. Raises Refused."""
    if state.outcome is not None:
        return Report(outcome=state.outcome)
    for lease in sorted({lease_of(stored), stored.service}):  # a drill waits for a real run, never the other way round
        one_run(seen.running.get(lease), stored.digest)
    if stored.epoch != seen.epoch and not (state.begun and state.cancelled):
        named = stored.run[:12]
        end = f"; end this run with 'dr run cancel {named} --as NAME' and then 'dr act {named}'" if state.begun else ""
        raise Refused(
            f"{RULES[8].cited}: the plan was made in epoch {stored.epoch} of {stored.service}, which is in epoch"
            f" {seen.epoch}: its roles have changed",
            hint=f"make a new plan with 'dr plan' and have that one approved{end}",
        )
    if state.begun:
        return Resume()
    _same(stored, derived)
    refuse_beyond_limits(stored, found)
    match _consent(stored, seen, found, consents, now):
        case Admitted() as consent:
            return Start(by=consent.by, spends=consent.spends, standing=consent.standing)
        case Missing(why=why):
            raise Refused(
                f"plan {stored.digest[:12]} is not approved: {'; '.join((*why, *consents.troubles))}",
                hint=f"approve it with 'dr approve {stored.digest[:12]} --as NAME --accept HAZARD'",
            )
        case unreachable:
            assert_never(unreachable)


def _same(stored: Plan, derived: Plan | NothingToDo | None) -> None:
    if isinstance(derived, Plan) and derived.digest == stored.digest:
        return
    why = derived.why if isinstance(derived, NothingToDo) else "made again from what is seen now, it is another plan"
    changed = _changes(stored, derived) if isinstance(derived, Plan) else ""
    raise Refused(
        f"plan {stored.digest[:12]} no longer holds: {why}{changed}",
        hint="make a new plan with 'dr plan' and have that one approved",
    )


def _changes(stored: Plan, derived: Plan) -> str:
    """What differs, by name."""
    pinned = sorted({*stored.pinned, *derived.pinned})
    named = [name for name in pinned if stored.pinned.get(name) != derived.pinned.get(name)]
    if stored.steps != derived.steps:
        named.append("steps")
    return f" ({', '.join(named)} changed)" if named else ""


def accepted(start: Start, consents: Consents) -> list[Acceptance]:
    """What those who admitted the run accepted, as many of them as have to consent."""
    wanted = max(1, consents.policy.n_of_m)
    mine = [each.approval for each in consents.given if each.approval.id in start.spends]
    given = agreed([each.accepted for each in mine if each.who != FORM or wanted == 1], wanted)
    standing = [each.approval.accepted for each in consents.standing if each.approval.id == start.standing]
    return list(dict.fromkeys(one for each in (given, *standing) for one in each))


def accepts(plan: Plan, consents: Consents, klass: str, now: datetime) -> bool:
    """Whether those whose consent could start the plan accept that class, whatever else is not seen yet: its other
    hazards, and a standing approval's conditions."""
    waited = {probe for each in consents.standing for probe in each.approval.conditions}
    failing = dict.fromkeys(waited, float("inf"))
    return isinstance(_asked(plan, (Hazard(id=klass, klass=klass),), failing, consents, now), Admitted)


def _consent(
    stored: Plan, seen: Observation, found: tuple[Hazard, ...], consents: Consents, now: datetime
) -> Admitted | Missing:
    """Making and ending our own scratch is admitted by policy; live things need people (HOUSE, law 6)."""
    if not stored.live:
        return Admitted(by=("policy",), spends=())
    return _asked(stored, found, seen.failing(), consents, now)


def _asked(
    plan: Plan, found: tuple[Hazard, ...], failing_seconds: Mapping[str, float], consents: Consents, now: datetime
) -> Admitted | Missing:
    asked = Asked(
        digest=plan.digest,
        epoch=plan.epoch,
        runbook=plan.runbook,
        service=plan.service,
        mode=plan.mode,
        hazards=found,
        failing_seconds=failing_seconds,
    )
    return admitted(
        asked,
        consents.given,
        consents.policy,
        spent=consents.spent or {},
        now=now,
        cancelled=consents.cancelled,
        standing=consents.standing,
    )
