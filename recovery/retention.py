"""Retention: what may be deleted and why everything else is kept. Pure.

A younger point may need an older backup; the last proven point and what is under hold stay whatever their age.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from itertools import takewhile

from recovery.point import Backup
from recovery.policy import BackupPolicy
from recovery.value import Value


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
    begins = (window_begins(backups, policy, now), now - max(policy.window, policy.wal.keep))
    bases = [base for begin in begins for base in window_bases(backups, begin)]
    now = min([now, *(each.ended_at + policy.window for each in younger[-1:])])
    own = {each.id: spared(each, proven, underway) or _by_age(each, policy, now) for each in younger}
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


def spared(each: Backup, proven: Collection[str], underway: Collection[str]) -> str | None:
    """Why a backup stays whatever its age, and all WAL from it on: people count on what they can restore from it."""
    if each.hold:
        return "under hold"
    if each.id in proven:
        return "the last proven point stands on it"
    if each.id in underway:
        return "a run underway restores from it"
    return None


def _by_age(each: Backup, policy: BackupPolicy, now: datetime) -> str | None:
    kept = policy.full if each.kind == "full" else policy.incremental
    keep = (kept or policy.full).keep
    return "within its retention" if now - each.ended_at <= keep else None


def _stays(each: Backup, why: str | None, bases: Collection[Backup]) -> bool:
    return why is not None or any(each.id == base.id for base in bases)


def window_begins(backups: Sequence[Backup], policy: BackupPolicy, now: datetime) -> datetime:
    """The first moment of the window, counted back from the newest backup at the latest: no clock that is stepped ahead
    shortens it. WAL that is kept for longer makes it longer; without a backup before it that is of no use."""
    return min([now, *(each.ended_at for each in sorted(backups, key=_ended)[-1:])]) - max(
        policy.window, policy.wal.keep
    )


def window_bases(backups: Sequence[Backup], begins_at: datetime) -> tuple[Backup, ...]:
    """The backups from which the window's first moments are restored. After a failover or a new cluster a window spans
    two lines (system and timeline), and one line's backup is none to another's moments: so the newest of each system,
    and of each line that goes on within the window, or the first of a line that began in it.

    In the order of the log: a backup that a clock dates too early does not hide the one before it.
    """
    whole = {each.id for each in backups}
    lines: dict[tuple[str, int], list[Backup]] = {}
    for each in sorted(backups, key=lambda each: each.end_lsn):
        if each.parent is None or each.parent in whole:
            lines.setdefault(_line(each), []).append(each)
    found: list[Backup] = []
    newest: dict[str, Backup] = {}
    for (system_id, _), line in lines.items():
        before = list(takewhile(lambda each: each.ended_at <= begins_at, line))
        if len(before) < len(line):
            found.append(before[-1] if before else line[0])
        for each in before[-1:]:
            newest[system_id] = max(each, newest.get(system_id, each), key=_ended)
    return (*found, *newest.values())


def _ended(backup: Backup) -> datetime:
    return backup.ended_at


def _line(backup: Backup) -> tuple[str, int]:
    return backup.system_id, backup.timeline
