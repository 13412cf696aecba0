"""Backing up a resource: what is due, from which server, into which bucket; and marks, retention, leftovers.

Separate from the verb: this is the one way that `dr`, Prefect and the schedules come to a backup.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Literal

from pydantic import JsonValue

from recovery import choose, due, planners, wal_kept
from recovery.choose import Point
from recovery.drive import Halt
from recovery.engine_options import TAKES_INCREMENTALS
from recovery.errors import BadInput, Failed, Refused, Unproven
from recovery.evidence import Record
from recovery.plan import NothingToDo, Plan
from recovery.point import Backup
from recovery.policy import BackupPolicy
from recovery.timeline import timelines
from recovery.value import Value
from tasks import marking, retaining
from tasks.engine import Act, Said
from tasks.home import Home
from tasks.host import host_of
from tasks.keeping import engine_at
from tasks.kind import Verbs
from tasks.postgres import explain as explaining
from tasks.postgres import looking, source, taking
from tasks.postgres.engines import table
from tasks.postgres.engines.native import Native
from tasks.postgres.engines.port import Engine, Expires
from tasks.retaining import Swept
from tasks.store import Store

Which = Literal["due", "full", "incremental"]


class Taken(Value):
    """What a backup run did."""

    resource: str
    id: str
    kind: str
    site: str
    size_bytes: int
    stored_bytes: int
    seconds: float


def plan_backup(home: Home, name: str, which: Which) -> Plan | NothingToDo:
    """Decide what to take. `due`: by the schedules; a kept slot needs nothing. Raises when no server can give it."""
    resource = home.resource(name)
    policy = home.catalog.backups[resource.backup]
    servers = looking.members(resource)
    member = looking.primary_of(servers)
    if member is None:
        why = "; ".join(f"{each.site}: {each.why or 'in recovery'}" for each in servers)
        raise Failed(
            f"no primary of {name} answers ({why})", hint="'dr status' shows the servers; see whether they run"
        )
    site = resource.site_of(member)
    host_of(resource.members[member].host)
    place = next(each.place for each in servers if each.place is not None and each.site == member)
    line = (place.system_id, place.timeline)  # after a promotion the new timeline needs a full backup of its own
    mine = [each for each in engine_at(home, name, site).backups() if (each.system_id, each.timeline) == line]
    now = home.now()
    kind, slot, why = _kind(policy, mine, which, now)
    if kind is None:
        return NothingToDo(why=why)
    if kind == "incremental" and resource.engine not in TAKES_INCREMENTALS:
        raise BadInput(f"{resource.engine} takes full backups only", hint="take a full one: 'dr backup --full'")
    if resource.engine == "native":
        with source.connected(resource.members[member]) as connection:
            source.refuse_unfit(source.look(connection), incremental=kind == "incremental")
    fulls = [each for each in mine if each.kind == "full"]
    if kind == "incremental" and not fulls:
        kind, slot = "full", None
    return planners.backup(
        service=home.service_of(name),
        resource=name,
        site=site,
        kind=kind,
        parent=fulls[-1].id if kind == "incremental" else None,
        slot=slot,
        now=now,
        member=member,
    )


def _kind(
    policy: BackupPolicy, mine: list[Backup], which: Which, now: datetime
) -> tuple[Literal["full", "incremental"] | None, datetime | None, str]:
    if which != "due":
        return which, None, ""
    fulls = [each.begun_at for each in mine if each.kind == "full"]
    full = due.decide(policy.full.schedule, fulls, now=now)
    if isinstance(full, due.Due):
        return "full", full.slot, ""
    if policy.incremental is None:
        return None, None, full.why
    incremental = due.decide(policy.incremental.schedule, [each.begun_at for each in mine], now=now)
    if isinstance(incremental, due.Due):
        return "incremental", incremental.slot, ""
    return None, None, incremental.why


def take(act: Act, plan: Plan) -> Taken:
    """Act on a backup's plan. Raises what stopped it."""
    ended: list[Halt | None] = []
    name, site = str(plan.arguments["resource"]), str(plan.pinned["site"])

    def conclude(records: tuple[Record, ...], halt: Halt | None) -> Said:
        ended.append(halt)
        done = next((r for r in reversed(records) if r.kind == "step.ended"), None)
        result = done.facts.get("result") if done is not None else None
        facts: dict[str, JsonValue] = dict(result) if isinstance(result, dict) else {}
        facts |= {"site": site, "slot": plan.pinned.get("slot"), "why": halt.why if halt else ""}
        measures = dict(done.measures) if done is not None else {}
        return Said(kind="backup", facts=facts, measures=measures, outcome="missed" if halt else "met")

    lease = f"{name}-backup"
    act.discard_unfinished(lease, plan.run, lambda old: verbs_of(act.home, old))
    records = act.run(plan, verbs_of(act.home, plan), lease=lease, conclude=conclude)
    if ended and (halt := ended[0]) is not None:
        raise Unproven(halt.why, hint=halt.hint) if halt.unproven else Failed(halt.why, hint=halt.hint)
    said = next(record for record in reversed(records) if record.kind == "backup")
    return _taken(name, said.facts, said.measures)


