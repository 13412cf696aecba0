"""The catalog's drills: when each is due, when it was done last and by whom, from the ledger's runs alone. Pure.

Separate from the duties of one resource: a drill is of the whole platform, and one without a runbook is done by people.
Of those the ledger knows what one of them has told and signed; before the first word nothing is kept or late.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal

from recovery.check import Verdict
from recovery.due import Due, decide, next_at
from recovery.evidence import Signature
from recovery.exercise import Drill
from recovery.past import Past
from recovery.standing import Reason
from recovery.step import Name
from recovery.value import Instant, Value, canonical, rfc3339

HELD = "drill-held"
"""The purpose of the run in which people tell of a drill of theirs; its subject is the drill."""


class Held(Value):
    """A drill that people held, as one of them tells it: when, what came of it, and what was found, in his words."""

    schema_version: Literal[1] = 1
    drill: Name
    held_at: Instant
    verdict: Verdict
    who: str
    why: str = ""
    told_at: Instant
    signature: Signature | None = None

    def signed_bytes(self) -> bytes:
        """What the signature covers."""
        return canonical(self.but(signature=None))


class DrillState(Value):
    """A drill now. `due`: its newest slot waits inside its grace; `late`: its grace has passed; `unrecorded`: it
    names no runbook, and nobody has told of it. `last_*` are of the newest run that held, `newest_*` of the newest,
    whatever came of it (`newest_outcome` empty: it is open)."""

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
    """Every drill of the catalog. A slot before the ledger's first run was nobody's to keep, and what people held
    before it makes nothing older."""
    since = min((each.begun_at for each in runs if each.purpose != HELD), default=now)
    return tuple(_state(name, drill, runs, since, now) for name, drill in written.items())


def _state(name: str, drill: Drill, runs: Sequence[Past], since: datetime, now: datetime) -> DrillState:
    following = next_at(drill.schedule, now)
    mine = [each for each in runs if _of(each, name, drill)]
    if drill.runbook is None and not mine:
        why = f"people do it, and nobody has told of it yet: dr drill --held {name}"
        return DrillState(drill=name, what=drill.what, state="unrecorded", why=why, next_at=following)
    held = [each for each in mine if each.outcome == Verdict.MET.value]
    last, newest = (max(those, key=lambda each: each.begun_at, default=None) for those in (held, mine))
    book = drill.runbook or ""
    said = DrillState(drill=name, what=drill.what, runbook=book, state="kept", why="", next_at=following)
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


def _of(run: Past, name: str, drill: Drill) -> bool:
    if drill.runbook is None:
        return (run.purpose, run.resource) == (HELD, name)
    return run.purpose == drill.runbook


def reasons_of_drills(states: Sequence[DrillState]) -> tuple[Reason, ...]:
    """Those that are late: a promise that is missed."""
    return tuple(
        Reason(outcome="missed", subject=f"drill {each.drill}", fact=each.why, hint=_begins(each))
        for each in states
        if each.state == "late"
    )


def _begins(late: DrillState) -> str:
    if not late.runbook:
        return f"people do it; tell of it with 'dr drill --held {late.drill} --as NAME --verdict met'"
    return "'dr drill' runs it now" if late.runbook == "drill" else f"'dr plan {late.runbook}' begins it"
