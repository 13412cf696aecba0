"""What an archive and its backups give, timeline by timeline: windows, gaps by file name, marks. Pure.

Separate from wal.py, which knows one window: here is the whole picture that people and the status read.
"""

from __future__ import annotations

from collections.abc import Sequence

from recovery.choose import End
from recovery.errors import NoPoint
from recovery.point import Backup, lsn_text
from recovery.value import Value
from recovery.wal import Archive, Gap, Known, Reach, name_of, windows
from recovery.wal_kept import Retired


class Hole(Value):
    """Missing WAL between files that are there: the first and the last missing file, how many, and the LSNs."""

    first: str
    last: str
    files: int
    begin_lsn: int
    end_lsn: int


class Timeline(Value):
    """One timeline at one place. `why` says why nothing can be followed along it, if so."""

    timeline: int
    windows: tuple[Reach, ...] = ()
    gaps: tuple[Hole, ...] = ()
    retired: tuple[Hole, ...] = ()
    """Holes that retention left: no gaps, for no promise covers their time."""
    marks: tuple[int, ...] = ()
    first_lsn: int | None = None
    last_lsn: int | None = None
    why: str = ""


def timelines(
    archive: Archive,
    backups: Sequence[Backup],
    marks: Sequence[tuple[int, int]],
    *,
    known: Sequence[Known] = (),
    retired: Retired | None = None,
) -> tuple[Timeline, ...]:
    """Every timeline that WAL, a history, a backup or a mark tells of, oldest first. `retired`: what may be missing."""
    numbers = {
        *archive.histories,
        *(each.timeline for each in archive.stretches),
        *(each.timeline for each in backups),
        *(number for number, _ in marks),
    }
    return tuple(_timeline(number, archive, backups, marks, known, retired) for number in sorted(numbers))


def moments(known: Sequence[Known], *ends: End | None) -> tuple[Known, ...]:
    """What is known of instants, with the archive's own ends: every commit up to the last of each lies before it."""
    return (*known, *(Known(lsn=end.lsn, at=end.at) for end in ends if end is not None and end.at is not None))


def hole_behind(archive: Archive, backups: Sequence[Backup], timeline: int) -> Reach | None:
    """The reach that goes furthest, where WAL is archived that it does not come to; None where nothing is missing, or
    nothing can be followed along the timeline at all."""
    try:
        usable = [each for each in windows(archive, backups, timeline) if each.stops != "unusable"]
    except NoPoint:
        return None
    furthest = max(usable, key=lambda each: each.to_lsn, default=None)
    return furthest if furthest is not None and furthest.stops == "gap" else None


def _timeline(
    number: int,
    archive: Archive,
    backups: Sequence[Backup],
    marks: Sequence[tuple[int, int]],
    known: Sequence[Known],
    retired: Retired | None,
) -> Timeline:
    size = archive.segment_bytes
    mine = [each for each in archive.stretches if each.timeline == number]
    why = ""
    found: tuple[Reach, ...] = ()
    try:
        found = windows(archive, backups, number, known)
    except NoPoint as trouble:
        why = trouble.fact
    holes = [gap for gap in archive.gaps() if gap.timeline == number]
    parts = [retired.parted(gap) if retired else ((gap,), ()) for gap in holes]
    return Timeline(
        timeline=number,
        windows=tuple(retired.told(each) for each in found) if retired else found,
        gaps=tuple(_hole(gap, size) for missing, _ in parts for gap in missing),
        retired=tuple(_hole(gap, size) for _, gone in parts for gap in gone),
        marks=tuple(lsn for on, lsn in marks if on == number),
        first_lsn=min((each.first * size for each in mine), default=None),
        last_lsn=max(((each.last + 1) * size for each in mine), default=None),
        why=why,
    )


def _hole(gap: Gap, size: int) -> Hole:
    return Hole(
        first=name_of(gap.timeline, gap.first, size),
        last=name_of(gap.timeline, gap.last, size),
        files=gap.last - gap.first + 1,
        begin_lsn=gap.first * size,
        end_lsn=(gap.last + 1) * size,
    )


def doubt(archive: Archive, timeline: int) -> str:
    """Why `timeline` may not be the one to follow: the archive holds newer ones that nothing else tells of. A promotion
    leaves such a one when it was lost before its first backup; so does a clone that archived. Empty: there is none."""
    newer = sorted(
        {*archive.histories, *(each.timeline for each in archive.stretches)} - set(range(timeline + 1)), reverse=True
    )
    if not newer:
        return ""
    told = []
    for number in newer[:3]:
        left = next((each for each in reversed(archive.histories.get(number, ())) if each.timeline <= timeline), None)
        at = f", which left timeline {left.timeline} at {lsn_text(left.lsn)}" if left is not None else ""
        last = archive.last(number)
        told.append(f"timeline {number}{at}{f' and reaches {last}' if last else ' and has no segment'}")
    return (
        f"the archive also holds {'; '.join(told)}: no server, backup, mark or change of roles tells "
        f"whether it or timeline {timeline} is ours"
    )
