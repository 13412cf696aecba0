"""Objectives: the RPO, the RTO and how old a proof may be, by data category; and the units people write them in."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import BeforeValidator, PlainSerializer

from recovery.value import Value

_UNITS = {"ms": 0.001, "s": 1, "min": 60, "h": 3600, "day": 86400, "days": 86400}


def duration(text: object) -> timedelta:
    """`15 min`, `1 h`, `30 days`, `1.5 s` as a timedelta. Raises ValueError for a bare number or another unit."""
    if isinstance(text, timedelta):
        return text
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([a-z]+)", text) if isinstance(text, str) else None
    if found is None or found[2] not in _UNITS:
        raise ValueError(f"{text!r} is not a duration; write a number and one of {', '.join(_UNITS)}, like '15 min'")
    try:
        return timedelta(seconds=float(found[1]) * _UNITS[found[2]])
    except OverflowError:
        raise ValueError(f"{found[0][:20]!r}… is longer than any duration; write one like '15 min'") from None


def duration_text(span: timedelta) -> str:
    """The shortest way to write `span` with one unit: 900 s → `15 min`."""
    seconds = span.total_seconds()
    for unit in ("days", "h", "min", "s"):
        count = seconds / _UNITS[unit]
        if count >= 1 and count == int(count):
            return f"{int(count)} {'day' if unit == 'days' and count == 1 else unit}"
    return f"{seconds:g} s"


Duration = Annotated[
    timedelta, BeforeValidator(duration), PlainSerializer(duration_text, return_type=str, when_used="json")
]


class Objective(Value):
    """What was promised for a category of data."""

    category: str
    rpo: Duration
    rto: Duration
    proof_age: Duration = timedelta(days=1)
    strategy: Literal["hot-standby", "warm-backup", "infrastructure-as-code", "cold-backup"] | None = None
