"""Whose consent a run goes by: what those who admitted it accepted, and what people added in mid-run, from its records.

Separate from acting.py, which drives the run: here is only what its verbs may read of it.
"""

from __future__ import annotations

from datetime import datetime

from pydantic import JsonValue

from recovery.admission import Consents, Start
from recovery.approval import FORM, Admitted, Asked, admitted
from recovery.evidence import Record
from recovery.hazard import Acceptance, Hazard, agreed
from recovery.journal import RUN_BEGUN
from recovery.plan import Plan
from tasks.stage import Consented


def accepted(start: Start, consents: Consents) -> list[Acceptance]:
    """What those who admitted the run accepted, as many of them as have to consent."""
    wanted = max(1, consents.policy.n_of_m)
    mine = [each.approval for each in consents.given if each.approval.id in start.spends]
    given = agreed([each.accepted for each in mine if each.who != FORM or wanted == 1], wanted)
    standing = [each.approval.accepted for each in consents.standing if each.approval.id == start.standing]
    return list(dict.fromkeys(one for accepted in (given, *standing) for one in accepted))


def accepts(plan: Plan, consents: Consents, klass: str, now: datetime) -> bool:
    """Whether those whose consent could start the plan accept that class, whatever else is not seen yet: its other
    hazards, and a standing approval's conditions."""
    waited = {probe for each in consents.standing for probe in each.approval.conditions}
    asked = Asked(
        digest=plan.digest,
        epoch=plan.epoch,
        runbook=plan.runbook,
        service=plan.service,
        mode=plan.mode,
        hazards=(Hazard(id=klass, klass=klass),),
        failing_seconds=dict.fromkeys(waited, float("inf")),
    )
    answer = admitted(
        asked,
        consents.given,
        consents.policy,
        spent=consents.spent or {},
        now=now,
        cancelled=consents.cancelled,
        standing=consents.standing,
    )
    return isinstance(answer, Admitted)


def consented(records: tuple[Record, ...]) -> Consented:
    """Who consented, and to what: the run's first record, and what people ordered in mid-run."""
    by: tuple[str, ...] = ()
    standing = ""
    accepted: list[Acceptance] = []
    for record in records:
        if record.kind == RUN_BEGUN and isinstance(consent := record.facts.get("consent"), dict):
            names = consent.get("by")
            by = tuple(str(each) for each in names) if isinstance(names, list) else ()
            standing = str(consent.get("standing") or "")
            accepted += _acceptances(consent.get("accepted"))
        elif record.kind.startswith("order."):
            accepted += _acceptances(record.facts.get("accepted"))
    return Consented(by=by, accepted=tuple(accepted), standing=standing)


def _acceptances(found: JsonValue) -> list[Acceptance]:
    return [Acceptance.model_validate(each) for each in found] if isinstance(found, list) else []
