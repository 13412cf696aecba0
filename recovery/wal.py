"""The WAL archive in thought: file names, contiguity, gaps, timelines, and what can be reached from which backup. Pure.

Separate from point.py because names and gaps are needed by the archiver, the restore and the reports alike. Names are
Postgres's own (src/include/access/xlog_internal.h): timeline, log, segment as 24 hexadecimal digits, 4 GiB a log.
A segment's *number* is its begin divided by the segment size; LSN ranges are half open.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Literal

from pydantic import Field

from recovery.errors import NoPoint
from recovery.point import SEGMENT_BYTES, Backup, segment_name
from recovery.value import Instant, Value

_NAME = re.compile(
    r"(?P<tli>[0-9A-F]{8})"
    r"(?:(?P<history>\.history)|(?P<log>[0-9A-F]{8})(?P<seg>[0-9A-F]{8})(?:(?P<partial>\.partial)|\.(?P<offset>[0-9A-F]{8})\.backup)?)"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """A full WAL segment."""

    timeline: int
    number: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Partial:
    """The last segment of a timeline that ended in the middle of it."""

    timeline: int
    number: int


@dataclass(frozen=True, kw_only=True, slots=True)
class HistoryFile:
    """The file that tells a timeline's ancestors."""

    timeline: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Label:
    """A backup history file: a base backup began at `offset` of that segment."""

    timeline: int
    number: int
    offset: int


WalName = Segment | Partial | HistoryFile | Label


def parse(name: str, segment_bytes: int = SEGMENT_BYTES) -> WalName:
    """What a WAL file's name says. Raises ValueError for any other name and for a segment beyond its log."""
    found = _NAME.fullmatch(name)
    if found is None or int(found["tli"], 16) == 0:
        raise ValueError(f"{name!r} is not the name of a WAL file")
    timeline = int(found["tli"], 16)
    if found["history"]:
        return HistoryFile(timeline=timeline)
    per_log = 0x100000000 // segment_bytes
    if int(found["seg"], 16) >= per_log:
        raise ValueError(f"{name!r} is beyond its log: with segments of {segment_bytes} bytes a log has {per_log}")
    number = int(found["log"], 16) * per_log + int(found["seg"], 16)
    if found["partial"]:
        return Partial(timeline=timeline, number=number)
    if found["offset"]:
        return Label(timeline=timeline, number=number, offset=int(found["offset"], 16))
    return Segment(timeline=timeline, number=number)


def name_of(timeline: int, number: int, segment_bytes: int = SEGMENT_BYTES) -> str:
    """The file name of a segment by its number."""
    return segment_name(timeline, number * segment_bytes, segment_bytes)


def following(name: str, segment_bytes: int = SEGMENT_BYTES) -> str:
    """The next segment's name on the same timeline. Raises ValueError when `name` is not a full segment's."""
    return _moved(name, 1, segment_bytes)


def preceding(name: str, segment_bytes: int = SEGMENT_BYTES) -> str:
    """The segment's name before it on the same timeline. Raises ValueError for the very first one."""
    return _moved(name, -1, segment_bytes)


def _moved(name: str, by: int, segment_bytes: int) -> str:
    segment = parse(name, segment_bytes)
    if not isinstance(segment, Segment) or segment.number + by < 0:
        raise ValueError(f"{name!r} has no neighbour on that side")
    return name_of(segment.timeline, segment.number + by, segment_bytes)


class Stretch(Value):
    """Segments of one timeline without a gap, by number, both ends included."""

    timeline: int
    first: int
    last: int


class Gap(Value):
    """Missing segments between two stretches of one timeline, by number, both ends included."""

    timeline: int
    first: int
    last: int


