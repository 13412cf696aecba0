"""The catalog's drills: when each is due, when it was done last and by whom, from the ledger's runs alone. Pure.

Separate from the duties of one resource: a drill is of the whole platform, and one without a runbook is done by people,
of whom the ledger knows nothing, so that it is never said to be kept or late.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal

from recovery.check import Verdict
from recovery.due import Due, decide, next_at
from recovery.exercise import Drill
from recovery.past import Past
from recovery.standing import Reason
from recovery.value import Instant, Value, rfc3339


class DrillState(Value):
    """A drill now. `due`: its newest slot waits inside its grace; `late`: its grace has passed; `unrecorded`: it
    names no runbook, no run tells of it. `last_*` are of the newest run that held, `newest_*` of the newest whatever
    came of it (`newest_outcome` empty: it is open)."""

    drill: str
    what: str
    runbook: str = ""
    state: Literal["kept", "due", "late", "unrecorded"]
    why: str
    next_at: Instant
    last_at: Instant | None = None
    last_who: str = ""
    last_run: str = ""
    newest_at: Instant | None = None
    newest_who: str = ""
    newest_run: str = ""
    newest_outcome: str = ""


def drills(written: Mapping[str, Drill], runs: Sequence[Past], *, now: datetime) -> tuple[DrillState, ...]:
    """Every drill of the catalog. A slot before the ledger's first run was nobody's to keep."""
    since = min((each.begun_at for each in runs), default=now)
    return tuple(_state(name, drill, runs, since, now) for name, drill in written.items())


def _state(name: str, drill: Drill, runs: Sequence[Past], since: datetime, now: datetime) -> DrillState:
    following = next_at(drill.schedule, now)
    if drill.runbook is None:
        why = "it names no runbook: no run in the ledger counts for it"
        return DrillState(drill=name, what=drill.what, state="unrecorded", why=why, next_at=following)
    mine = [each for each in runs if each.purpose == drill.runbook]
    held = [each for each in mine if each.outcome == Verdict.MET.value]
    last, newest = (max(those, key=lambda each: each.begun_at, default=None) for those in (held, mine))
    said = DrillState(drill=name, what=drill.what, runbook=drill.runbook, state="kept", why="", next_at=following)
    if last is not None:
        said = said.but(last_at=last.begun_at, last_who=last.who, last_run=last.run)
    if newest is not None:
        outcome = newest.outcome
        said = said.but(newest_at=newest.begun_at, newest_who=newest.who, newest_run=newest.run, newest_outcome=outcome)
    decided = decide(drill.schedule, [each.begun_at for each in held], now=now)
    if not isinstance(decided, Due):
        return said.but(why=decided.why)
    if decided.slot < since:
        return said.but(why=f"nothing to keep before the first run in the ledger ({rfc3339(since)})")
    until = decided.slot + drill.schedule.late_after
    why = f"due since {rfc3339(decided.slot)}, at the latest {rfc3339(until)}: {decided.why}"
    return said.but(state="late" if now > until else "due", why=why)


def reasons_of_drills(states: Sequence[DrillState]) -> tuple[Reason, ...]:
    """Those that are late: a promise that is missed."""
    return tuple(
        Reason(outcome="missed", subject=f"drill {each.drill}", fact=each.why, hint=_begins(each.runbook))
        for each in states
        if each.state == "late"
    )


def _begins(runbook: str) -> str:
    return "'dr drill' runs it now" if runbook == "drill" else f"'dr plan {runbook}' begins it"
