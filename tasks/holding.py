"""Holds: a backup that retention leaves alone until a person releases it, with who said so, when and why.

Separate from retaining, which only obeys: a hold is an order, so it is a run on record. It lies beside the backup at
every site, for whoever looks into the bucket.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from recovery import planners
from recovery.drive import Halt, Move, Seen, Truth
from recovery.errors import BadInput, DrError, Failed
from recovery.evidence import Record
from recovery.plan import NothingToDo, Plan
from recovery.point import Backup
from recovery.step import Step
from recovery.value import Instant, Value, canonical
from tasks.engine import Act, Said
from tasks.home import Home
from tasks.kind import Facts, Scene, Verb
from tasks.postgres import basebackup, looking
from tasks.postgres.base_index import HOLD
from tasks.store import AlreadyThere

Order = Literal["hold", "release"]


class Hold(Value):
    """What lies beside a backup that is held."""

    at: Instant
    who: str
    why: str


def plan(home: Home, name: str, wanted: str, order: Order, why: str) -> Plan | NothingToDo:
    """What has to be written where. Raises BadInput for a backup that is nowhere, and for other engines' backups."""
    resource = home.resource(name)
    if resource.engine != "native":
        raise BadInput(
            f"the backups of {name} are kept by {resource.engine}",
            hint="its own retention alone decides: hold it there",
        )
    if order == "hold" and not why.strip():
        raise BadInput("a hold needs its reason", hint="--why 'litigation 4711', for whoever finds it in a year")
    found = {site: looking.backups(home.backups(name, site)) for site in _sites(home, name)}
    having = {site: each for site, backups in found.items() for each in backups if each.id == wanted}
    if not having:
        known = sorted({each.id for backups in found.values() for each in backups})
        raise BadInput(f"there is no backup {wanted!r} of {name}", hint=f"there are: {', '.join(known) or 'none yet'}")
    if not (sites := [site for site, each in having.items() if each.hold != (order == "hold")]):
        return NothingToDo(why=f"{wanted} is {'held already' if order == 'hold' else 'not under hold'}")
    service = home.service_of(name)
    return planners.hold(
        service=service, resource=name, backup=wanted, order=order, why=why, sites=sites, now=home.now()
    )


def act_on(act: Act, plan: Plan) -> tuple[str, ...]:
    """Carry it out; gives the sites. Raises what stopped it: the same order again goes on."""
    lease = f"{plan.arguments['resource']}-hold"
    keeper = _Keep(home=act.home)
    ended: list[Halt | None] = []

    def conclude(records: tuple[Record, ...], halt: Halt | None) -> Said:  # noqa: ARG001 -- the port's shape
        ended.append(halt)
        facts: Facts = {**plan.arguments, "sites": plan.pinned["sites"], "why_not": halt.why if halt else ""}
        return Said(kind=plan.purpose, facts=facts, measures={}, outcome="missed" if halt else "met")

    verbs: dict[str, Verb] = {"hold": keeper, "release": keeper}
    act.discard_unfinished(lease, plan.run, lambda old: verbs)  # noqa: ARG005 -- cancelled, it performs nothing
    act.run(plan, verbs, lease=lease, conclude=conclude)
    if ended and (halt := ended[0]) is not None:
        raise keeper.trouble[-1] if keeper.trouble else Failed(halt.why, hint=halt.hint)
    return _pinned(plan)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Keep:
    """The hold's object at each site: there, or gone."""

    home: Home
    trouble: list[DrError] = field(default_factory=list)

    def observe(self, step: Step, scene: Scene) -> Seen:
        """See Verb.observe."""
        if scene.results.get(step.id) is not None:
            return Seen(truth=Truth.HOLDS)
        return Seen(truth=Truth.ABSENT, why="not on record yet")

    def perform(self, move: Move, scene: Scene) -> Facts:
        """See Verb.perform."""
        try:
            for site in _pinned(scene.plan):
                self._write(site, move.step.verb, scene)
        except DrError as trouble:
            self.trouble.append(trouble)
            raise
        return {"sites": list(_pinned(scene.plan))}

    def _write(self, site: str, order: str, scene: Scene) -> None:
        name, wanted = str(scene.plan.arguments["resource"]), str(scene.plan.arguments["backup"])
        store = self.home.backups(name, site)
        for each in (one for one in looking.backups(store) if one.id == wanted):
            if order == "release":
                store.delete(_key(each))
                continue
            said = Hold(at=scene.now(), who=self.home.who, why=str(scene.plan.arguments["why"]))
            try:
                store.put(_key(each), canonical(said))
            except AlreadyThere:  # an earlier try of this order, or another person's hold: it is held
                continue


def _key(backup: Backup) -> str:
    return f"{basebackup.folder(backup)}/{HOLD}"


def _sites(home: Home, name: str) -> tuple[str, ...]:
    resource = home.resource(name)
    return tuple(dict.fromkeys((*home.catalog.backups[resource.backup].copies, *resource.sites)))


def _pinned(plan: Plan) -> tuple[str, ...]:
    sites = plan.pinned["sites"]
    return tuple(str(each) for each in sites) if isinstance(sites, list) else ()
