"""May this plan run now? Start it, resume it, only report it, or refuse: PLAN.md's answer, from values. Pure.

Separate from approvals (who consented) and from planning: here both meet what is seen at the act. The order matters: a
finished run only reports, whatever the world says now; nothing is touched before every question has an answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import assert_never

from recovery.approval import FORM, Admitted, Asked, ConsentPolicy, Given, GivenStanding, Missing, admitted
from recovery.begun import Begun
from recovery.errors import Refused
from recovery.failover import lease_of, refuse_beyond_limits
from recovery.hazard import Acceptance, Hazard, agreed, within
from recovery.observation import Observation
from recovery.plan import NothingToDo, Plan
from recovery.rules import RULES, one_run


@dataclass(frozen=True, kw_only=True, slots=True)
class RunState:
    """What the ledger knows of the plan's only run. `begun`: what its first record claims. `cancelled`: people ordered
    its end, which is not there yet."""

    begun: Begun | None = None
    outcome: str | None = None
    cancelled: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Consents:
    """What people said, as it was found: approvals of this plan, standing ones, what was spent and taken back."""

    policy: ConsentPolicy
    given: Sequence[Given] = ()
    standing: Sequence[GivenStanding] = ()
    spent: Mapping[str, str] | None = None
    cancelled: Mapping[str, datetime] = field(default_factory=dict)
    """Approval → when it was taken back first."""
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
    """Go on with the run where it stopped; one that is cancelled in another epoch has only its end left. `spends`: what
    the run spends now, where only its claim said that it did."""

    spends: tuple[str, ...] = ()


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
    (None when a run is resumed that an engine vouches for: the world is then half changed). `found`: its hazards now.
    Raises Refused."""
    if state.outcome is not None:
        return Report(outcome=state.outcome)
    for lease in sorted({lease_of(stored), stored.service}):  # a drill waits for a real run, never the other way round
        one_run(seen.running.get(lease), stored.digest)
    if stored.epoch != seen.epoch and not (state.begun is not None and state.cancelled):
        named = stored.run[:12]
        way = f"; end this run with 'dr run cancel {named} --as NAME' and then 'dr act {named}'"
        end = way if state.begun is not None else ""
        raise Refused(
            f"{RULES[8].cited}: the plan was made in epoch {stored.epoch} of {stored.service}, which is in epoch"
            f" {seen.epoch}: its roles have changed",
            hint=f"make a new plan with 'dr plan' and have that one approved{end}",
        )
    if state.begun is not None:
        if stored.epoch != seen.epoch:  # only its end is put on record
            return Resume()
        _refuse_unfounded(stored, state.begun, seen, consents, now)
        return Resume() if state.begun.vouched else _unvouched(stored, derived, seen, found, consents, now)
    return _start(stored, derived, seen, found, consents, now)


def _start(
    stored: Plan,
    derived: Plan | NothingToDo | None,
    seen: Observation,
    found: tuple[Hazard, ...],
    consents: Consents,
    now: datetime,
) -> Start:
    """Raises Refused where the plan may not be begun now."""
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


def _unvouched(
    stored: Plan,
    derived: Plan | NothingToDo | None,
    seen: Observation,
    found: tuple[Hazard, ...],
    consents: Consents,
    now: datetime,
) -> Resume:
    """A beginning that no known engine signed may be anybody's, who thereby passed all that a start is asked: so it is
    asked now. Raises Refused."""
    short = stored.run[:12]
    try:
        start = _start(stored, derived, seen, found, consents, now)
    except Refused as refusal:
        raise Refused(
            f"run {short} is not gone on with: its first record is signed by no engine that is known here, and the plan"
            f" could not be begun now: {refusal.fact}",
            hint="nothing was touched; where it is an engine of yours, put its public key into HOME/keys as"
            f" engine-NAME.pub; else somebody wrote into the ledger ('dr show {short}'): make a new plan: 'dr plan'",
        ) from None
    return Resume(spends=start.spends)


def _refuse_unfounded(stored: Plan, begun: Begun, seen: Observation, consents: Consents, now: datetime) -> None:
    """Raises Refused where the consent that a run's first record claims was not given: whoever writes to the ledger's
    bucket can write that record. Where an engine vouches for it, that is asked as of the run's beginning, since half a
    change is no safe place: what has expired or was taken back since then stands, and the world is not asked anew."""
    why = begun.trouble or _unfounded(stored, begun, seen, consents, begun.at if begun.vouched else now)
    if not why:
        return
    short = stored.run[:12]
    raise Refused(
        f"run {short} is not gone on with: its first record is not what people signed: {why}",
        hint=f"nothing was touched; see 'dr evidence verify --run {short}'. Where people did consent, bring what they"
        f" signed to the ledger ('dr evidence sync') or let them sign again ('dr approve {short} --as NAME'); else"
        " somebody wrote into the ledger: make a new plan with 'dr plan'",
    )


def _unfounded(stored: Plan, begun: Begun, seen: Observation, consents: Consents, as_of: datetime) -> str:
    """What of the claim nobody signed; nothing where it is all founded."""
    if not stored.live:
        return "it accepts hazards of scratch, which nobody was asked for" if begun.accepted else ""
    named = [each for each in consents.standing if each.approval.id == begun.standing]
    met = {probe: float("inf") for each in named for probe in each.approval.conditions}
    asked = _of(stored, (), met if begun.vouched else seen.failing())
    consent = admitted(
        asked,
        sorted(consents.given, key=lambda each: each.approval.id not in begun.spends),
        consents.policy,
        spent=consents.spent or {},
        now=as_of,
        cancelled=[each for each, at in consents.cancelled.items() if at <= as_of],
        standing=named,
    )
    if isinstance(consent, Missing):
        return "; ".join((*consent.why, *consents.troubles))
    if strangers := sorted(set(begun.by) - set(consent.by)):
        return f"nothing signed says that {', '.join(strangers)} consented"
    given = accepted(Start(by=consent.by, spends=consent.spends, standing=consent.standing), consents)
    if beyond := [each for each in begun.accepted if not any(within(each, one) for one in given)]:
        return f"nobody accepted {', '.join(_told(each) for each in beyond)}"
    left = [each for each in begun.hazards if not any(_covers(one, each) for one in begun.accepted)]
    return f"it begins with {', '.join(each.words for each in left)}, which nobody accepted" if left else ""


def _covers(accepted: Acceptance, hazard: Hazard) -> bool:
    """As Acceptance.covers, of a hazard that was read from its words, where figures are rounded."""
    limit = None if accepted.limit is None else float(f"{accepted.limit:g}")
    return accepted.but(limit=limit).covers(hazard)


def _told(accepted: Acceptance) -> str:
    return Hazard(id=accepted.klass, klass=accepted.klass, figure=accepted.limit, unit=accepted.unit).words


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
    return admitted(
        _of(plan, found, failing_seconds),
        consents.given,
        consents.policy,
        spent=consents.spent or {},
        now=now,
        cancelled=consents.cancelled,
        standing=consents.standing,
    )


def _of(plan: Plan, found: tuple[Hazard, ...], failing_seconds: Mapping[str, float]) -> Asked:
    return Asked(
        digest=plan.digest,
        epoch=plan.epoch,
        runbook=plan.runbook,
        service=plan.service,
        mode=plan.mode,
        to=str(plan.pinned.get("to", "")),
        hazards=found,
        failing_seconds=failing_seconds,
    )
