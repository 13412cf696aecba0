"""Moments as people write them, on the command line and in forms."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from recovery.errors import BadInput
from recovery.moment import instant, past

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def test_an_instant_with_its_zone_is_taken_as_it_is() -> None:
    assert instant("2026-11-24T03:00:00+01:00", now=NOW) == datetime(2026, 11, 24, 2, 0, tzinfo=UTC)


def test_some_time_ago_is_counted_from_now() -> None:
    assert instant("15 min ago", now=NOW) == NOW - timedelta(minutes=15)


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("2026-11-24T03:00:00", "'2026-11-24T03:00:00' has no zone"),
        ("yesterday", "'yesterday' is not a moment"),
        ("soon ago", "'soon ago' is not a moment"),
        ("3000000 days ago", "'3000000 days ago' is not a moment"),
        ("9999-12-31T23:59:59-10:00", "'9999-12-31T23:59:59-10:00' is not a moment"),
    ],
)
def test_anything_else_is_refused_with_the_way_to_write_it(text: str, fact: str) -> None:
    with pytest.raises(BadInput, match=fact) as refused:
        instant(text, now=NOW)
    assert "15 min ago" in refused.value.hint


def test_what_happened_did_not_happen_in_the_future() -> None:
    assert past("15 min ago", now=NOW, what="an outage") == NOW - timedelta(minutes=15)
    assert past("2026-11-24T12:00:00Z", now=NOW, what="an outage") == NOW
    with pytest.raises(BadInput, match="an outage cannot lie in the future: 2026-11-24 13:00:00Z is after"):
        past("2026-11-24T13:00:00Z", now=NOW, what="an outage")
