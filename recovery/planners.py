"""Planners: what was asked, the catalog and what was observed in; a plan, or nothing to do, out. Pure.

They speak verbs and facts, not products: a step names `take`, `fetch`, `recover`; the resource's kind knows how.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pydantic import JsonValue

from recovery.choose import Point
from recovery.plan import Plan
from recovery.slipped import KIND, Slipped, asked_at, counted
from recovery.step import Step
from recovery.value import Value

VERSION = "1"


PLANTED_BEFORE = {"backup-copy": "fetch", "wal-copy": "verify", "files": "verify", "sql": "check"}
"""By the stage of a fault, the step before which it is planted."""

_BY_HAND = "print the exact commands with 'dr backup RESOURCE --explain BACKUP'"


class Mutation(Value):
    """A fault to plant, and its stage."""

    name: str
    stage: str


def prove(
    *,
    service: str,
    resource: str,
    site: str,
    point: Point,
    sort: str,
    now: datetime,
    mutate: Mutation | None = None,
    mark: str | None = None,
    level: str = "daily",
    epoch: int = 0,
) -> Plan:
    """The proof of one point: fetch into a fresh attempt, verify, recover, check, discard.

    `sort` is what was asked for: mark, latest, time, random or own-end. `mutate` plants that fault on the way. `mark`
    is TIMELINE/LSN (decimal) of the mark to compare with.
    """
    pinned: dict[str, JsonValue] = {"point": point.model_dump(mode="json"), "site": site, "mark": mark}
    fault: dict[str, JsonValue] = {"mutate": mutate.name, "stage": mutate.stage} if mutate else {}
    tries = 1 if mutate else 2  # a scratch server that was killed from outside costs a fresh attempt, not the proof
    steps = [
        _step("fetch", resource, patience_hours=4, tries=tries, manual=_BY_HAND),
        _step("verify", resource, patience_hours=1, tries=tries),
        _step("recover", resource, patience_hours=4, tries=tries),
        _step("check", resource, patience_hours=4, tries=tries, arguments={"level": level}),
    ]
    if mutate:
        at = next(number for number, step in enumerate(steps) if step.id == PLANTED_BEFORE[mutate.stage])
        steps.insert(at, _step("plant", resource, patience_hours=1, arguments=fault))
    steps.append(
        Step(
            id="discard",
            verb="discard",
            resource=resource,
            always=True,
            patience_seconds=300,
            manual="stop the scratch server, then remove its folder",
        )
    )
    return Plan(
        purpose="prove",
        runbook="prove",
        runbook_version=VERSION,
        service=service,
        epoch=epoch,
        asked_at=now,
        arguments={"resource": resource, "sort": sort, "level": level, **fault},
        pinned=pinned,
        steps=_one_after_the_other(steps, until="discard"),
    )


def _step(
    verb: str,
    resource: str,
    *,
    patience_hours: float,
    tries: int = 1,
    manual: str = "",
    arguments: dict[str, JsonValue] | None = None,
) -> Step:
    return Step(
        id=verb,
        verb=verb,
        resource=resource,
        arguments=arguments or {},
        patience_seconds=patience_hours * 3600,
        tries=tries,
        manual=manual,
    )


def _one_after_the_other(steps: Sequence[Step], *, until: str) -> tuple[Step, ...]:
    """Each needs the one before it; all but the last stay true until the last begins."""
    needs = [(), *((step.id,) for step in steps)]
    return tuple(
        step.but(needs=before, until=None if step.id == until else until)
        for step, before in zip(steps, needs, strict=False)
    )


def restore(*, service: str, resource: str, site: str, point: Point, into: str, now: datetime, epoch: int = 0) -> Plan:
    """A restore for keeps, into a folder that the person named; it ends stopped and consistent, or leaves nothing."""
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
            *_one_after_the_other(
                [
                    _step("fetch", resource, patience_hours=4, tries=2, manual=_BY_HAND),
                    _step("verify", resource, patience_hours=1, tries=2),
                    _step("recover", resource, patience_hours=4, tries=2),
                    _step("settle", resource, patience_hours=1),
                ],
                until="settle",
            ),
            Step(
                id="clear",
                verb="clear",
                resource=resource,
                needs=("settle",),
                always=True,
                patience_seconds=300,
                manual="stop the server in the folder, then empty the folder",
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
    member: str | None = None,
) -> Plan:
    """One backup. `slot` is the schedule's instant that it keeps, None for one by hand. `member` is the server, where
    its name is not its site's."""
    arguments: dict[str, JsonValue] = {"kind": kind, "parent": parent}
    return Plan(
        purpose="backup",
        runbook="backup",
        runbook_version=VERSION,
        service=service,
        epoch=epoch,
        asked_at=now,
        arguments={"resource": resource, **arguments},
        pinned={"site": site, "slot": slot.isoformat() if slot else None, **_member(member, site)},
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


def sweep(*, service: str, resource: str, now: datetime, epoch: int = 0) -> Plan:
    """One sweep: scratch past its expiry on this machine, then retention and leftovers in the resource's buckets."""
    return Plan(
        purpose="sweep",
        runbook="sweep",
        runbook_version=VERSION,
        service=service,
        epoch=epoch,
        asked_at=now,
        arguments={"resource": resource},
        steps=(
            _step(
                "clear-scratch", resource, patience_hours=0.5, manual="remove folders past their expiry in HOME/scratch"
            ),
            _step(
                "retain", resource, patience_hours=4, tries=2, manual="'dr sweep' says what would be removed and why"
            ),
        ),
    )


def hold(
    *,
    service: str,
    resource: str,
    backup: str,
    order: str,
    why: str,
    sites: Sequence[str],
    now: datetime,
    epoch: int = 0,
) -> Plan:
    """One backup put under hold or released (`order`: hold or release), in the buckets of `sites`."""
    return Plan(
        purpose=order,
        runbook=order,
        runbook_version=VERSION,
        service=service,
        epoch=epoch,
        asked_at=now,
        arguments={"resource": resource, "backup": backup, "why": why},
        pinned={"sites": list(sites)},
        steps=(_step(order, resource, patience_hours=0.1, tries=2),),
    )


def slots(*, service: str, resource: str, found: Slipped, epoch: int = 0) -> Plan:
    """Slots that slipped, put on record; people are told of them first. The plan is asked for at the newest instant
    that it tells of, not now: whoever finds the same makes the same plan, and its only run is begun once."""
    return Plan(
        purpose=KIND,
        runbook=KIND,
        runbook_version=VERSION,
        service=service,
        epoch=epoch,
        asked_at=asked_at(found),
        arguments={"resource": resource, "kind": counted(found.slots) or "schedules"},
        pinned={"slots": found.model_dump(mode="json")},
        steps=(_step("tell", resource, patience_hours=0.05, tries=2, manual="tell the service's owner yourself"),),
    )


def mark(*, service: str, resource: str, site: str, now: datetime, epoch: int = 0, member: str | None = None) -> Plan:
    """One mark, on the standby at `site` (`member`, where it is named otherwise); its replay goes on afterwards."""
    return Plan(
        purpose="mark",
        runbook="mark",
        runbook_version=VERSION,
        service=service,
        epoch=epoch,
        asked_at=now,
        arguments={"resource": resource},
        pinned={"site": site, **_member(member, site)},
        steps=(
            Step(id="mark", verb="mark", resource=resource, patience_seconds=600, until="resume"),
            Step(
                id="resume",
                verb="resume",
                resource=resource,
                needs=("mark",),
                always=True,
                patience_seconds=60,
                tries=3,
                manual="on the standby: select pg_wal_replay_resume()",
            ),
        ),
    )


def _member(member: str | None, site: str) -> dict[str, JsonValue]:
    return {} if member in (None, site) else {"member": member}
