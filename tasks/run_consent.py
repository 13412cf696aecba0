"""Whose consent a run goes by, from its records: of those who admitted it, and of people who ordered in mid-run.

Separate from acting.py, which drives the run: here is only what its verbs may read of it.
"""

from __future__ import annotations

from pydantic import JsonValue

from recovery.evidence import Record
from recovery.hazard import Acceptance
from recovery.journal import RUN_BEGUN
from recovery.orders import KINDS
from tasks.stage import Consented

ORDERS = frozenset(KINDS.values())
"""What people ordered and was taken: a refusal accepts nothing."""


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
        elif record.kind in ORDERS:
            accepted += _acceptances(record.facts.get("accepted"))
    return Consented(by=by, accepted=tuple(accepted), standing=standing)


def _acceptances(found: JsonValue) -> list[Acceptance]:
    return [Acceptance.model_validate(each) for each in found] if isinstance(found, list) else []