def contiguous(names: Iterable[str], segment_bytes: int = SEGMENT_BYTES) -> tuple[Stretch, ...]:
    """The stretches that the full segments among `names` form, by timeline and number. Other names are passed over."""
    numbers: dict[int, set[int]] = {}
    for name in names:
        try:
            found = parse(name, segment_bytes)
        except ValueError:
            continue
        if isinstance(found, Segment):
            numbers.setdefault(found.timeline, set()).add(found.number)
    return tuple(stretch for timeline in sorted(numbers) for stretch in _runs(timeline, sorted(numbers[timeline])))


def _runs(timeline: int, numbers: Sequence[int]) -> list[Stretch]:
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][1] + 1 == number:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return [Stretch(timeline=timeline, first=first, last=last) for first, last in runs]


def gaps(stretches: Sequence[Stretch]) -> tuple[Gap, ...]:
    """The holes between stretches of the same timeline, in order."""
    return tuple(
        Gap(timeline=one.timeline, first=one.last + 1, last=two.first - 1)
        for one, two in pairwise(sorted(stretches, key=lambda each: (each.timeline, each.first)))
        if one.timeline == two.timeline
    )


class Switch(Value):
    """A line of a history file: `timeline` was left at `lsn`."""

    timeline: int
    lsn: int
    reason: str = ""


class Leg(Value):
    """A part of a path through timelines: `timeline` is followed from `begin_lsn` to `end_lsn` (None: open)."""

    timeline: int
    begin_lsn: int
    end_lsn: int | None = None


def parse_history(text: str) -> tuple[Switch, ...]:
    """A `.history` file's switches, oldest first. Raises ValueError when a line is malformed or out of order."""
    switches: list[Switch] = []
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = re.fullmatch(r"\s*(\d+)\s+([0-9A-Fa-f]+)/([0-9A-Fa-f]+)(?:\s+(.*))?", line)
        if found is None:
            raise ValueError(f"{line!r} is not a line of a timeline history")
        lsn = (int(found[2], 16) << 32) | int(found[3], 16)
        switches.append(Switch(timeline=int(found[1]), lsn=lsn, reason=(found[4] or "").strip()))
    if any(one.timeline >= two.timeline or one.lsn > two.lsn for one, two in pairwise(switches)):
        raise ValueError("the timelines of a history must grow")
    return tuple(switches)


def path_to(histories: Mapping[int, Sequence[Switch]], timeline: int) -> tuple[Leg, ...]:
    """The legs from the beginning of WAL to `timeline`. Raises NoPoint when its history file is not there."""
    if timeline != 1 and timeline not in histories:
        raise NoPoint(
            f"the archive has no history of timeline {timeline}",
            hint=f"look for {timeline:08X}.history in the other site's archive, or choose another timeline",
        )
    legs: list[Leg] = []
    begin = 0
    for switch in histories.get(timeline, ()):
        legs.append(Leg(timeline=switch.timeline, begin_lsn=begin, end_lsn=switch.lsn))
        begin = switch.lsn
    return (*legs, Leg(timeline=timeline, begin_lsn=begin))


