"""Moments as people write them: RFC 3339 with a zone, or `15 min ago`. Resolved once, where they enter. Pure.

Separate because the command line and Prefect's forms must understand the same words.
"""

from __future__ import annotations

from datetime import datetime

from recovery.errors import BadInput
from recovery.objective import duration
from recovery.value import in_utc


def instant(text: str, *, now: datetime) -> datetime:
    """The absolute instant. Raises BadInput for a naive time: without a zone it has no meaning."""
    try:
        if text.endswith(" ago"):
            return now - duration(text.removesuffix(" ago"))
        return in_utc(datetime.fromisoformat(text))
    except (ValueError, OverflowError) as error:
        fact = f"{text!r} has no zone" if "zone" in str(error) else f"{text!r} is not a moment"
        raise BadInput(
            fact, hint="write it with Z or an offset, like 2026-11-24T03:00:00Z, or like '15 min ago'"
        ) from None


def past(text: str, *, now: datetime, what: str) -> datetime:
    """The instant of something that happened. Raises BadInput for a time that has not come."""
    at = instant(text, now=now)
    if at > now:
        raise BadInput(
            f"{what} cannot lie in the future: {at:%Y-%m-%d %H:%M:%S}Z is after {now:%Y-%m-%d %H:%M:%S}Z, which is now",
            hint="is it written in another zone? times here are UTC; or write it like '15 min ago'",
        )
    return at
