"""Numbers and instants as people read them in a table: short, with their unit, never ambiguous about the zone.

Separate because every command that shows something writes the same quantity in the same way.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from recovery.objective import Objective, duration_text

_SIZES = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3))


def size(count: float) -> str:
    """Bytes in decimal units: 42321130 → `42.3 MB`."""
    for unit, factor in _SIZES:
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count:.0f} B"


def took(seconds: float | None) -> str:
    """A duration with one or two units: `0.31 s`, `12.3 s`, `4 min 10 s`, `3 h 20 min`, `12 d 4 h`."""
    if seconds is None:
        return "—"
    if seconds < 9.995:
        return f"{seconds:.2f} s"
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for big, small, factor, unit in (("min", "s", 60, 1), ("h", "min", 3600, 60), ("d", "h", 86400, 3600)):
        if whole < factor * (60 if big == "min" else 24 if big == "h" else 10**9):
            rest = whole % factor // unit
            return f"{whole // factor} {big}" + (f" {rest} {small}" if rest else "")
    raise AssertionError(seconds)


def forecast_words(point: Any) -> str:
    """What data and WAL of a point (as JSON) were forecast to take, and by what: `forecast 3.20 s, from 12 restores at
    west`."""
    said = f", {point['forecast_from']}" if point.get("forecast_from") else ""
    return f"forecast {took(point['forecast_seconds'])}{said}"


def ago(seconds: float) -> str:
    """An age with its largest unit: `12 s ago`, `5 min ago`, `3 h ago`, `8 d ago`."""
    if seconds < 0:
        return f"in {_largest(-seconds)}"
    return f"{_largest(seconds)} ago"


def _largest(seconds: float) -> str:
    for unit, factor, until in (("s", 1, 90), ("min", 60, 5400), ("h", 3600, 172800)):
        if seconds < until:
            return f"{seconds / factor:.0f} {unit}"
    return f"{seconds / 86400:.0f} d"


def moment(at: str | datetime | None) -> str:
    """An instant in UTC to the second: `2026-11-24 17:29:27Z`."""
    if at is None:
        return "—"
    when = datetime.fromisoformat(at) if isinstance(at, str) else at
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def short(at: str | datetime | None) -> str:
    """An instant in UTC to the minute, without its year: `11-24 17:29`. Where a column's head says UTC."""
    return "—" if at is None else moment(at)[5:16]


def exposed(seconds: float | None) -> str:
    """Exposure: zero is said as such, and what is not known is not a number."""
    if seconds is None:
        return "unproven"
    return "none" if seconds == 0 else took(seconds)


def promised(objective: Objective) -> str:
    """An objective in one line."""
    rpo, rto, age = (duration_text(each) for each in (objective.rpo, objective.rto, objective.proof_age))
    return f"RPO {rpo}, RTO {rto}, proven each {age}"
