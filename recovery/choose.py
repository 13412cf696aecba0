"""Choosing what to restore from: a target, backups and archive in; one point, or the reason why there is none. Pure.

A target is absolute once it is chosen: relative words ("latest", "random") are resolved here, once (PLAN.md). Rules
from facts/postgres.md section 7: only a backup that *ended* before the target, an explicit timeline, contiguous WAL.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal

from recovery.errors import BadInput, NoPoint
from recovery.point import Backup, lsn_text
from recovery.value import Instant, Value, rfc3339
from recovery.wal import Archive, Known, Reach, files_for, path_to, reach
from recovery.wal_kept import Retired

CLOCK_BOUND = timedelta(seconds=2)
"""How far two clocks may disagree before an instant in WAL is no longer trusted to lie on one side of another."""


class Target(Value):
    """Where recovery stops. `lsn`: before the first record at or behind `lsn`; `time`: before the first commit later
    than `at`; `latest`: behind the archive's last record, which is `lsn`; `own-end`: as soon as the backup is
    consistent, which is at its end, `lsn`."""

    kind: Literal["lsn", "time", "latest", "own-end"]
    lsn: int | None = None
    at: Instant | None = None

    def text(self) -> str:
        """For people: `2026-11-24T03:00:00.000000Z`, `LSN 0/3000060`, `latest (LSN 0/3000060)`, `the backup's own end
        (LSN 0/3000060)`."""
        if self.kind == "time" and self.at is not None:
            return rfc3339(self.at)
        where = f"LSN {lsn_text(self.lsn or 0)}"
        words = {"latest": f"latest ({where})", "own-end": f"the backup's own end ({where})"}
        return words.get(self.kind, where)


class Rates(Value):
    """What a restore costs, to compare points with each other; the forecast that people are shown comes from proofs."""

    restore_bytes_per_second: float = 200e6
    combine_bytes_per_second: float = 400e6
    wal_segments_per_second: float = 12.0
    why: str = "from usual rates"
    """Where they come from, in words; see recovery/rates.py."""


class Point(Value):
    """What will be restored: the backups in order (a full, or a full and its incremental), then these WAL files."""

    backups: tuple[str, ...]
    system_id: str
    timeline: int
    target: Target
    segments: tuple[str, ...]
    histories: tuple[int, ...] = ()
    forecast_seconds: float
    forecast_from: str = ""
    begun_at: Instant | None = None
    """When the last of the backups began: up to then every commit is in it, whatever WAL follows. None in old plans."""


class End(Value):
    """The end of an archive as it was read: behind its last record, and the instant of its last commit if any."""

    lsn: int
    record_lsn: int
    at: Instant | None = None


def latest(end: End | None) -> Target:
    """The newest moment that the archive holds. Raises NoPoint when it holds no WAL at all."""
    if end is None:
        raise NoPoint(
            "the archive holds no WAL yet", hint="see that the agent archives: 'dr agent status', 'dr points'"
        )
    return Target(kind="latest", lsn=end.record_lsn, at=end.at)


def refuse_future(at: datetime | None, *, now: datetime) -> None:
    """Raise BadInput for a moment that has not come yet: no archive needs to be asked."""
    if at is not None and at > now:
        raise BadInput(f"{rfc3339(at)} is in the future", hint=f"choose a moment before {rfc3339(now)}")


def at_time(at: datetime, *, now: datetime, end: End | None) -> Target:
    """A chosen moment. Raises BadInput when it lies in the future, NoPoint behind the archive's last commit."""
    refuse_future(at, now=now)
    if end is None or end.at is None or end.at <= at:
        known = rfc3339(end.at) if end is not None and end.at is not None else "none"
        raise NoPoint(
            f"the archive's last commit is {known}, which is not later than {rfc3339(at)}",
            hint="wait until the WAL of that moment is archived, or leave --as-of out: that takes the latest moment",
        )
    return Target(kind="time", at=at)


def at_random(share: float, backups: Sequence[Backup], *, window: timedelta, now: datetime, end: End | None) -> Target:
    """The moment at `share` (0 to 1) of the restorable window. Raises NoPoint when there is no window yet."""
    ended = [each.ended_at for each in backups]
    if end is None or end.at is None or not ended or min(ended) >= end.at:
        raise NoPoint("there is no window to choose a moment from", hint="take a backup first: 'dr backup'")
    begin = max(min(ended) + CLOCK_BOUND + timedelta(milliseconds=1), now - window)
    last = end.at - timedelta(milliseconds=1)
    if begin >= last:
        return Target(kind="time", at=last)
    return Target(kind="time", at=begin + (last - begin) * share)


def choose(
    target: Target,
    *,
    backups: Sequence[Backup],
    archive: Archive,
    timeline: int,
    known: Sequence[Known] = (),
    rates: Rates | None = None,
    retired: Retired | None = None,
    reached: End | None = None,
) -> Point:
    """The point with the least forecast time. `timeline` is explicit: a clone's in the archive is never followed.

    Raises NoPoint with the reason when no backup reaches the target. `retired`: what retention may have removed.
    `reached`: where WAL behind a hole is archived, the end of what lies before it; the reason names its last commit.
    """
    by_id = {each.id: each for each in backups}
    usable: list[Point] = []
    refusals: list[str] = []
    short: list[tuple[Backup, Reach]] = []
    for backup in sorted(backups, key=lambda each: each.end_lsn, reverse=True):
        if (why := _unusable(backup, by_id, target)) is not None:
            refusals.append(why)
            continue
        found = reach(archive, backup, timeline, known)
        if found is None:
            refusals.append(f"{backup.id} is not on timeline {timeline}")
            continue
        found = retired.told(found) if retired is not None else found
        to_lsn = _needed_until(target, known, found)
        if found.stops == "unusable" or to_lsn is None or found.to_lsn < to_lsn:
            refusals.append(f"{backup.id} reaches only {lsn_text(found.to_lsn)}: {found.missing} is missing")
            short.append((backup, found))
            continue
        usable.append(_point(backup, by_id, target, archive, timeline, to_lsn, rates or Rates()))
    if usable:
        return min(usable, key=lambda point: point.forecast_seconds)
    if retired is not None and short and short[0][1].stops == "retired":
        raise _retired(target, timeline, short[0][0], retired.why)
    why = "; ".join(refusals[:3]) or "there is no backup"
    hint = "'dr points' shows the windows and gaps; take a backup with 'dr backup', or choose a moment in a window"
    last = reached.at if reached is not None else None
    if last is not None and any(backup.ended_at + CLOCK_BOUND < last for backup, _ in short):
        hint += f": the last commit before the gap is of {rfc3339(last)}, so --as-of an earlier one"
    raise NoPoint(f"no point for {target.text()} on timeline {timeline}: {why}", hint=hint)


