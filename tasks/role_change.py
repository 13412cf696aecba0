"""Writing down that a service's roles have changed, once and for ever: whatever is decided later counts from it.

Separate from acting.py, which drives a run: here is the one document that a run leaves beside its own records.
"""

from __future__ import annotations

from collections.abc import Callable

from recovery.epoch import CHANGED, Change, change_key, facts_of_change
from recovery.errors import Refused
from recovery.journal import ENDED
from recovery.outcome import Changed, step_seconds
from recovery.plan import Plan
from recovery.value import canonical
from tasks.home import Home
from tasks.journal import Journal
from tasks.observing import changes
from tasks.store import AlreadyThere


def keep_change(home: Home, plan: Plan, journal: Journal, told: Callable[[], Changed]) -> None:
    """Once every database is promoted the epoch has changed, whatever becomes of the steps behind it. `told`: what has
    come of the run so far."""
    records = journal.records()
    ended = {str(each.facts.get("step")) for each in records if each.kind == ENDED}
    wanted = [step for step in plan.steps if step.verb == "promote"]
    if not plan.live or not wanted or not ended.issuperset(step.id for step in wanted):
        return
    if any(each.kind == CHANGED for each in records):
        return
    document = told()
    change = Change(
        service=plan.service,
        epoch=plan.epoch + 1,
        primary=document.target,
        run=plan.run,
        runbook=plan.runbook,
        at=home.now(),
        databases={
            each.database: {"system_id": each.system_id, "timeline": each.timeline_id, "lsn": each.lsn}
            for each in document.databases
        },
        steps=step_seconds(records),
    )
    _write_down(home, change)
    facts = facts_of_change(plan.epoch, primary=change.primary, databases={**change.databases})
    journal.append(CHANGED, plan.service, facts=facts, end=home.now())


def _write_down(home: Home, change: Change) -> None:
    """The same run's again is the same change. Raises Refused where another run's lies there."""
    ledger, key = home.ledger(), change_key(change.service, change.epoch)
    try:
        ledger.put(key, canonical(change))
    except AlreadyThere:
        there = next((each for each in changes(home, change.service) if each.epoch == change.epoch), None)
        if there is None or there.run != change.run:
            by = "another run" if there is None else f"run {there.run[:12]}"
            raise Refused(
                f"epoch {change.epoch} of {change.service} was begun by {by}, and this run promoted a server, too",
                hint="two changes of roles met: stop, and see both with 'dr show' before anything else is done",
            ) from None
