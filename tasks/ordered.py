"""Before a run is taken up: what it has on record as people's orders, against the documents that people signed.

Separate from orders_of_people.py, which takes orders in while a run is driven, and from recovery/ordered.py, which
decides: here are the documents, the keys of this home, and the signature that an engine puts on an order's record.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from recovery.begun import voucher
from recovery.evidence import Record
from recovery.failover import rpo_seconds
from recovery.hazards import hazards
from recovery.journal import RUN_BEGUN
from recovery.observation import Observation
from recovery.ordered import by_id, refuse_unfounded, unfounded, vouched_bytes
from recovery.plan import Plan
from recovery.step import Mode
from tasks.beginning import engines, vouches
from tasks.home import Home
from tasks.ledger_mirrored import silent_of
from tasks.orders_of_people import read, rights_of

CLAIMS = ("order.", RUN_BEGUN)
"""The kinds behind a run's first record that speak for people."""


def hold(home: Home, plan: Plan, records: Sequence[Record], seen: Observation) -> None:
    """Raises Refused where a record of an order is not what people signed. `seen`: the world now."""
    if not any(each.kind.startswith(CLAIMS) for each in records[1:]):
        return
    vouched = {place for place, each in enumerate(records) if each.kind.startswith("order.") and _vouched(home, each)}
    found = by_id(said for _, said in read(home.ledger(), plan.run))
    rights = rights_of(home, plan)
    keys = [each.order.signature.key for each in found.values() if each.order.signature is not None]
    rights = replace(rights, engine=engines(home, [each for each in keys if each not in rights.policy.listed])[0])
    danger = hazards(plan, seen, rpo_seconds=rpo_seconds(home.catalog), mode=Mode.UNGRACEFUL)
    if why := unfounded(plan, records, found, rights, hazards=danger, vouched=vouched):
        refuse_unfounded(plan, why, silent_of(home.ledger()))


def _vouched(home: Home, record: Record) -> bool:
    signed = voucher(record)
    body = vouched_bytes(record.run, record.kind, record.begin, record.facts)
    return signed is not None and vouches(home, signed, body)