def timeline_for(path: Sequence[Leg], number: int, segment_bytes: int = SEGMENT_BYTES) -> int:
    """The timeline whose file Postgres prefers for that segment: the newest that had begun by its end."""
    return max(leg.timeline for leg in path if leg.begin_lsn // segment_bytes <= number)


def files_for(path: Sequence[Leg], begin_lsn: int, end_lsn: int, segment_bytes: int = SEGMENT_BYTES) -> tuple[str, ...]:
    """The segments that recovery along `path` reads for the WAL `begin_lsn` to `end_lsn` (exclusive; at least one)."""
    first, last = begin_lsn // segment_bytes, max(begin_lsn, end_lsn - 1) // segment_bytes
    return tuple(name_of(timeline_for(path, n, segment_bytes), n, segment_bytes) for n in range(first, last + 1))


class Archive(Value):
    """What a bucket holds of one system's WAL. `strange`: names there that are no WAL of that segment size."""

    system_id: str
    segment_bytes: int = SEGMENT_BYTES
    stretches: tuple[Stretch, ...] = ()
    histories: dict[int, tuple[Switch, ...]] = Field(default_factory=dict)
    partials: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    strange: tuple[str, ...] = ()

    def gaps(self) -> tuple[Gap, ...]:
        """The holes of every timeline."""
        return gaps(self.stretches)

    def newest_timeline(self) -> int | None:
        """The highest timeline that anything is known of, or None when the archive is empty."""
        return max([*self.histories, *(each.timeline for each in self.stretches)], default=None)

    def last(self, timeline: int) -> str | None:
        """The newest segment of a timeline, or None."""
        number = max((each.last for each in self.stretches if each.timeline == timeline), default=None)
        return None if number is None else name_of(timeline, number, self.segment_bytes)


class Known(Value):
    """A moment known of a WAL position: every commit up to `at` lies before `lsn` (a heartbeat, a mark, a commit)."""

    lsn: int
    at: Instant


class Reach(Value):
    """What can be recovered from a backup along a timeline: any LSN from `from_lsn` up to `to_lsn`.

    `stops` says why not further (`retired`: on purpose, see wal_kept.py), `missing` names the first file that is not
    there. `to_at` is the newest known instant inside, None when none is known.
    """

    backup: str
    timeline: int
    from_lsn: int
    to_lsn: int
    from_at: Instant
    to_at: Instant | None = None
    stops: Literal["end of archive", "gap", "retired", "unusable"]
    missing: str


def reach(archive: Archive, backup: Backup, timeline: int, known: Sequence[Known] = ()) -> Reach | None:
    """How far recovery from `backup` along `timeline` can go; None when the backup is not on that timeline's path.

    `unusable`: the WAL that makes the backup itself consistent is not complete. Raises NoPoint for an unknown timeline.
    """
    size = archive.segment_bytes
    path = path_to(archive.histories, timeline)
    leg = next((each for each in path if each.timeline == backup.timeline), None)
    if leg is None or (leg.end_lsn is not None and backup.end_lsn > leg.end_lsn):
        return None
    number = _walk(archive, path, backup.begin_lsn // size)
    missing = name_of(timeline_for(path, number, size), number, size)
    to_lsn = number * size
    later = any(
        each.last > number and each.timeline == timeline_for(path, each.last, size) for each in archive.stretches
    )
    stops: Literal["end of archive", "gap", "unusable"] = "gap" if later else "end of archive"
    return Reach(
        backup=backup.id,
        timeline=timeline,
        from_lsn=backup.end_lsn,
        to_lsn=max(to_lsn, backup.end_lsn),
        from_at=backup.ended_at,
        to_at=_newest(known, backup, to_lsn),
        stops="unusable" if to_lsn < backup.end_lsn else stops,
        missing=missing,
    )


def _walk(archive: Archive, path: Sequence[Leg], number: int) -> int:
    """The first segment number from `number` on whose file is not there. Each round leaves a stretch or leg behind."""
    while (last := _end_of_run(archive, timeline_for(path, number, archive.segment_bytes), number)) is not None:
        begins = [leg.begin_lsn // archive.segment_bytes for leg in path]
        number = min([last + 1, *(turn for turn in begins if turn > number)])
    return number


def _end_of_run(archive: Archive, timeline: int, number: int) -> int | None:
    inside = (each for each in archive.stretches if each.timeline == timeline and each.first <= number <= each.last)
    return next((each.last for each in inside), None)


def _newest(known: Sequence[Known], backup: Backup, to_lsn: int) -> datetime | None:
    return max((each.at for each in known if backup.end_lsn <= each.lsn <= to_lsn), default=None)


def windows(
    archive: Archive, backups: Iterable[Backup], timeline: int, known: Sequence[Known] = ()
) -> tuple[Reach, ...]:
    """The reach of every backup of this system on the path to `timeline`, oldest first."""
    mine = sorted((each for each in backups if each.system_id == archive.system_id), key=lambda each: each.end_lsn)
    return tuple(found for each in mine if (found := reach(archive, each, timeline, known)) is not None)
