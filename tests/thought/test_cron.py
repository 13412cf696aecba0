"""Cron lines mean what crontab(5) says, forwards and backwards."""

from __future__ import annotations

import functools
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recovery.cron import interval, next_after, parse, previous_before

LINES = st.sampled_from(
    [
        "0 3 * * *", "*/7 * * * *", "5 4 * * sun", "0 0 1,15 * *", "0 12 29 2 *", "0 2 1-7 * 0",
        "30 */6 * jan-mar 1-5", "59 23 31 12 *", "0 0 29 2 */7",
    ]
)  # fmt: skip
MOMENTS = st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 -- zone added


longest_wait = functools.cache(interval)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.mark.parametrize(
    ("line", "now", "following"),
    [
        ("0 3 * * *", "2026-11-24T03:00:00Z", "2026-11-25T03:00:00Z"),
        ("0 3 * * *", "2026-11-24T02:59:59.999999Z", "2026-11-24T03:00:00Z"),
        ("17 * * * *", "2026-12-31T23:17:00Z", "2027-01-01T00:17:00Z"),
        ("0 2 * * 7", "2026-11-24T00:00:00Z", "2026-11-29T02:00:00Z"),
        ("0 2 * * SUN", "2026-11-24T00:00:00Z", "2026-11-29T02:00:00Z"),
        ("0 0 29 2 *", "2026-11-24T00:00:00Z", "2028-02-29T00:00:00Z"),
        ("0 0 29 2 *", "2097-01-01T00:00:00Z", "2104-02-29T00:00:00Z"),
        ("0 0 13 * fri", "2026-11-24T00:00:00Z", "2026-11-27T00:00:00Z"),
        ("0 0 13 * */2", "2026-11-24T00:00:00Z", "2026-12-13T00:00:00Z"),
        ("10/20 5 * * *", "2026-11-24T05:10:00Z", "2026-11-24T05:30:00Z"),
        ("0 3 * * *", "2026-11-24T04:30:00+02:00", "2026-11-24T03:00:00Z"),
    ],
)
def test_the_next_moment_is_the_first_one_strictly_after(line: str, now: str, following: str) -> None:
    assert next_after(line, at(now)) == at(following)


@given(line=LINES, now=MOMENTS)
def test_no_moment_lies_between_the_previous_and_the_next(line: str, now: datetime) -> None:
    before, after = previous_before(line, now), next_after(line, now)
    assert before < now < after
    between = next_after(line, before)
    assert between in (now, after)
    assert previous_before(line, after) in (now, before)


@given(line=LINES, now=MOMENTS)
def test_no_wait_is_longer_than_the_interval(line: str, now: datetime) -> None:
    moment = next_after(line, now)
    assert next_after(line, moment) - moment <= longest_wait(line)


@pytest.mark.parametrize(
    ("line", "longest"),
    [
        ("0 3 * * *", timedelta(days=1)),
        ("*/5 * * * *", timedelta(minutes=5)),
        ("0,10 3 * * *", timedelta(hours=23, minutes=50)),
        ("* * * * mon", timedelta(days=6, minutes=1)),
        ("0 2 1 * *", timedelta(days=31)),
        ("0 2 29 2 *", timedelta(days=4 * 365 + 1)),
        ("0 2 29 2 */7", timedelta(days=28 * 365 + 7)),
    ],
)
def test_the_interval_is_the_longest_wait(line: str, longest: timedelta) -> None:
    assert interval(line) == longest


@pytest.mark.parametrize(
    "line",
    [
        "", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * 32 * *", "* * * 13 *", "* * * * 8",
        "*/0 * * * *", "5-1 * * * *", "a * * * *", "* * * foo *", "1- * * * *", "1,,2 * * * *", "-1 * * * *",
        "0 0 30 2 *", "0 0 31 4,6,9,11 *", "*/99999 * * * *", "٣ * * * *", "mon * * * *",
    ],
)  # fmt: skip
def test_what_no_calendar_has_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(line)


def test_a_naive_instant_is_refused() -> None:
    with pytest.raises(ValueError, match="no zone"):
        next_after("0 3 * * *", datetime(2026, 11, 24))  # noqa: DTZ001 -- the point of the test


def test_a_year_of_five_minute_slots_is_thought_through_quickly() -> None:
    """`slips` walks slots one by one, so one step has to stay far below a millisecond."""
    moment, seen = datetime(2026, 1, 1, tzinfo=UTC), 0
    while seen < 2000:
        moment, seen = next_after("*/5 * * * *", moment), seen + 1
    assert moment == datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=5 * 2000)
