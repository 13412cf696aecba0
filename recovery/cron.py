"""Cron lines: five fields, in UTC; the next and the previous moment they name. Pure.

Separate because schedules, lateness and the catalog's contradictions must agree on what a line means. Fields are those
of crontab(5): minute, hour, day of month, month, day of week (0 or 7 is Sunday), with `*`, lists, ranges and steps, and
the English three-letter names of months and days. As there, when both days are restricted either of them is enough.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from recovery.value import in_utc

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_HORIZON_DAYS = 41 * 366
"""A 29 February that is a Sunday comes at least every 40 years; whatever parses comes more often."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cron:
    """A parsed line: the minutes, hours, days and months it names, each sorted."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either_day: bool
    """Both days are restricted: a day that matches one of them is enough."""

    def names_day(self, day: datetime) -> bool:
        """Whether the line names this calendar day."""
        if day.month not in self.months:
            return False
        of_month, of_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return (of_month or of_week) if self.either_day else (of_month and of_week)


def parse(line: str) -> Cron:
    """A cron line. Raises ValueError that says which field is wrong, also for a day that no month has."""
    fields = line.lower().split()
    if len(fields) != 5:
        raise ValueError(f"{line!r} has {len(fields)} fields; a cron line has 5: minute hour day month weekday")
    minute, hour, day, month, weekday = fields
    cron = Cron(
        minutes=_field(minute, "minute", 0, 59),
        hours=_field(hour, "hour", 0, 23),
        days=frozenset(_field(day, "day of month", 1, 31)),
        months=frozenset(_field(month, "month", 1, 12, names=_MONTHS, first=1)),
        weekdays=frozenset(each % 7 for each in _field(weekday, "day of week", 0, 7, names=_DAYS)),
        either_day=not day.startswith("*") and not weekday.startswith("*"),
    )
    if not cron.either_day and min(cron.days) > max(_longest(each) for each in cron.months):
        raise ValueError(f"{line!r} names a day of month that its months never have")
    return cron


def _longest(month: int) -> int:
    return {2: 29, 4: 30, 6: 30, 9: 30, 11: 30}.get(month, 31)


def _field(text: str, what: str, low: int, high: int, names: Sequence[str] = (), first: int = 0) -> tuple[int, ...]:
    found: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"(\*|(\w+)(?:-(\w+))?)(?:/(\d{1,4}))?", part, re.ASCII)
        if match is None:
            raise ValueError(f"{part!r} is not a {what}; write *, a number, a range 1-5 or a step */10")
        whole, begin_text, end_text, step_text = match.groups()
        begin, end = low, high
        if whole != "*":
            begin = _number(begin_text, what, names, first)
            open_ended = step_text is not None and end_text is None
            end = _number(end_text, what, names, first) if end_text else (high if open_ended else begin)
        step = int(step_text) if step_text else 1
        if not low <= begin <= end <= high or step < 1:
            raise ValueError(f"{part!r} is outside the {what}'s range {low}-{high}, or runs backwards")
        found.update(range(begin, end + 1, step))
    return tuple(sorted(found))


def _number(text: str, what: str, names: Sequence[str], first: int) -> int:
    if text in names:
        return names.index(text) + first
    if not re.fullmatch(r"\d{1,4}", text, re.ASCII):
        raise ValueError(f"{text!r} is not a {what}")
    return int(text)


def next_after(line: str, at: datetime) -> datetime:
    """The first moment that `line` names strictly after `at`. Raises ValueError for a bad line or a naive instant."""
    cron, begin = parse(line), in_utc(at)
    return next(
        moment
        for day in _named_days(cron, begin, direction=1)
        for hour in cron.hours
        for minute in cron.minutes
        if (moment := day.replace(hour=hour, minute=minute)) > begin
    )


def previous_before(line: str, at: datetime) -> datetime:
    """The last moment that `line` names strictly before `at`. Raises ValueError for a bad line or a naive instant."""
    cron, end = parse(line), in_utc(at)
    return next(
        moment
        for day in _named_days(cron, end, direction=-1)
        for hour in reversed(cron.hours)
        for minute in reversed(cron.minutes)
        if (moment := day.replace(hour=hour, minute=minute)) < end
    )


def _named_days(cron: Cron, at: datetime, *, direction: int) -> Iterator[datetime]:
    """The midnights of the days that `cron` names from the day of `at` on, within the horizon."""
    today = at.replace(hour=0, minute=0, second=0, microsecond=0)
    days = (today + timedelta(days=direction * each) for each in range(_HORIZON_DAYS))
    return (day for day in days if cron.names_day(day))


def interval(line: str) -> timedelta:
    """The longest wait between two neighbouring moments of `line`, as a promise about loss must take it.

    Looked for over the 41 years from 2024, which hold two of the rarest day that a line can name.
    """
    cron, begin = parse(line), datetime(2024, 1, 1, tzinfo=UTC)
    day = [timedelta(hours=hour, minutes=minute) for hour in cron.hours for minute in cron.minutes]
    waits = [later - earlier for earlier, later in pairwise(day)]
    named = _named_days(cron, begin, direction=1)
    waits += [(later + day[0]) - (earlier + day[-1]) for earlier, later in pairwise(named)]
    return max(waits)
