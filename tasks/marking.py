"""Taking a mark as a run: planned, on record, its replay surely resumed.

Separate from backing because a mark acts on a standby: it pauses the replay, and a run that was killed in the middle
must let it go on before anything else, or the standby falls behind without a word.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from recovery import planners
from recovery.catalog import Member
from recovery.drive import Halt, Move, Seen, Truth
from recovery.errors import DrError, Failed, Unproven
from recovery.evidence import Record
from recovery.plan import Plan
from recovery.step import Step
from tasks.engine import Act, Said
from tasks.home import Home
from tasks.kind import Facts, Scene, Verb, Verbs
from tasks.postgres import looking, mark


@dataclass(frozen=True, kw_only=True, slots=True)
class _Ground:
    """The standby, where its mark is kept, and what happened in this process."""

    home: Home
    resource: str
    member: Member
    sites: tuple[str, ...]
    tried: set[str] = field(default_factory=set)
    trouble: list[DrError] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True, slots=True)
class Take:
    """The mark, kept at every site. Once on record it holds."""

    ground: _Ground

    def observe(self, step: Step, scene: Scene) -> Seen:
        """See Verb.observe."""
        if scene.results.get(step.id) is not None:
            return Seen(truth=Truth.HOLDS)
        return Seen(truth=Truth.ABSENT, why="no mark of this run yet")

    def perform(self, move: Move, scene: Scene) -> Facts:
        """See Verb.perform."""
        ground = self.ground
        ground.tried.add(scene.plan.run)
        try:
            made = mark.take(ground.member.dsn, now=scene.now(), patience_seconds=move.step.patience_seconds)
        except DrError as trouble:
            ground.trouble.append(trouble)
            raise
        key = ""
        for site in ground.sites:
            key = mark.store_mark(ground.home.backups(ground.resource, site), made)
        return {"key": key, "timeline": made.timeline, "lsn": made.lsn, "sites": list(ground.sites)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Resume:
    """The replay goes on. A mark that ended in this process, well or not, has resumed it itself, and a pause that it
    met there is somebody else's; one whose process was killed has not."""

    ground: _Ground

    def observe(self, step: Step, scene: Scene) -> Seen:
        """See Verb.observe."""
        if scene.results.get(step.id) is not None:
            return Seen(truth=Truth.HOLDS)
        return Seen(truth=Truth.ABSENT, why="that the replay goes on is not on record yet")

    def perform(self, move: Move, scene: Scene) -> Facts:  # noqa: ARG002 -- the port's shape
        """See Verb.perform."""
        ours = scene.plan.run not in self.ground.tried and scene.attempts.get("mark", 0) > 0
        if ours:
            mark.resume(self.ground.member.dsn)
        return {"resumed": "after a killed run" if ours else "by the mark itself"}


def plan_mark(home: Home, name: str) -> Plan:
    """Choose the standby, the most advanced one: a mark of one that was left behind is no newer than its last. Raises
    Unproven when none answers: a resource without a standby has no mark (TRUTH.md)."""
    standing = {
        (each.place.timeline, each.place.lsn): each.site
        for each in reversed(looking.members(home.resource(name)))
        if each.place is not None and each.place.in_recovery
    }  # fmt: skip
    if not standing:
        raise Unproven(f"no standby of {name} answers, so no mark can be taken", hint="see 'dr status' for the servers")
    member = standing[max(standing)]
    site = home.resource(name).site_of(member)
    return planners.mark(service=home.service_of(name), resource=name, site=site, now=home.now(), member=member)


def take(act: Act, name: str) -> tuple[str, int, int]:
    """Take a mark and keep it in the standby's site's bucket and the copies. Gives key, timeline, LSN."""
    lease = f"{name}-mark"
    act.discard_unfinished(lease, "", lambda old: _verbs(_ground(act.home, old)))
    plan = plan_mark(act.home, name)
    ground = _ground(act.home, plan)
    ended: list[Halt | None] = []

    def conclude(records: tuple[Record, ...], halt: Halt | None) -> Said:
        ended.append(halt)
        facts = {**_result(records), "site": plan.pinned["site"], "why": halt.why if halt else ""}
        return Said(kind="mark", facts=facts, measures={}, outcome="missed" if halt else "met")

    records = act.run(plan, _verbs(ground), lease=lease, conclude=conclude)
    if ended and (halt := ended[0]) is not None:
        raise ground.trouble[-1] if ground.trouble else Failed(halt.why, hint=halt.hint)
    made = _result(records)
    return str(made["key"]), int(str(made["timeline"])), int(str(made["lsn"]))


def _result(records: tuple[Record, ...]) -> Facts:
    ended = (r for r in reversed(records) if r.kind == "step.ended" and r.facts.get("step") == "mark")
    found = next((r.facts.get("result") for r in ended), None)
    return dict(found) if isinstance(found, dict) else {}


def _ground(home: Home, plan: Plan) -> _Ground:
    name, site = str(plan.arguments["resource"]), str(plan.pinned["site"])
    resource = home.resource(name)
    copies = home.catalog.backups[resource.backup].copies
    sites = tuple(dict.fromkeys((site, *copies)))
    member = resource.members[str(plan.pinned.get("member", site))]
    return _Ground(home=home, resource=name, member=member, sites=sites)


def _verbs(ground: _Ground) -> Verbs:
    verbs: dict[str, Verb] = {"mark": Take(ground=ground), "resume": Resume(ground=ground)}
    return verbs
