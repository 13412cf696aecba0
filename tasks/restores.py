"""A restore that is kept: to a moment, to the latest one or to a backup's own end, into a folder that a person named.

Separate from proving, whose copies are discarded: here the folder is chosen by hand, and what stopped it is raised.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from pydantic import JsonValue

from recovery import choose, planners
from recovery.check import Verdict
from recovery.choose import Point
from recovery.drive import Halt
from recovery.errors import DrError, Failed, Unproven
from recovery.evidence import Record
from recovery.plan import Plan
from recovery.rates import speed
from tasks import rated
from tasks.engine import Act, Said
from tasks.fresh_folder import refuse_taken
from tasks.home import Home
from tasks.proving import lease_of, own_end_of, points_of, verbs_of


def plan_restore(
    home: Home,
    resource_name: str,
    at: datetime | None,
    into: Path,
    timeline: int | None = None,
    *,
    backup: str | None = None,
) -> Plan:
    """A restore that is kept, of `backup` to its own end or else to a moment. Refuses a folder that holds anything, and
    any server's own data directory."""
    resource = home.resource(resource_name)
    into = into.absolute()
    refuse_taken(resource, into)
    site = home.catalog.proofs[resource.proof].site
    now = home.now()
    choose.refuse_future(at, now=now)
    if backup is not None:
        point = own_end_of(home, resource_name, site, backup)
    else:
        point = _point(home, resource_name, site, at, timeline, now)
    return planners.restore(
        service=home.service_of(resource_name), resource=resource_name, site=site, point=point, into=str(into), now=now
    )


def _point(home: Home, name: str, site: str, at: datetime | None, timeline: int | None, now: datetime) -> Point:
    points = points_of(home, name, site, timeline)
    target = choose.latest(points.end) if at is None else choose.at_time(at, now=now, end=points.end)
    return rated.chosen(home, name, site, target, points)


def discard_unfinished_restore(act: Act, resource_name: str) -> str:
    """Before a new restore is planned: cancel the last one if it never ended, and clear the folder that it filled."""
    act.home.resource(resource_name)
    return act.discard_unfinished(f"{resource_name}-restore-by-hand", "", lambda old: verbs_of(act.home, old))


def restore(act: Act, plan: Plan) -> Mapping[str, JsonValue]:
    """Act on a restore's plan; gives what was restored. Raises what stopped it."""
    ended: list[Halt | None] = []

    def conclude(records: tuple[Record, ...], halt: Halt | None) -> Said:
        ended.append(halt)
        word = Verdict.MET if halt is None else Verdict.MISSED
        seconds = (records[-1].begin - plan.asked_at).total_seconds()
        facts: dict[str, JsonValue] = {"into": plan.arguments["into"], "why": halt.why if halt else ""}
        facts["speed"] = speed(str(plan.pinned["site"]), records)
        return Said(kind="restore", facts=facts, measures={"rto_seconds": seconds}, outcome=word.value)

    records = act.run(plan, verbs_of(act.home, plan), lease=lease_of(plan), conclude=conclude)
    if ended and (halt := ended[0]) is not None:
        raise _as_error(halt)
    said = next(record for record in reversed(records) if record.kind == "restore")
    return {**said.facts, **said.measures}


def _as_error(halt: Halt) -> DrError:
    return Unproven(halt.why, hint=halt.hint) if halt.unproven else Failed(halt.why, hint=halt.hint)
