"""What the schedules do day by day with one resource: backups and marks that are due, and the sweep; told in words.

Separate from backing, which takes what it is told to: here a run that comes late finds its slot kept and does nothing.
"""

from __future__ import annotations

from recovery import due
from recovery.check import Verdict
from recovery.past import proof_of
from recovery.plan import NothingToDo
from recovery.point import lsn_text
from recovery.scorecard import scorecard
from tasks import backing, pages, scoring, slipping, sweeping
from tasks.asking import Which
from tasks.engine import Act
from tasks.home import Home
from tasks.pages import Told
from tasks.postgres import looking, mark
from tasks.proving import OWN_END
from tasks.remembered import pasts_of


def back_up(act: Act, resource: str, which: Which) -> Told:
    """Take what is meant, or nothing when its slot was kept; what slipped is put on record behind it, whatever came of
    it. Raises what stopped it."""
    try:
        return _taken(act, resource, which)
    finally:
        if which in (Which.DUE, Which.MARK_DUE):
            slipping.noted(act, resource)


def _taken(act: Act, resource: str, which: Which) -> Told:
    match which:
        case Which.MARK:
            return _mark(act, resource)
        case Which.MARK_DUE:
            decided = mark_due(act.home, resource)
            return pages.nothing_to_do(decided.why) if isinstance(decided, NothingToDo) else _mark(act, resource)
        case Which.DUE:
            return _backup(act, resource, "due")
        case Which.FULL:
            return _backup(act, resource, "full")
        case Which.INCREMENTAL:
            return _backup(act, resource, "incremental")


def mark_due(home: Home, name: str) -> due.Due | NothingToDo:
    """Whether the newest slot for marks still waits for its mark."""
    resource = home.resource(name)
    policy = home.catalog.backups[resource.backup]
    taken = []
    for asked in looking.members(resource):
        if asked.place is not None and asked.place.in_recovery:
            newest = mark.newest_mark(home.backups(name, resource.site_of(asked.site)), system_id=asked.place.system_id)
            taken += [newest.at] if newest is not None else []
    return due.decide(policy.marks, taken, now=home.now())


def sweep(act: Act, *, really: bool) -> Told:
    """Retention, leftovers and scratch of the whole home; without `really` only what would be done."""
    home = act.home
    proven = frozenset[str]().union(*(last_proven(home, name) for name in home.catalog.resources))
    return pages.swept(sweeping.sweep(act, proven=proven) if really else sweeping.look(home, proven=proven))


def score(act: Act) -> Told:
    """The scorecard of everything that the ledger holds, now; what slipped is put on record first."""
    home = act.home
    slipping.noted(act, *home.catalog.resources)
    return pages.score(scorecard(scoring.pasts(home.ledger()).runs, home.catalog, now=home.now()))


def last_proven(home: Home, resource: str) -> frozenset[str]:
    """The backups of the newest proof of each sort that was met: retention never takes the last proven point. A look
    at an old backup's own end is none to count on, as long as anything else was proven."""
    found: dict[str, str] = {}
    for past in pasts_of(home).runs:
        made = proof_of(past) if past.resource == resource else None
        if made is not None and made.verdict is Verdict.MET and made.planted is None:
            found.setdefault(made.sort, made.point)
    if len(found) > 1:
        found.pop(OWN_END, None)
    return frozenset(name for point in found.values() for name in point.split(" + "))


def _backup(act: Act, resource: str, which: backing.Which) -> Told:
    plan = backing.plan_backup(act.home, resource, which)
    return pages.nothing_to_do(plan.why) if isinstance(plan, NothingToDo) else pages.backup(backing.take(act, plan))


def _mark(act: Act, resource: str) -> Told:
    key, timeline, lsn = backing.take_mark(act.home, resource, act=act)
    return pages.mark(resource, key, timeline, lsn_text(lsn))
