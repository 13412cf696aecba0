"""What people said of a plan, as it is told again: its approvals with their state, and the orders that its run got.

Separate from approving.py, which decides by the same documents: here nothing is decided, and whatever lies there is
told, also what counts for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pydantic import JsonValue

from recovery.accepting import words
from recovery.admission import Consents
from recovery.approval import Given
from recovery.evidence import Record
from recovery.plan import Plan
from tasks import approving
from tasks.home import Home
from tasks.orders_of_people import fate, read

Told = dict[str, JsonValue]


def approvals(home: Home, plan: Plan) -> list[Told]:
    """Every approval of the plan, oldest first. Raises what the ledger raises."""
    found = approving.consents(home, plan)
    given = sorted(found.given, key=lambda each: each.approval.made_at)
    told = [_approval(each, found, home.now()) for each in given]
    unreadable: list[Told] = [{"state": "unreadable", "why": each} for each in found.troubles]
    return told + unreadable


def orders(home: Home, plan: Plan, records: Sequence[Record]) -> list[Told]:
    """Every order that was given to the plan's run, with what became of it."""
    told: list[Told] = []
    for key, said in read(home.ledger(), plan.run):
        if isinstance(said, str):
            told.append({"state": "unreadable", "why": said, "evidence": key})
            continue
        order = said.order
        became = fate(records, order.id)
        plain = order.model_dump(mode="json")
        told.append(
            {
                "order": order.id,
                "what": order.words,
                "who": order.who,
                "given_at": plain["made_at"],
                "accepted": [words(each) for each in order.accepted],
                "state": "waiting" if became is None else "taken" if became == "taken" else "refused",
                "why": "" if became in (None, "taken") else became,
                "evidence": key,
            }
        )
    return told


def _approval(given: Given, found: Consents, now: datetime) -> Told:
    approval = given.approval
    plain = approval.model_dump(mode="json")
    return {
        "approval": approval.id,
        "who": approval.who,
        "accepted": [words(each) for each in approval.accepted],
        "variant": approval.variant.value,
        "made_at": plain["made_at"],
        "expires_at": plain["expires_at"],
        "state": _state(given, found, now),
    }


def _state(given: Given, found: Consents, now: datetime) -> str:
    approval = given.approval
    key = approval.signature.key if approval.signature is not None else ""
    if not given.valid:
        return "forged"
    if found.policy.listed.get(key) != approval.who:
        return "not listed"
    if (run := (found.spent or {}).get(approval.id)) is not None:
        return "spent" if run == approval.digest else f"spent by run {run[:12]}"
    if approval.id in found.cancelled:
        return "cancelled"
    return "expired" if now >= approval.expires_at else "valid"