def _taken(name: str, facts: Mapping[str, JsonValue], measures: Mapping[str, float]) -> Taken:
    return Taken.model_validate(
        {
            "resource": name,
            **{key: facts[key] for key in ("id", "kind", "site", "size_bytes", "stored_bytes")},
            "seconds": measures.get("seconds", 0.0),
        }
    )


def verbs_of(home: Home, plan: Plan) -> Verbs:
    """The verbs of backing up, bound to the plan's resource and site."""
    name, site = str(plan.arguments["resource"]), str(plan.pinned["site"])
    resource = home.resource(name)
    return taking.verbs(
        taking.Take(
            resource=name,
            member=resource.members[str(plan.pinned.get("member", site))],
            engine=engine_at(home, name, site),
            level=home.catalog.backups[resource.backup].compression_level,
            clock=home.now,
        )
    )


def take_mark(home: Home, name: str, *, act: Act | None = None) -> tuple[str, int, int]:
    """Take a mark as a run of its own; see marking.take. Gives key, timeline, LSN."""
    return marking.take(act or Act(home=home), name)


def sweep(
    home: Home,
    name: str,
    *,
    proven: frozenset[str],
    really: bool,
    underway: Callable[[], frozenset[str]] = frozenset,
) -> tuple[Swept, ...]:
    """Retention and leftovers, per site. `really` false only says what would be done. See retaining.sweep."""
    resource = home.resource(name)
    policy = home.catalog.backups[resource.backup]
    if resource.engine != "native":
        return _sweep_by_tool(home, name, policy, proven, really)
    sites = dict.fromkeys((*policy.copies, *resource.sites))
    stores = {site: home.backups(name, site) for site in sites}
    return retaining.sweep(stores, policy, proven=proven, now=home.now(), really=really, underway=underway)


def _sweep_by_tool(
    home: Home, name: str, policy: BackupPolicy, proven: frozenset[str], really: bool
) -> tuple[Swept, ...]:
    """Retention by the tool alone: ours never touches what it keeps. pgBackRest's repository is one for all sites."""
    resource = home.resource(name)
    sites = tuple(dict.fromkeys((*policy.copies, *resource.sites)))
    made = []
    for site in sites[:1] if resource.engine == "pgbackrest" else sites:
        engine = engine_at(home, name, site)
        if (keeper := table.retention_of(engine)) is not None:
            made.append(_expire(engine, keeper, site, policy.full.keep.days, proven, really))
    return tuple(made)


def _expire(engine: Engine, keeper: Expires, site: str, days: int, proven: frozenset[str], really: bool) -> Swept:
    gone = keeper.expire(days, really=False)
    if really and (lost := sorted(proven & set(gone.backups))):
        raise Refused(
            f"{engine.name}'s retention would remove {lost[0]}, the last proven point",
            hint="prove a younger point first ('dr prove'), or lengthen the tool's retention; nothing was removed",
        )
    known = [each.id for each in engine.backups()]
    if really:
        gone = keeper.expire(days, really=True)
    kept = [f"{each}: kept by {engine.name}'s own retention" for each in known if each not in gone.backups]
    return Swept(site=site, removed=(*gone.backups, *gone.others), kept=(*kept, *gone.notes))


def _own_end_only(backup: Backup, backups: tuple[Backup, ...], store: Store, home: Home, name: str) -> Point | None:
    """The backup's own end, where WAL after it was retired; None where it leads on."""
    archive = Native(store=store, keys=home.keys(name)).archive(backup.system_id)
    policy = home.catalog.backups[home.resource(name).backup]
    mine = [each for each in backups if each.system_id == backup.system_id]
    lines = timelines(archive, mine, (), retired=wal_kept.retired(archive, mine, policy, now=home.now()))
    reached = [each.stops for line in lines for each in line.windows if each.backup == backup.id]
    return choose.own_end(backup.id, backups=mine, archive=archive) if set(reached) == {"retired"} else None


def explain(home: Home, name: str, wanted: str) -> str:
    """How a person restores that backup with stock tools only. Raises BadInput with the ids that there are."""
    resource = home.resource(name)
    if resource.engine != "native":
        raise BadInput(
            f"the backups of {name} are {resource.engine}'s, whose own commands restore them",
            hint="see `pgbackrest help restore` or `barman-cloud-restore --help`; 'dr restore' calls them for you",
        )
    policy = home.catalog.backups[resource.backup]
    known: set[str] = set()
    for site in dict.fromkeys((*policy.copies, *resource.sites)):
        store = home.backups(name, site)
        by_id = {each.id: each for each in looking.backups(store)}
        known.update(by_id)
        if wanted in by_id:
            backup = by_id[wanted]
            full = by_id[backup.parent] if backup.parent is not None else None
            bin_dir = next(iter(resource.members.values())).bin_dir
            own_end = _own_end_only(backup, tuple(by_id.values()), store, home, name)
            return explaining.text(backup, store, full=full, own_end=own_end, bin_dir=bin_dir)
    raise BadInput(
        f"there is no backup {wanted!r} of {name}", hint=f"there are: {', '.join(sorted(known)) or 'none yet'}"
    )
