"""A service's epoch: how many changes of roles it has completed. Evidence, never configuration. Pure.

Separate because plans, approvals and fences all compare it, and a plan made in an older one must be refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field, JsonValue

from recovery.errors import Refused
from recovery.evidence import Record
from recovery.step import Name
from recovery.value import Instant, Value

CHANGED = "epoch.changed"


class Change(Value):
    """A completed change of roles, as it lies beside the runs (`change_key`) so that it is found without reading them.
    The record `epoch.changed` in the run's signed chain is the evidence. `steps`: step → seconds, for forecasts."""

    schema_version: Literal[1] = 1
    service: Name
    epoch: Annotated[int, Field(ge=1)]
    primary: Name
    """The site that is primary since."""
    run: str
    runbook: Name
    at: Instant
    databases: dict[Name, dict[str, JsonValue]] = {}
    """By database: system_id, timeline, lsn of the promotion."""
    steps: dict[str, float] = {}


def change_key(service: str, epoch: int) -> str:
    """Where the change that began that epoch lives in a ledger: written once."""
    return f"epochs/{service}/{epoch:08d}.json"


def epoch(records: Iterable[Record], service: str) -> int:
    """The epoch that the `epoch.changed` records of a service reach; 0 before the first. Their order doesn't matter:
    a merge of two copies of the ledger has none."""
    return max((number for record in records if (number := _number(record, service)) is not None), default=0)


def facts_of_change(now: int, **others: JsonValue) -> dict[str, JsonValue]:
    """The facts of the record that ends an epoch: from `now` to the next."""
    return {**others, "epoch": now + 1, "before": now}


def refuse_older(plan_epoch: int, now: int, service: str) -> None:
    """Raises Refused when a plan belongs to another epoch than the present one."""
    if plan_epoch != now:
        raise Refused(
            f"the plan was made in epoch {plan_epoch} of {service}, which is in epoch {now}: its roles have changed",
            hint="make a new plan with 'dr plan' and have that one approved",
        )


def _number(record: Record, service: str) -> int | None:
    if record.kind != CHANGED or record.subject != service:
        return None
    number = record.facts.get("epoch")
    return number if isinstance(number, int) and not isinstance(number, bool) and number >= 0 else None
