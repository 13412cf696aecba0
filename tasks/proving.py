"""Proving and restoring a resource: look, choose, plan, act, and the proof's document.

Separate from the kind's verbs: this is the one way that `dr`, Prefect and the schedules come to a proof.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import JsonValue

from recovery import choose, planners
from recovery.choose import Point, Target
from recovery.drive import Halt
from recovery.errors import BadInput, DrError, Failed, NoPoint, Unproven
from recovery.evidence import Record
from recovery.mark import Mark
from recovery.plan import Plan
from recovery.proof import Proof, proof
from recovery.wal import Archive
from tasks import rated
from tasks.engine import Act, Said
from tasks.home import Home
from tasks.host import host_of
from tasks.keeping import engine_at, refuse_unplantable, vouched
from tasks.kind import Verbs
from tasks.postgres import looking, mark, restoring
from tasks.postgres.faults import catalogue
from tasks.postgres.ground import Ground
from tasks.postgres.looking import Points
from tasks.postgres.planting import Plant
from tasks.unbegun import not_begun

Sort = Literal["mark", "latest", "time", "random", "own-end"]
OWN_END: Literal["own-end"] = "own-end"
LOOK_SECONDS = 6.0
"""The patience with a bucket while a point is chosen: nothing is underway yet that would be lost."""
LOOK_REST_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """What is to be proven of a resource. `share` (0 to 1) says where in the window a random moment lies."""

    resource: str
    sort: Sort
    at: datetime | None = None
    share: float = 0.5
    mutate: str | None = None
    level: str = "daily"
    backup: str = ""
    """The backup that is restored to its own end (`own-end`)."""
    timeline: int | None = None
    """The timeline to follow, where a person says so."""
    site: str | None = None
    """Where it is restored; None: where the policy of proofs says."""

    @property
    def name(self) -> str:
        """In a word, for lists: resource and sort, or the resource and the planted fault."""
        return f"{self.resource}-{self.mutate or self.sort}"


def plan_proof(home: Home, wanted: Wanted) -> Plan:
    """Look and choose; changes nothing. Raises NoPoint or BadInput with the reason."""
    resource = home.resource(wanted.resource)
    if wanted.mutate:
        refuse_unplantable(resource.engine, wanted.mutate, wanted.sort)
    site = wanted.site or home.catalog.proofs[resource.proof].site
    now = home.now()
    choose.refuse_future(wanted.at, now=now)
    point, pinned = _point(home, wanted, site, now)
    return planners.prove(
        service=home.service_of(wanted.resource),
        resource=wanted.resource,
        site=site,
        point=point,
        sort=wanted.sort,
        now=now,
        mutate=planners.Mutation(name=wanted.mutate, stage=catalogue.of(wanted.mutate).stage.value)
        if wanted.mutate
        else None,
        mark=pinned,
        level=wanted.level,
    )


def prove(act: Act, wanted: Wanted) -> Proof:
    """One proof, from looking to its document. What could not be begun is on record too, unproven, with its reason. It
    is the document where there is no point to restore to; where a part does not answer, that is raised."""
    try:
        plan = plan_proof(act.home, wanted)
    except (NoPoint, Unproven) as trouble:
        if wanted.at is not None:
            raise
        return not_begun(act.home, wanted, trouble)
    except Failed as trouble:
        try:
            not_begun(act.home, wanted, trouble)
        except DrError as silent:
            trouble.add_note(f"it could not be left on record: {silent.fact}")
        raise trouble from None
    return act_on(act, plan)


def act_on(act: Act, plan: Plan) -> Proof:
    """Act on a proof's plan, or go on with it."""
    home = act.home
    resource = home.resource(str(plan.arguments["resource"]))
    objective = home.catalog.objectives[resource.objective]
    made: list[Proof] = []

    def conclude(records: tuple[Record, ...], halt: Halt | None) -> Said:
        document = proof(plan, resource.kind, records, objective, halt)
        made.append(document)
        measures = {"rto_seconds": document.rto_seconds}
        if document.rpo_seconds is not None:
            measures["rpo_seconds"] = document.rpo_seconds
        facts: dict[str, JsonValue] = document.model_dump(mode="json")
        return Said(kind="proof", facts=facts, measures=measures, outcome=document.verdict.value)

    lease = lease_of(plan)
    act.discard_unfinished(lease, plan.run, lambda old: verbs_of(home, old))
    records = act.run(plan, verbs_of(home, plan), lease=lease, conclude=conclude)
    if made:
        return made[0]
    facts = next(record.facts for record in reversed(records) if record.kind == "proof")
    return Proof.model_validate(facts)


