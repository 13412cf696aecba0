"""Since when users were not served, by the records of a run: the beginning of RTO (TRUTH.md). Pure.

Separate from rto.py, which partitions the wall that begins here. A beginning is never guessed: where none is proved it
is None with the reason, since a later instant would tell the outage shorter than it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from pydantic import JsonValue

from recovery.evidence import Record
from recovery.journal import BEGUN, FAILED, RUN_BEGUN, UNGRACEFUL, history, results
from recovery.observation import Observation
from recovery.plan import Plan
from recovery.step import Mode
from recovery.value import Instant, Value, in_utc, rfc3339

SEEN = "seen"
"""The fact beside an order to switch to ungraceful: how the site that is given up looked then (`evidence`)."""


class Switched(Value):
    """A switch to ungraceful in mid-run: when it was asked for, since when it was in force, and, where the probes knew,
    since when the site that it gives up was lost (by the last pass, and at the latest), or that it was `well`."""

    asked_at: Instant
    at: Instant
    lost_at: Instant | None = None
    failed_by: Instant | None = None
    well: bool = False


def evidence(seen: Observation, probes: Iterable[str]) -> dict[str, JsonValue]:
    """The probes of the site that is given up, in one word: `failed` when one fails by the quorum, with the instant of
    the last pass before the first of them, null where nobody saw one, and that of the first question that failed;
    `passed` when all pass; else `unproven`."""
    found = {name: seen.probes[name] for name in probes if name in seen.probes}
    failing = [name for name, each in found.items() if each.outcome == "failed"]
    since = [each.failing_since for each in found.values() if each.outcome == "failed" and each.failing_since]
    well = bool(found) and all(each.outcome == "passed" for each in found.values())
    return {
        "outcome": "failed" if failing else "passed" if well else "unproven",
        "failing": [*failing],
        "failing_since": rfc3339(min(since)) if since else None,
        "failed_by": rfc3339(seen.at - timedelta(seconds=max(found[name].failing_seconds for name in failing)))
        if failing
        else None,
    }


def began(plan: Plan, records: Sequence[Record]) -> tuple[datetime | None, str]:
    """The instant from which users were not served, and why it is not known. A rehearsal counts from its run's
    beginning; a graceful change from the moment at which the old primary took no more writes, or, where its demotion
    was tried more than once, from the first time it was asked to."""
    if not plan.live:
        return next((record.begin for record in records if record.kind == RUN_BEGUN), plan.asked_at), ""
    if history(records).mode(plan.mode) is Mode.GRACEFUL:
        stopped = _stopped(plan, records)
        return stopped, "" if stopped else "the old primary was never asked to stop"
    said = next((record.facts.get("outage_since") for record in records if record.kind == RUN_BEGUN), None)
    if isinstance(said, str):
        return _instant(said), ""
    declared = [found for step, found in results(records).items() if _verb(plan, step) == "declare"]
    since = [found["failing_since"] for found in declared if isinstance(found, dict) and found.get("failing_since")]
    if since:
        return _instant(str(since[-1])), ""
    if (given_up := switched(records)) is not None:
        return _given_up(plan, records, given_up)
    return None, "no probe saw the outage begin: give it with --outage-since"


def over_by(plan: Plan, records: Sequence[Record]) -> datetime | None:
    """The latest instant at which the old site may have taken commits: where RPO ends. Where probes alone tell of the
    disaster it lies between their last pass, where RTO begins, and the first question that failed: what was committed
    between the two is lost as well. None where the beginning is not known."""
    begin, _ = began(plan, records)
    if begin is None or not plan.live or history(records).mode(plan.mode) is Mode.GRACEFUL:
        return begin
    told = [found for step, found in results(records).items() if _verb(plan, step) == "declare"]
    by_probes = [
        (_instant(str(found["failing_since"])), _instant(str(found["failed_by"])))
        for found in told
        if isinstance(found, dict) and found.get("failing_since") and found.get("failed_by")
    ]
    given_up = switched(records)
    if given_up is not None and given_up.lost_at is not None and given_up.failed_by is not None:
        by_probes.append((given_up.lost_at, given_up.failed_by))
    return max([begin, *(by for since, by in by_probes if since == begin)])


def switched(records: Sequence[Record]) -> Switched | None:
    """When the run was switched to ungraceful; None for one that never was."""
    ordered = next((record for record in records if record.kind == UNGRACEFUL), None)
    if ordered is None:
        return None
    asked, told = ordered.facts.get("asked_at"), ordered.facts.get(SEEN)
    seen: Mapping[str, JsonValue] = told if isinstance(told, dict) else {}
    since = seen.get("failing_since")
    return Switched(
        asked_at=_instant(asked) if isinstance(asked, str) else ordered.begin,
        at=ordered.begin,
        lost_at=_instant(since) if isinstance(since, str) else None,
        failed_by=_instant(by) if isinstance(by := seen.get("failed_by"), str) else None,
        well=seen.get("outcome") == "passed",
    )


def _given_up(plan: Plan, records: Sequence[Record], given_up: Switched) -> tuple[datetime | None, str]:
    """A change that began gracefully. Its own demotion may have stopped the writes before the old site was lost; that
    counts where it is known that the site lived until then: by the demotion's end, or since its probes pass still. One
    that failed before the last pass had let users write again."""
    stopped = _stopped(plan, records, after=given_up.lost_at)
    if given_up.lost_at is not None:
        return (given_up.lost_at if stopped is None else min(given_up.lost_at, stopped)), ""
    if stopped is not None and (_quiet(plan, records) or given_up.well):
        return stopped, ""
    return None, "no probe had seen the outage begin when the run was switched to ungraceful"


def _stopped(plan: Plan, records: Sequence[Record], after: datetime | None = None) -> datetime | None:
    """From when the old primary took no more writes by this run's demotion; None before it was asked to stop. Attempts
    that had failed before `after` don't count."""
    failed = {
        (record.facts.get("step"), record.facts.get("attempt"))
        for record in records
        if record.kind == FAILED and after is not None and (record.end or record.begin) < after
    }
    asked = [
        record.begin
        for record in records
        if record.kind == BEGUN
        and record.facts.get("verb") == "demote"
        and (record.facts.get("step"), record.facts.get("attempt")) not in failed
    ]
    quiet = _quiet(plan, records)
    return min(quiet) if quiet and len(quiet) == len(asked) else min(asked, default=None)


def _quiet(plan: Plan, records: Sequence[Record]) -> list[datetime]:
    """The instants that demotions which ended have told."""
    told = [found for step, found in results(records).items() if _verb(plan, step) == "demote"]
    return [_instant(str(found["at"])) for found in told if isinstance(found, dict) and found.get("at")]


def _instant(text: str) -> datetime:
    return in_utc(datetime.fromisoformat(text))


def _verb(plan: Plan, step: str) -> str:
    return next((each.verb for each in plan.steps if each.id == step), "")
