"""Which WAL stays and why, and what of it is retired on purpose: no promise covers its time any more. Pure.

Separate from retention.py, which judges backups: WAL is judged by what is kept of them. It stays from the backup on
that the window begins on, and from one that is under hold, that the last proven point stands on or that a run restores
from. Before, only what a kept backup needs to become consistent stays: that one is restorable to its own end.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime

from recovery.objective import duration_text
from recovery.point import Backup, lsn_text
from recovery.policy import BackupPolicy
from recovery.retention import Expired, Kept, judge_backups, spared, window_bases, window_begins
from recovery.value import Value
from recovery.wal import Archive, Gap, HistoryFile, Reach, parse


class Needed(Value):
    """Segments that stay, because: by number, both ends included; without a `last` all from the first on. On whatever
    timeline, unless one is named."""

    first: int
    last: int | None
    backup: str
    why: str
    timeline: int | None = None

    def holds(self, timeline: int, number: int) -> bool:
        """Whether that segment is one of them."""
        here = self.timeline in (None, timeline)
        return here and self.first <= number and (self.last is None or number <= self.last)


def needed_wal(
    system_id: str,
    backups: Sequence[Backup],
    firsts: Mapping[int, int],
    policy: BackupPolicy,
    *,
    proven: Collection[str],
    now: datetime,
    underway: Collection[str] = (),
) -> tuple[Needed, ...]:
    """What stays of a system's WAL, judged by one site's backups; what any site needs, every site keeps.

    `firsts`: the lowest segment number of each timeline in the archive. `proven`, `underway`: see judge_backups.
    """
    verdicts = judge_backups(backups, policy, proven=proven, now=now, underway=underway)
    kept = {each.name for each in verdicts if isinstance(each, Kept)}
    open_from = {
        each.id: "the window begins on it" for each in window_bases(backups, window_begins(backups, policy, now))
    }
    open_from |= {each.id: why for each in backups if (why := spared(each, proven, underway)) is not None}
    mine = [each for each in backups if each.system_id == system_id and each.id in kept]
    return _needed(mine, open_from, firsts, window_begins(backups, policy, now))


def _needed(
    mine: Sequence[Backup], open_from: Mapping[str, str], firsts: Mapping[int, int], begins_at: datetime
) -> tuple[Needed, ...]:
    """All of a timeline on which no backup ended before the window stays, where kept WAL reaches its beginning: every
    moment of it lies within the window, also where it left from an old backup that was restored and went on."""
    found = [_own(each) for each in mine]
    found += [
        Needed(first=_first(each), last=None, backup=each.id, why=open_from[each.id])
        for each in mine
        if each.id in open_from
    ]
    aged = {each.timeline for each in mine if each.ended_at <= begins_at}
    for timeline, first in firsts.items():
        reaching = [each for each in found if each.holds(timeline, first) or each.holds(timeline, first - 1)]
        if timeline not in aged and reaching:
            why = f"timeline {timeline} began within the window"
            found.append(Needed(first=first, last=None, backup=reaching[0].backup, why=why, timeline=timeline))
    return tuple(found)


def _own(backup: Backup) -> Needed:
    """What makes a backup consistent, and the next segment: it is then restorable to its own end, where Postgres stops
    only when it has read the record behind it. That one may begin in the next segment, or end there."""
    return Needed(
        first=_first(backup),
        last=backup.end_lsn // backup.segment_bytes + 1,
        backup=backup.id,
        why="it becomes consistent by it",
    )


def _first(backup: Backup) -> int:
    return backup.begin_lsn // backup.segment_bytes


def first_numbers(names: Iterable[str], segment_bytes: int) -> dict[int, int]:
    """The lowest segment number of each timeline among WAL file names; others are passed over."""
    found: dict[int, int] = {}
    for name in names:
        if (place := _place(name, segment_bytes)) is not None:
            found[place[0]] = min(place[1], found.get(place[0], place[1]))
    return found


def _place(name: str, segment_bytes: int) -> tuple[int, int] | None:
    """Timeline and number of the segment that a file is, or belongs to (labels, partials); None for any other name."""
    try:
        found = parse(name, segment_bytes)
    except ValueError:
        return None
    return None if isinstance(found, HistoryFile) else (found.timeline, found.number)


def judge_wal(names: Sequence[str], needed: Sequence[Needed], *, segment_bytes: int) -> tuple[Kept | Expired, ...]:
    """A verdict for each WAL file of a system. Labels and partial segments go with the segments of their number;
    histories and what is no WAL stay, and where no kept backup is followed by WAL all does."""
    cut = min((each for each in needed if each.last is None and each.timeline is None), key=_by_first, default=None)
    if cut is None:
        return tuple(Kept(name=name, why="no backup is kept, so nothing says what is needed") for name in names)
    own = {n: each for each in needed if each.last is not None for n in range(each.first, each.last + 1)}
    young = {each.timeline: each for each in needed if each.timeline is not None}
    verdicts: list[Kept | Expired] = []
    for name in names:
        place = _place(name, segment_bytes)
        if place is None:
            verdicts.append(Kept(name=name, why="no segment of this system's WAL"))
            continue
        timeline, number = place
        line = young.get(timeline)
        why = cut if number >= cut.first else own.get(number, line if line and number >= line.first else None)
        if why is None:
            verdicts.append(Expired(name=name, why=f"before {cut.backup}, and no kept backup needs it"))
        else:
            verdicts.append(Kept(name=name, why=f"{why.backup}: {why.why}"))
    return tuple(verdicts)


def _by_first(each: Needed) -> int:
    return each.first


def judge_marks(
    places: Sequence[tuple[int, int]], kept: Sequence[Backup], needed: Sequence[Needed], *, segment_bytes: int
) -> tuple[Kept | Expired, ...]:
    """A verdict for each mark of a system, (timeline, LSN), by the name TIMELINE/LSN: it goes when no kept backup ends
    before it from which WAL that stays leads to it. With no backup kept all stay."""
    runs = _runs(needed)

    def reached(lsn: int) -> bool:
        number = lsn // segment_bytes
        run = next((each for each in runs if each[0] <= number and (each[1] is None or number <= each[1])), None)
        return run is not None and any(each.end_lsn <= lsn and _first(each) >= run[0] for each in kept)

    def judged(timeline: int, lsn: int) -> Kept | Expired:
        name = f"{timeline}/{lsn}"
        if not kept:
            return Kept(name=name, why="no backup is kept, so nothing says what is needed")
        if reached(lsn):
            return Kept(name=name, why="a kept backup reaches it")
        return Expired(name=name, why=f"no kept backup leads to {lsn_text(lsn)} by WAL that stays")

    return tuple(judged(*each) for each in places)


def _runs(needed: Sequence[Needed]) -> list[tuple[int, int | None]]:
    """What stays as runs of numbers without a hole, first and last, the last one open."""
    runs: list[tuple[int, int | None]] = []
    for each in sorted(needed, key=_by_first):
        first, last = runs[-1] if runs else (each.first, each.first - 1)
        if last is not None and each.first > last + 1:
            runs.append((each.first, each.last))
        else:
            joined = None if last is None or each.last is None else max(last, each.last)
            runs[-1:] = [(first, joined)]
    return runs


class Retired(Value):
    """What retention may have removed of a system's WAL: all that `needed` does not name. `why` is the policy's word.

    A hole in it is no gap: nobody was promised a moment there. Holds and proofs are left out: what they need from now
    on may have been retired before.
    """

    needed: tuple[Needed, ...]
    segment_bytes: int
    why: str

    def covers(self, timeline: int, number: int) -> bool:
        """Whether no promise needs that segment any more."""
        return not any(each.holds(timeline, number) for each in self.needed)

    def parted(self, hole: Gap) -> tuple[tuple[Gap, ...], tuple[Gap, ...]]:
        """A hole as what is missing there, and what was retired."""
        missing: list[Gap] = []
        gone: list[Gap] = []
        at = hole.first
        for first, last in _runs([each for each in self.needed if each.timeline in (None, hole.timeline)]):
            begin, end = max(first, at), hole.last if last is None else min(last, hole.last)
            if begin <= end:
                missing.append(hole.but(first=begin, last=end))
                gone += [hole.but(first=at, last=begin - 1)] if at < begin else []
                at = end + 1
        gone += [hole.but(first=at)] if at <= hole.last else []
        return tuple(missing), tuple(gone)

    def told(self, found: Reach) -> Reach:
        """The reach of a backup, which ends as retention left it where what is missing was retired."""
        place = _place(found.missing, self.segment_bytes)
        ended = found.stops != "unusable" and place is not None and self.covers(*place)
        return found.but(stops="retired") if ended else found


def retired(archive: Archive, backups: Sequence[Backup], policy: BackupPolicy, *, now: datetime) -> Retired | None:
    """What of an archive no promise covers any more; None while nothing says so. The window is counted from `now`
    itself, so that it never begins before the one that retention went by."""
    begins_at = now - max(policy.window, policy.wal.keep)
    mine = [each for each in backups if each.system_id == archive.system_id]
    if not mine:
        return None
    open_from = {each.id: "the window begins on it" for each in window_bases(mine, begins_at)}
    firsts: dict[int, int] = {}
    for each in archive.stretches:
        firsts[each.timeline] = min(each.first, firsts.get(each.timeline, each.first))
    why = "wal.keep" if policy.wal.keep >= policy.window else "window"
    return Retired(
        needed=_needed(mine, open_from, firsts, begins_at),
        segment_bytes=archive.segment_bytes,
        why=f"{why} {duration_text(max(policy.window, policy.wal.keep))}",
    )