def lease_of(plan: Plan) -> str:
    """Proofs of different sorts of one resource go side by side; two of the same sort do not."""
    return f"{plan.arguments['resource']}-{plan.purpose}-{plan.arguments.get('sort', 'by-hand')}"


def verbs_of(home: Home, plan: Plan) -> Verbs:
    """The verbs that a proof's or a restore's steps name, bound to the plan's resource and site."""
    ground = ground_of(home, str(plan.arguments["resource"]), str(plan.pinned["site"]))
    return {**restoring.verbs(ground), "plant": Plant(ground=ground)}


def ground_of(home: Home, name: str, site: str) -> Ground:
    """Where restores of a resource are made."""
    resource = home.resource(name)
    store = home.backups(name, site)
    member = resource.members.get(site) or next(iter(resource.members.values()))

    def read_mark(pinned: str) -> Mark:
        system_id, timeline, lsn = pinned.split("/")
        return mark.read_mark(store, system_id=system_id, timeline=int(timeline), lsn=int(lsn))

    return Ground(
        resource=resource,
        member=member,
        policy=home.catalog.proofs[resource.proof],
        store=store,
        keys=home.keys(name),
        host=host_of(member.host),
        folder=home.scratch,
        read_mark=read_mark,
        engine=engine_at(home, name, site, store),
    )


def points_of(home: Home, name: str, site: str, timeline: int | None) -> Points:
    """Raises NoPoint where nothing but the archive tells of a newer timeline: a person has to say which is ours."""
    resource = home.resource(name)
    member = resource.members.get(site) or next(iter(resource.members.values()))
    servers = looking.asking(resource)
    store = home.backups(name, site, patience_seconds=LOOK_SECONDS)
    keys = home.keys(name)
    engine = engine_at(home, name, site, store)
    # Proofs of several sorts look one after the other: a bucket that is silent costs them one patience.
    circuit = home.circuit(f"backups of {name} at {site}", rest_seconds=LOOK_REST_SECONDS)
    found = circuit.demand(
        lambda: looking.look(
            store,
            bin_dir=Path(member.bin_dir),
            servers=servers,
            keys=keys,
            engine=engine,
            timeline=timeline,
            vouched=lambda: vouched(home, name),
        )
    )
    if found.doubt:
        raise NoPoint(found.doubt, hint="look at both with 'dr points', then say which one with --timeline N")
    return found


def own_end_of(home: Home, name: str, site: str, backup: str) -> Point:
    """One backup's own end. No server is asked, nor how far the archive goes: neither can matter to it."""
    engine = engine_at(home, name, site, home.backups(name, site, patience_seconds=LOOK_SECONDS))
    backups = engine.backups()
    system_id = next((each.system_id for each in backups if each.id == backup), None)
    archive = engine.archive(system_id) if system_id is not None else Archive(system_id="")
    return choose.own_end(backup, backups=backups, archive=archive, rates=rated.rates_at(home, name, site))


def _point(home: Home, wanted: Wanted, site: str, now: datetime) -> tuple[Point, str | None]:
    """The point, and the mark to compare with if any."""
    pinned: str | None = None
    if wanted.sort == "own-end":
        return own_end_of(home, wanted.resource, site, wanted.backup), None
    points = points_of(home, wanted.resource, site, wanted.timeline)
    match wanted.sort:
        case "latest":
            target = choose.latest(points.end)
        case "time":
            if wanted.at is None:
                raise BadInput("a proof of a moment needs the moment", hint="--as-of 2026-11-24T03:00:00Z")
            target = choose.at_time(wanted.at, now=now, end=points.end)
        case "random":
            window = home.catalog.backups[home.resource(wanted.resource).backup].window
            target = choose.at_random(wanted.share, points.backups, window=window, now=now, end=points.end)
        case "mark":
            target, pinned = _mark_target(points)
    return rated.chosen(home, wanted.resource, site, target, points), pinned


def _mark_target(points: Points) -> tuple[Target, str]:
    """The newest mark that a backup and the archive reach with a record to spare."""
    ended = min((each.end_lsn for each in points.backups), default=None)
    for timeline, lsn in reversed(points.marks):
        reached = points.end is not None and points.end.record_lsn > lsn
        if timeline == points.timeline and reached and ended is not None and ended <= lsn:
            return Target(kind="lsn", lsn=lsn), f"{points.system_id}/{timeline}/{lsn}"
    raise NoPoint(
        "no mark can be restored to: there is none, or it lies before every backup or behind the archive's end",
        hint="take one with 'dr backup RESOURCE --mark', wait until its WAL is archived, and see 'dr points'",
    )
