"""A run as the ledger tells it in few records: its first, the one in which it says what came of it, its last. Pure.

Separate from the journal, which folds a whole chain to drive it on: here thousands of runs are read at once, for lists,
status and the scorecard.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import JsonValue, ValidationError

from recovery.check import Verdict
from recovery.evidence import Record
from recovery.journal import RUN_ENDED
from recovery.proof import Proof
from recovery.value import Instant, Value
from recovery.verification import AFTER

SAYS = frozenset({"proof", "backup", "restore", "mark", "sweep", "slots", "run.outcome", "run.halted"})
"""Kinds of records in which a run says what came of it."""


class Past(Value):
    """One run. `asked` is what was asked for (a proof's sort, a backup's kind); `outcome` is empty while it is open.

    `said` is the record in which the run says what came of it (one of SAYS), None without one.
    `records` counts its records; `sealed`: `signed` with a manifest, else `open`.
    """

    run: str
    purpose: str
    resource: str
    asked: str
    level: str = ""
    begun_at: Instant
    ended_at: Instant | None = None
    outcome: str = ""
    records: int
    sealed: str
    who: str
    before: str = ""
    """The run before it under its lease, as its first record names it."""
    said: Record | None = None

    @property
    def seconds(self) -> float | None:
        """Wall clock from its first record to its end; None while it is open."""
        return None if self.ended_at is None else (self.ended_at - self.begun_at).total_seconds()


def past(run: str, *, first: Record, said: Record | None, last: Record, records: int, signed: bool) -> Past:
    """The run from its first record, the last but one, and the last."""
    ended = last.kind == RUN_ENDED
    arguments = first.facts.get("arguments")
    given = arguments if isinstance(arguments, dict) else {}
    return Past(
        run=run,
        purpose=str(first.facts.get("purpose") or first.kind),
        resource=str(given.get("resource") or first.subject),
        asked=_asked(given),
        level=str(given.get("level") or ""),
        begun_at=first.begin,
        ended_at=last.begin if ended else None,
        outcome=str(last.facts.get("outcome") or "") if ended else "",
        records=records,
        sealed="signed" if signed else "open",
        who=first.who,
        before=str(behind.get("run", "")) if isinstance(behind := first.facts.get(AFTER), dict) else "",
        said=said if said is not None and said.kind in SAYS else None,
    )


def _asked(arguments: dict[str, JsonValue]) -> str:
    what = str(arguments.get("sort") or arguments.get("kind") or arguments.get("into") or "")
    planted = arguments.get("mutate")
    return f"{what} + {planted}" if planted else what


def marked_at(runs: Sequence[Past]) -> tuple[Instant, ...]:
    """When the marks on record were begun, oldest first; one that came to nothing is none."""
    return tuple(sorted(each.begun_at for each in runs if each.purpose == "mark" and each.outcome == Verdict.MET.value))


def proof_of(found: Past) -> Proof | None:
    """The proof's document, or None when the run holds none that this version can read."""
    if found.said is None or found.said.kind != "proof":
        return None
    try:
        return Proof.model_validate(found.said.facts)
    except ValidationError:
        return None
