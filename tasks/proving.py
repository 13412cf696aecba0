"""Proving and restoring a resource: look, choose, plan, act, and the proof's document.

Separate from the kind's verbs: this is the one way that `dr`, Prefect and the schedules come to a proof.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import JsonValue

from recovery import choose, planners
from recovery.catalog import PostgresResource
from recovery.check import Verdict
from recovery.choose import Target
from recovery.drive import Halt
from recovery.errors import BadInput, DrError, Failed, NoPoint, Unproven
from recovery.evidence import Record
from recovery.mark import Mark
from recovery.plan import Plan
from recovery.proof import Proof, proof
from recovery.rates import speed
from tasks import rated
from tasks.engine import Act, Said
from tasks.fresh_folder import refuse_taken
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

Sort = Literal["mark", "latest", "time", "random"]
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
    points = _points(home, wanted.resource, site, wanted.timeline)
    target, pinned = _target(points, wanted, window_of(home, resource), now)
    point = rated.chosen(home, wanted.resource, site, target, points)
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


def plan_restore(home: Home, resource_name: str, at: datetime | None, into: Path, timeline: int | None = None) -> Plan:
    """A restore that is kept. Refuses a folder that holds anything, and any server's own data directory."""
    resource = home.resource(resource_name)
    into = into.absolute()
    refuse_taken(resource, into)
    site = home.catalog.proofs[resource.proof].site
    now = home.now()
    choose.refuse_future(at, now=now)
    points = _points(home, resource_name, site, timeline)
    target = choose.latest(points.end) if at is None else choose.at_time(at, now=now, end=points.end)
    point = rated.chosen(home, resource_name, site, target, points)
    return planners.restore(
        service=home.service_of(resource_name), resource=resource_name, site=site, point=point, into=str(into), now=now
    )


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


def window_of(home: Home, resource: PostgresResource) -> float:
    """Seconds of the promised window."""
    return home.catalog.backups[resource.backup].window.total_seconds()


def _points(home: Home, name: str, site: str, timeline: int | None) -> Points:
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


def _target(points: Points, wanted: Wanted, window_seconds: float, now: datetime) -> tuple[Target, str | None]:
    from datetime import timedelta

    match wanted.sort:
        case "latest":
            return choose.latest(points.end), None
        case "time":
            if wanted.at is None:
                raise BadInput("a proof of a moment needs the moment", hint="--as-of 2026-11-24T03:00:00Z")
            return choose.at_time(wanted.at, now=now, end=points.end), None
        case "random":
            window = timedelta(seconds=window_seconds)
            return choose.at_random(wanted.share, points.backups, window=window, now=now, end=points.end), None
        case "mark":
            return _mark_target(points)


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
