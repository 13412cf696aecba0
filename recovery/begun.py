"""What the first record of a run says of its beginning, and what an engine signs of that. Pure.

Separate from admission.py, which asks whether it may be gone on with: whoever can write to the ledger's bucket can
write such a record, so nothing here is more than a claim. What people signed lies beside it, and is asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from pydantic import JsonValue

from recovery.evidence import Record, Signature
from recovery.hazard import Acceptance, Hazard
from recovery.journal import RUN_BEGUN
from recovery.plan import Plan
from recovery.value import canonical, rfc3339

CONSENT, HAZARDS, SIGNED = "consent", "hazards", "signed"
_SAID = ("purpose", "arguments", CONSENT, HAZARDS, "outage_since")


@dataclass(frozen=True, kw_only=True, slots=True)
class Begun:
    """The claim: when, in whose name, by which approvals, what they accepted, and the hazards of that moment in words.

    `vouched`: an engine whose key this home believes has signed all that. `trouble`: it is no beginning of this plan.
    """

    at: datetime
    by: tuple[str, ...] = ()
    spends: tuple[str, ...] = ()
    standing: str = ""
    accepted: tuple[Acceptance, ...] = ()
    hazards: tuple[Hazard, ...] = ()
    vouched: bool = False
    trouble: str = ""


def begun(plan: Plan, record: Record, *, vouched: bool = False) -> Begun:
    """The claim of a run's first record. `vouched`: see `vouched_bytes`."""
    facts, consent = record.facts, record.facts.get(CONSENT)
    if (record.kind, record.run, record.digest) != (RUN_BEGUN, plan.run, plan.digest):
        return Begun(at=record.begin, trouble="it is not the beginning of this plan's run")
    if (facts.get("purpose"), facts.get("arguments")) != (plan.purpose, plan.arguments):
        return Begun(at=record.begin, trouble="it tells of another purpose or of other arguments than the plan")
    if not isinstance(consent, dict):
        return Begun(at=record.begin, trouble="it names nobody who consented")
    try:
        return Begun(
            at=record.begin,
            by=_words(consent.get("by")),
            spends=_words(consent.get("spends")),
            standing=str(consent.get("standing") or ""),
            accepted=tuple(Acceptance.model_validate(each) for each in _list(consent.get("accepted"))),
            hazards=tuple(_hazard(each) for each in _words(facts.get(HAZARDS))),
            vouched=vouched,
        )
    except ValueError:
        return Begun(at=record.begin, trouble="its consent or its hazards are of no known form")


def vouched_bytes(run: str, at: datetime, facts: Mapping[str, JsonValue]) -> bytes:
    """What an engine signs of a first record: the run, the instant, and all that people or measures go by."""
    return canonical({"run": run, "begun_at": rfc3339(at), **{name: facts.get(name) for name in _SAID}})


def voucher(record: Record) -> Signature | None:
    """The engine's signature in a first record; one of an older version has none."""
    try:
        return Signature.model_validate(record.facts.get(SIGNED))
    except ValueError:
        return None


def _hazard(words: str) -> Hazard:
    """A hazard as it is shown: class, figure, unit. Raises ValueError."""
    klass, *rest = words.split(" ", 2)
    figure = float(rest[0]) if rest else None
    return Hazard(id=klass, klass=klass, figure=figure, unit=rest[1] if len(rest) > 1 else "")


def _words(found: JsonValue) -> tuple[str, ...]:
    return tuple(str(each) for each in _list(found))


def _list(found: JsonValue) -> list[JsonValue]:
    if isinstance(found, list):
        return found
    raise ValueError("no list")
