"""The journal of a run folded into what the resolver needs. Pure: records in the order of their chain → values.

Separate from evidence.py, which knows how records are chained, not what they say. Kinds that are read here:
step.begun {step, attempt} · step.ended {step, attempt, result} · step.failed {step, attempt, final, fact, hint} ·
order.paused {why} · order.resumed · order.cancelled {why} · order.skipped {step} · order.retried {step, tries} ·
order.ungraceful · order.confirmed {step, who} · run.resumed. All others are passed over.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from pydantic import JsonValue

from recovery.drive import History, Tried
from recovery.evidence import Record

BEGUN, ENDED, FAILED = "step.begun", "step.ended", "step.failed"
PAUSED, RESUMED, CANCELLED = "order.paused", "order.resumed", "order.cancelled"
SKIPPED, RETRIED, UNGRACEFUL = "order.skipped", "order.retried", "order.ungraceful"
CONFIRMED = "order.confirmed"
STEP_UNDONE, STEP_KEPT = "step.undone", "step.kept"
"""After a cancellation: what a step had changed was given back {step, why}, or it stays so {step, kept}."""
RUN_BEGUN, RUN_ENDED = "run.begun", "run.ended"


def history(records: Iterable[Record], before: History | None = None) -> History:
    """What was tried for each step, and what people ordered, up to the last of the records. `before`: what the records
    before these were folded to, so that a long run is not folded anew at each look."""
    before = before or History()
    steps = dict(before.steps)
    paused, cancelled, ungraceful = before.paused, before.cancelled, before.ungraceful
    for record in records:
        match record.kind:
            case "order.paused":
                paused = _why(record)
            case "order.resumed":
                paused = ""
            case "order.cancelled":
                cancelled = _why(record)
            case "order.ungraceful":
                ungraceful = True
            case "run.resumed":  # whoever drove it is gone: what was open then was cut off
                died = {name: each for name, each in steps.items() if each.is_open}
                steps |= {name: replace(each, is_open=False, cut_off=each.cut_off + 1) for name, each in died.items()}
            case _:
                step = record.facts.get("step")
                if isinstance(step, str):
                    steps[step] = _tried(steps.get(step, Tried()), record)
    return History(steps=steps, paused=paused, cancelled=cancelled, ungraceful=ungraceful)


def _tried(tried: Tried, record: Record) -> Tried:
    """The step's row with one more record; orders of people are told apart from what the engine did."""
    match record.kind:
        case "step.begun":
            attempt = _number(record, "attempt", tried.begun + 1)
            return replace(tried, begun=max(tried.begun, attempt), last_begun_at=record.begin, is_open=True)
        case "step.ended":
            # A success closes the row of failures before it: if this truth lapses later, its pauses begin anew.
            closed = replace(
                tried, failed=0, last_failed_at=None, last_fact="", last_hint="", final=False, is_open=False
            )
            return replace(closed, ended=tried.ended + 1)
        case "step.failed":
            return replace(
                tried,
                begun=max(tried.begun, _number(record, "attempt", 0)),
                is_open=False,
                failed=tried.failed + 1,
                last_failed_at=record.end or record.begin,
                last_fact=_text(record, "fact"),
                last_hint=_text(record, "hint"),
                final=record.facts.get("final") is True,
            )
        case _:
            return _ordered(tried, record)


def _ordered(tried: Tried, record: Record) -> Tried:
    match record.kind:
        case "order.skipped":
            return replace(tried, skipped=True)
        case "order.confirmed":
            return replace(tried, confirmed=_text(record, "who") or record.who)
        case "order.retried":
            # A person who orders another try overrules a failure that called itself final.
            return replace(tried, extra_tries=tried.extra_tries + _number(record, "tries", 1), final=False)
        case _:
            return tried


def results(records: Iterable[Record]) -> dict[str, JsonValue]:
    """The result of the last success of each step."""
    return {step: record.facts.get("result") for record, step in _of_kind(records, ENDED)}


def attempts(records: Iterable[Record]) -> dict[str, tuple[int, ...]]:
    """All attempts that were begun, by step: what may have left something behind."""
    found: dict[str, set[int]] = {}
    for record, step in _of_kind(records, BEGUN):
        found.setdefault(step, set()).add(_number(record, "attempt", 1))
    return {step: tuple(sorted(numbers)) for step, numbers in found.items()}


def outcome(records: Sequence[Record]) -> str | None:
    """The outcome that a `run.ended` record names, or None while the run is open."""
    if not records or records[-1].kind != RUN_ENDED:
        return None
    return _text(records[-1], "outcome")


def generation(records: Iterable[Record]) -> int:
    """The newest generation that wrote to the run; 0 when there is no record."""
    return max((record.generation for record in records), default=0)


def _of_kind(records: Iterable[Record], kind: str) -> Iterable[tuple[Record, str]]:
    for record in records:
        step = record.facts.get("step")
        if record.kind == kind and isinstance(step, str):
            yield record, step


def _why(record: Record) -> str:
    return _text(record, "why") or f"by {record.who}"


def _text(record: Record, name: str) -> str:
    found = record.facts.get(name)
    return found if isinstance(found, str) else ""


def _number(record: Record, name: str, otherwise: int) -> int:
    value = record.facts.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else otherwise
