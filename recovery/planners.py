"""Planners: what was asked, the catalog and what was observed in; a plan, or nothing to do, out. Pure.

They speak verbs and facts, not products: a step names `take`, `fetch`, `recover`; the resource's kind knows how.
"""

from __future__ import annotations

from datetime import datetime

from pydantic import JsonValue

from recovery.choose import Point
from recovery.plan import Plan
from recovery.step import Step

VERSION = "1"


def prove(
    *,
    service: str,
    resource: str,
    site: str,
    point: Point,
    sort: str,
    now: datetime,
    mutate: str | None = None,
    mark: str | None = None,
    level: str = "daily",
    epoch: int = 0,
) -> Plan:
    """The proof of one point: fetch into a fresh attempt, verify, recover, check, discard.

    `sort` is what was asked for: mark, latest, time or random. `mutate` plants that fault on the way. `mark` is
    TIMELINE/LSN (decimal) of the mark to compare with.
    """
    pinned: dict[str, JsonValue] = {"point": point.model_dump(mode="json"), "site": site, "mark": mark}
    planted: dict[str, JsonValue] = {"mutate": mutate} if mutate else {}
    plant = (
        (
            Step(
                id="plant",
                verb="plant",
                resource=resource,
                arguments=planted,
                needs=("recover",),
                until="discard",
                patience_seconds=300,
                tries=1,
            ),
        )
        if mutate
        else ()
    )
    checked_after = "plant" if mutate else "recover"
    return Plan(
        purpose="prove",
        runbook="prove",
        runbook_version=VERSION,
        service=service,
        epoch=epoch,
        asked_at=now,
        arguments={"resource": resource, "sort": sort, "level": level, **planted},
        pinned=pinned,
        steps=(
            Step(
                id="fetch",
                verb="fetch",
                resource=resource,
                arguments=planted,
                until="discard",
                patience_seconds=4 * 3600,
                tries=2,
                manual="print the exact commands with 'dr backup RESOURCE --explain BACKUP'",
            ),
            Step(
                id="verify",
                verb="verify",
                resource=resource,
                needs=("fetch",),
                until="discard",
                patience_seconds=3600,
                tries=1,
            ),
            Step(
                id="recover",
                verb="recover",
                resource=resource,
                needs=("verify",),
                until="discard",
                patience_seconds=4 * 3600,
                tries=1,
            ),
            *plant,
            Step(
                id="check",
                verb="check",
                resource=resource,
                arguments={"level": level},
                needs=(checked_after,),
                until="discard",
                patience_seconds=4 * 3600,
                tries=1,
            ),
            Step(
                id="discard",
                verb="discard",
                resource=resource,
                needs=("check",),
                always=True,
                patience_seconds=300,
                tries=3,
                manual="stop the scratch server, then remove its folder",
            ),
        ),
    )


def restore(*, service: str, resource: str, site: str, point: Point, into: str, now: datetime, epoch: int = 0) -> Plan:
    """A restore for keeps, into a folder that the person named; it ends stopped and consistent."""
    return Plan(
        purpose="restore",
        runbook="restore",
        runbook_version=VERSION,
        service=service,
        epoch=epoch,
        asked_at=now,
        arguments={"resource": resource, "into": into},
        pinned={"point": point.model_dump(mode="json"), "site": site, "mark": None},
        steps=(
            Step(
                id="fetch",
                verb="fetch",
                resource=resource,
                arguments={"into": into},
                until="settle",
                patience_seconds=4 * 3600,
                tries=1,
            ),
            Step(
                id="verify",
                verb="verify",
                resource=resource,
                arguments={"into": into},
                needs=("fetch",),
                until="settle",
                patience_seconds=3600,
                tries=1,
            ),
            Step(
                id="recover",
                verb="recover",
                resource=resource,
                arguments={"into": into},
                needs=("verify",),
                until="settle",
                patience_seconds=4 * 3600,
                tries=1,
            ),
            Step(
                id="settle",
                verb="settle",
                resource=resource,
                arguments={"into": into},
                needs=("recover",),
                patience_seconds=600,
                tries=1,
            ),
        ),
    )


def backup(
    *,
    service: str,
    resource: str,
    site: str,
    kind: str,
    parent: str | None,
    slot: datetime | None,
    now: datetime,
    epoch: int = 0,
) -> Plan:
    """One backup. `slot` is the schedule's instant that it keeps, None for one by hand."""
    arguments: dict[str, JsonValue] = {"kind": kind, "parent": parent}
    return Plan(
        purpose="backup",
        runbook="backup",
        runbook_version=VERSION,
        service=service,
        epoch=epoch,
        asked_at=now,
        arguments={"resource": resource, **arguments},
        pinned={"site": site, "slot": slot.isoformat() if slot else None},
        steps=(
            Step(
                id="take",
                verb="take",
                resource=resource,
                arguments=arguments,
                patience_seconds=6 * 3600,
                tries=2,
                manual="pg_basebackup -D - -Ft -X fetch | zstd | aws s3 cp - s3://BUCKET/…",
            ),
        ),
    )
