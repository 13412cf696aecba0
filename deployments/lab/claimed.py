"""What the engine claims of a change of roles beside what an outside observer saw: figure by figure, with differences.

Separate from observed.py, which knows no engine: whoever compares must not be who measures. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from recovery.losses import Losses
from recovery.outcome import Changed
from recovery.value import Value, in_utc


class Row(Value):
    """One figure on both sides. Figures are numbers in `unit`, or the word `unproven`. `difference`: claimed less
    observed; None when one of them is unproven. `meaning` says what both sides count."""

    what: str
    unit: str
    claimed: float | str
    observed: float | str
    difference: float | None
    meaning: str


def rows(changed: Changed, seen: Mapping[str, Any], *, listed: int | None = None) -> tuple[Row, ...]:
    """RTO, RPO and lost commits against the observer's document. `listed`: the commits that `dr losses` listed since;
    until then the claim of the run itself stands."""
    outage = outage_of(changed, seen["outages"])
    away = None if outage is None else float(outage["seconds"])
    lost = changed.lost_commits if listed is None else listed
    return (
        _row(
            "RTO", "s", changed.rto_seconds, away,
            "from the last passed probe (or the demotion) to the verified answer; the observer: from write to write",
        ),
        _row(
            "RPO", "s", changed.rpo_seconds, seen["loss_seconds"],
            "from what came back to the first failed probe; the observer: how far back its missing writes reach",
        ),
        _row(
            "lost", "commits", lost, seen["missing_count"],
            "commits of users, as the old data tells; the observer: its own acknowledged rows that are missing",
        ),
    )  # fmt: skip


def outage_of(changed: Changed, outages: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The observer's outage that this change ended: the longest of those that touch the claimed one, or None."""
    begin, end = changed.outage_began_at, changed.served_at
    touching = [
        each
        for each in outages
        if (begin is None or each["end"] is None or _instant(each["end"]) >= begin)
        and (end is None or _instant(each["begin"]) <= end)
    ]
    return max(touching, key=lambda each: float(each["seconds"]), default=None)


def unlisted(missing: Iterable[int], lists: Iterable[Losses], *, relation: str = "rows") -> list[int]:
    """The acknowledged rows that are missing and stand in no list of losses: each would be a lie of the list."""
    listed = {
        row.row["seq"]
        for each in lists
        for lost in each.transactions
        for row in lost.rows
        if row.relation.rpartition(".")[2] == relation and row.row and "seq" in row.row
    }
    return sorted(set(missing) - listed)


def _row(what: str, unit: str, claimed: float | str | None, observed: float | str | None, meaning: str) -> Row:
    claimed = "unproven" if claimed is None else claimed
    observed = "unproven" if observed is None else observed
    both = not isinstance(claimed, str) and not isinstance(observed, str)
    difference = round(claimed - observed, 3) if both else None  # type: ignore[operator]
    return Row(what=what, unit=unit, claimed=claimed, observed=observed, difference=difference, meaning=meaning)


def _instant(text: str) -> datetime:
    return in_utc(datetime.fromisoformat(text))