def _retired(target: Target, timeline: int, before: Backup, why: str) -> NoPoint:
    """`before`: the newest backup that ended before the target, from which WAL no longer leads there."""
    return NoPoint(
        f"no point for {target.text()} on timeline {timeline}: WAL of that time has been retired ({why})",
        hint=f"{before.id} before it, which ended at {rfc3339(before.ended_at)}, can be restored to its own end:"
        f" 'dr restore {before.resource} --backup {before.id} --to DIR'; 'dr points' shows the others",
    )


def own_end(wanted: str, *, backups: Sequence[Backup], archive: Archive, rates: Rates | None = None) -> Point:
    """One backup, restored to its own end: all that it needs is itself and the WAL that makes it consistent.

    Postgres stops there when it has read the record behind it: the segment in which that one ends comes along, where it
    is there. The segment in which a promotion left its timeline may be there on the next one only. Raises BadInput when
    there is no such backup, NoPoint when its full or some of that WAL is not there.
    """
    by_id = {each.id: each for each in backups}
    if (backup := by_id.get(wanted)) is None:
        there = ", ".join(sorted(by_id)[-12:]) or "none yet"
        raise BadInput(f"there is no backup {wanted!r}", hint=f"'dr points --all' lists them; the newest are: {there}")
    target = Target(kind="own-end", lsn=backup.end_lsn)
    if (why := _unusable(backup, by_id, target)) is not None:
        raise NoPoint(why, hint="see whether the other site's bucket has it; 'dr points --all' lists every backup")
    missing = ""
    for timeline in (backup.timeline, *sorted(each for each in archive.histories if each > backup.timeline)):
        found = reach(archive, backup, timeline)
        if found is not None and found.stops != "unusable":
            until = min(found.to_lsn, (backup.end_lsn // archive.segment_bytes + 2) * archive.segment_bytes)
            return _point(backup, by_id, target, archive, timeline, until, rates or Rates())
        missing = missing or (found.missing if found is not None else "")
    raise NoPoint(
        f"{backup.id} cannot be made consistent: {missing} is missing",
        hint="see whether the other site's archive has it, or choose another backup: 'dr points --all'",
    )


def _unusable(backup: Backup, by_id: dict[str, Backup], target: Target) -> str | None:
    if backup.parent is not None and backup.parent not in by_id:
        return f"{backup.id} needs {backup.parent}, which is not there"
    if target.kind == "time" and target.at is not None and backup.ended_at + CLOCK_BOUND >= target.at:
        return f"{backup.id} ended at {rfc3339(backup.ended_at)}, not {CLOCK_BOUND.seconds} s before the target"
    if target.kind != "time" and target.lsn is not None and backup.end_lsn > target.lsn:
        return f"{backup.id} ended at {lsn_text(backup.end_lsn)}, behind the target"
    return None


def _needed_until(target: Target, known: Sequence[Known], found: Reach) -> int | None:
    """The LSN up to which WAL must be there: one record behind an exclusive target, else recovery waits for it. None
    where the moment lies behind the hole at which WAL ends: always at one that retention left, just behind a backup,
    unless something known tells otherwise."""
    if target.kind == "lsn" and target.lsn is not None:
        return target.lsn + 1
    if target.kind == "latest" and target.lsn is not None:
        return target.lsn + 1
    later = [each.lsn for each in known if target.at is not None and each.at > target.at + CLOCK_BOUND]
    inside = [lsn for lsn in later if found.from_lsn < lsn <= found.to_lsn]
    behind = [each for each in known if target.at is not None and each.lsn > found.to_lsn and each.at <= target.at]
    beyond = found.stops == "retired" or (found.stops == "gap" and behind)
    return min(inside, default=None if beyond else found.to_lsn)


def _point(
    backup: Backup,
    by_id: dict[str, Backup],
    target: Target,
    archive: Archive,
    timeline: int,
    to_lsn: int,
    rates: Rates,
) -> Point:
    chain = (backup,) if backup.parent is None else (by_id[backup.parent], backup)
    path = path_to(archive.histories, timeline)
    segments = files_for(path, backup.begin_lsn, to_lsn, archive.segment_bytes)
    data = chain[0].size_bytes / rates.restore_bytes_per_second
    combine = sum(each.size_bytes for each in chain[1:]) / rates.combine_bytes_per_second
    return Point(
        backups=tuple(each.id for each in chain),
        system_id=backup.system_id,
        timeline=timeline,
        target=target,
        segments=segments,
        histories=tuple(leg.timeline for leg in path[1:]),
        forecast_seconds=data + combine + len(segments) / rates.wal_segments_per_second,
        forecast_from=rates.why,
        begun_at=backup.begun_at,
    )
