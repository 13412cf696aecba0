"""Retention: what may be deleted and why everything else is kept. Pure.

A younger point may need an older backup; the last proven point and what is under hold stay whatever their age.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from recovery.point import Backup
from recovery.policy import BackupPolicy
from recovery.value import Value
from recovery.wal import Segment, parse


class Kept(Value):
    """This stays, because."""

    name: str
    why: str


class Expired(Value):
    """This may be deleted, because."""

    name: str
    why: str


def judge_backups(
    backups: Sequence[Backup], policy: BackupPolicy, *, proven: Collection[str], now: datetime
) -> tuple[Kept | Expired, ...]:
    """A verdict for each backup, oldest first. `proven` names the backups of the last proven points."""
    younger = sorted(backups, key=lambda each: each.ended_at)
    own = {each.id: _own_reason(each, policy, proven, now) for each in younger}
    window_base = _window_base(younger, policy, now)
    verdicts: list[Kept | Expired] = []
    for each in younger:
        needed_by = next((b.id for b in younger if b.parent == each.id and _stays(b, own[b.id], window_base)), None)
        if (why := own[each.id]) is not None:
            verdicts.append(Kept(name=each.id, why=why))
        elif window_base is not None and each.id in (window_base.id, window_base.parent):
            verdicts.append(Kept(name=each.id, why="the window begins on it"))
        elif needed_by is not None:
            verdicts.append(Kept(name=each.id, why=f"{needed_by} needs it"))
        else:
            age_days = (now - each.ended_at).total_seconds() / 86400
            verdicts.append(Expired(name=each.id, why=f"{each.kind}, {age_days:.1f} days old"))
    return tuple(verdicts)


def _own_reason(each: Backup, policy: BackupPolicy, proven: Collection[str], now: datetime) -> str | None:
    if each.hold:
        return "under hold"
    if each.id in proven:
        return "the last proven point stands on it"
    kept = policy.full if each.kind == "full" else policy.incremental
    keep = (kept or policy.full).keep
    return "within its retention" if now - each.ended_at <= keep else None


def _stays(each: Backup, why: str | None, window_base: Backup | None) -> bool:
    return why is not None or (window_base is not None and each.id == window_base.id)


def _window_base(younger: Sequence[Backup], policy: BackupPolicy, now: datetime) -> Backup | None:
    """The newest backup that ended before the window begins: from it the window's first moment is restored."""
    before = [each for each in younger if each.ended_at <= now - policy.window]
    return before[-1] if before else None


def judge_wal(names: Sequence[str], kept: Sequence[Backup], *, segment_bytes: int) -> tuple[Kept | Expired, ...]:
    """A verdict for each WAL file: what a kept backup needs to be consistent, and all behind the oldest that has WAL.

    WAL is cut only before the oldest kept backup; with none kept, nothing is deleted.
    """
    if not kept:
        return tuple(Kept(name=name, why="no backup is kept, so nothing says what is needed") for name in names)
    oldest = min(kept, key=lambda each: each.begin_lsn)
    first = oldest.begin_lsn // segment_bytes
    verdicts: list[Kept | Expired] = []
    for name in names:
        found = _number(name, segment_bytes)
        if found is None:
            verdicts.append(Kept(name=name, why="timeline history"))
        elif found < first:
            verdicts.append(Expired(name=name, why=f"before {oldest.id}, the oldest backup"))
        else:
            verdicts.append(Kept(name=name, why=f"{oldest.id} or a younger one needs it"))
    return tuple(verdicts)


def _number(name: str, segment_bytes: int) -> int | None:
    try:
        found = parse(name, segment_bytes)
    except ValueError:
        return None
    return found.number if isinstance(found, Segment) else None
