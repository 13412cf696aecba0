"""Retention: what may be deleted and why everything else is kept. Pure.

A younger point may need an older backup; the last proven point and what is under hold stay whatever their age.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from recovery.point import Backup, lsn_text
from recovery.policy import BackupPolicy
from recovery.value import Value
from recovery.wal import HistoryFile, parse


class Kept(Value):
    """This stays, because."""

    name: str
    why: str


class Expired(Value):
    """This may be deleted, because."""

    name: str
    why: str


def judge_backups(
    backups: Sequence[Backup],
    policy: BackupPolicy,
    *,
    proven: Collection[str],
    now: datetime,
    underway: Collection[str] = (),
) -> tuple[Kept | Expired, ...]:
    """A verdict for each backup, oldest first. `proven` names the backups of the last proven points, `underway` those
    that a run restores from now.

    Ages end a window after the newest backup at the latest: where no younger backup comes, or a clock is stepped
    ahead, nothing ages on until all is gone.
    """
    younger = sorted(backups, key=lambda each: each.ended_at)
    now = min([now, *(each.ended_at + policy.window for each in younger[-1:])])
    own = {each.id: _own_reason(each, policy, proven, underway, now) for each in younger}
    bases = _window_bases(younger, own, policy, now)
    verdicts: list[Kept | Expired] = []
    for each in younger:
        needed_by = next((b.id for b in younger if b.parent == each.id and _stays(b, own[b.id], bases)), None)
        if (why := own[each.id]) is not None:
            verdicts.append(Kept(name=each.id, why=why))
        elif any(each.id in (base.id, base.parent) for base in bases):
            verdicts.append(Kept(name=each.id, why="the window begins on it"))
        elif needed_by is not None:
            verdicts.append(Kept(name=each.id, why=f"{needed_by} needs it"))
        else:
            age_days = (now - each.ended_at).total_seconds() / 86400
            verdicts.append(Expired(name=each.id, why=f"{each.kind}, {age_days:.1f} days old"))
    return tuple(verdicts)


def agreed(by_site: Mapping[str, Sequence[Kept | Expired]]) -> dict[str, tuple[Kept | Expired, ...]]:
    """The verdicts of all sites made one: what any site keeps, every site keeps. A copy that lags behind knows of no
    child yet, and what one site removed alone another would copy back."""
    kept = {each.name: site for site, made in by_site.items() for each in made if isinstance(each, Kept)}
    return {
        site: tuple(
            Kept(name=each.name, why=f"{kept[each.name]} keeps it")
            if isinstance(each, Expired) and each.name in kept
            else each
            for each in made
        )
        for site, made in by_site.items()
    }


def _own_reason(
    each: Backup, policy: BackupPolicy, proven: Collection[str], underway: Collection[str], now: datetime
) -> str | None:
    if each.hold:
        return "under hold"
    if each.id in proven:
        return "the last proven point stands on it"
    if each.id in underway:
        return "a run underway restores from it"
    kept = policy.full if each.kind == "full" else policy.incremental
    keep = (kept or policy.full).keep
    return "within its retention" if now - each.ended_at <= keep else None


def _stays(each: Backup, why: str | None, bases: Collection[Backup]) -> bool:
    return why is not None or any(each.id == base.id for base in bases)


def _window_bases(
    younger: Sequence[Backup], own: Mapping[str, str | None], policy: BackupPolicy, now: datetime
) -> tuple[Backup, ...]:
    """The newest backup that ended before the window begins: from it the window's first moment is restored. Beside the
    newest of all, that of each line (system and timeline) of which anything is kept: one line's backup is none to
    another's moments, and after a failover or a new cluster a window spans both. WAL that is kept for longer is of no
    use without a backup before it."""
    before = [each for each in younger if each.ended_at <= now - max(policy.window, policy.wal.keep)]
    living = {_line(each) for each in younger if own[each.id] is not None}
    newest = {_line(each): each for each in before if _line(each) in living}
    return (*newest.values(), *before[-1:])


def _line(backup: Backup) -> tuple[str, int]:
    return backup.system_id, backup.timeline


def judge_wal(names: Sequence[str], kept: Sequence[Backup], *, segment_bytes: int) -> tuple[Kept | Expired, ...]:
    """A verdict for each WAL file of a system: all from the oldest kept backup on stays, on whatever timeline.

    Labels and partial segments go with the segments of their number; histories stay, and with no backup kept all does.
    """
    if not kept:
        return tuple(Kept(name=name, why="no backup is kept, so nothing says what is needed") for name in names)
    oldest = min(kept, key=lambda each: each.begin_lsn)
    first = oldest.begin_lsn // segment_bytes
    verdicts: list[Kept | Expired] = []
    for name in names:
        number = _number(name, segment_bytes)
        if isinstance(number, str):
            verdicts.append(Kept(name=name, why=number))
        elif number < first:
            verdicts.append(Expired(name=name, why=f"before {oldest.id}, the oldest backup"))
        else:
            verdicts.append(Kept(name=name, why=f"{oldest.id} or a younger one needs it"))
    return tuple(verdicts)


def _number(name: str, segment_bytes: int) -> int | str:
    """The number of the segment that a file belongs to, or why it has none."""
    try:
        found = parse(name, segment_bytes)
    except ValueError:
        return "no WAL of this system"
    return "timeline history" if isinstance(found, HistoryFile) else found.number


def judge_marks(places: Sequence[tuple[int, int]], kept: Sequence[Backup]) -> tuple[Kept | Expired, ...]:
    """A verdict for each mark of a system, (timeline, LSN), by the name TIMELINE/LSN: one that lies before the end of
    every kept backup can never be recovered to again."""
    ended = min((each.end_lsn for each in kept), default=0)
    return tuple(
        Expired(name=f"{timeline}/{lsn}", why=f"before {lsn_text(ended)}, where the oldest backup ends")
        if lsn < ended
        else Kept(name=f"{timeline}/{lsn}", why="a kept backup reaches it")
        for timeline, lsn in places
    )
