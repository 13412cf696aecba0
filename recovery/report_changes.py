"""Changes of roles, and drills of them, as the report shows them: from each run's own outcome and the lists of losses.

Separate from the report of proofs: a proof is of one resource and daily, a change is of a service and rare. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import ValidationError

from recovery.outcome import Changed
from recovery.past import Past
from recovery.plots import Bar, Part, bars
from recovery.rto import SEGMENTS
from recovery.value import Instant, Value

SHOWN_CHANGES = 12


class ShownChange(Value):
    """A change with when it was begun and ended (None: it stands still, or is underway). `lost_commits`: as listed by
    now, which a run that ended before the old data could be read cannot know itself."""

    begun_at: Instant
    ended_at: Instant | None
    changed: Changed
    lost_commits: int | Literal["unproven"]


def changed_of(found: Past) -> Changed | None:
    """What a run says came of its change; None when it is none, or holds nothing that this version can read."""
    if found.said is None or found.said.kind not in ("run.outcome", "run.halted"):
        return None
    try:
        return Changed.model_validate(found.said.facts)
    except ValidationError:
        return None


def shown_changes(runs: Sequence[Past], lost: Mapping[str, int]) -> tuple[ShownChange, ...]:
    """The newest changes, in the order of `runs`. `lost`: run → how many commits of users its list holds."""
    found = [(each, changed) for each in runs if (changed := changed_of(each)) is not None]
    return tuple(
        ShownChange(
            begun_at=each.begun_at,
            ended_at=each.ended_at,
            changed=changed,
            lost_commits=lost.get(each.run, changed.lost_commits),
        )
        for each, changed in found[:SHOWN_CHANGES]
    )


def plotted(changes: Sequence[ShownChange]) -> str:
    """The RTO of each change by segment, oldest first, as SVG; empty where none was measured."""
    measured = [each for each in reversed(changes) if each.changed.rto_seconds is not None]
    return bars([_bar(each) for each in measured], title="RTO of each change of roles by segment", unit="s")


def _bar(shown: ShownChange) -> Bar:
    told = shown.changed
    parts = tuple(
        Part(name=name, amount=seconds, style=f"sg-{name}")
        for name in SEGMENTS
        if isinstance(seconds := told.rto_segments.get(name), float)
    )
    segments = ", ".join(f"{each.name} {each.amount:.2f} s" for each in parts)
    at = shown.begun_at.strftime("%Y-%m-%d %H:%MZ")
    said = f"{at} {told.runbook} {told.source} → {told.target}: {told.outcome} ({segments})"
    return Bar(label=shown.begun_at.strftime("%m-%d %H:%M"), said=said, parts=parts)
