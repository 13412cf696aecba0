"""Retention and leftovers in the buckets of one resource, at all its sites as one.

Separate from backing because it deletes: the sites are judged together first, then every expired backup stops being one
at every site (its marker goes), and only then are bodies, WAL and marks removed. So no shipper finds a whole copy of
what another site has already lost, and a sweep that is killed anywhere leaves leftovers, which the next one removes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from recovery import retention, wal_kept
from recovery.mark import mark_key
from recovery.point import Backup
from recovery.policy import BackupPolicy
from recovery.retention import Expired
from recovery.value import Value
from recovery.wal_kept import Needed
from tasks.postgres import leftovers, looking, mark
from tasks.postgres.base_index import MARKER

LEFTOVER_AGE = timedelta(hours=12)

Sites = Mapping[str, leftovers.Sweepable]
Listed = dict[str, str]
"""The key of each WAL file by its name and of each mark by TIMELINE/LSN."""


class Swept(Value):
    """What a sweep removed at one site, and what it kept and why; `reasons` are those of what was removed."""

    site: str
    removed: tuple[str, ...]
    kept: tuple[str, ...]
    reasons: dict[str, str] = {}


def sweep(
    sites: Sites,
    policy: BackupPolicy,
    *,
    proven: frozenset[str],
    now: datetime,
    really: bool,
    underway: Callable[[], frozenset[str]] = frozenset,
) -> tuple[Swept, ...]:
    """Every site is read before anything is removed: one that does not answer stops the sweep while all is whole.
    What is archived meanwhile is younger than anything that goes.

    `underway` is asked last: the backups that runs restore from now. Such a run has its plan on record before it reads.
    """
    found = _held_everywhere({site: looking.backups(store) for site, store in sites.items()})
    systems = sorted({each.system_id for backups in found.values() for each in backups})
    listed = {site: {each: _listed(store, each) for each in systems} for site, store in sites.items()}
    spared = underway()
    verdicts = retention.agreed(
        {
            site: retention.judge_backups(each, policy, proven=proven, underway=spared, now=now)
            for site, each in found.items()
        }
    )
    gone = {site: {each.name for each in made if isinstance(each, Expired)} for site, made in verdicts.items()}
    expired = {site: [each for each in found[site] if each.id in gone[site]] for site in sites}
    kept = tuple(
        {
            (each.system_id, each.id): each for site in sites for each in found[site] if each.id not in gone[site]
        }.values()
    )
    retired = _judge_archive(
        kept,
        listed,
        lambda each, system_id, firsts: wal_kept.needed_wal(
            system_id, found[each], firsts, policy, proven=proven, underway=spared, now=now
        ),
    )
    if really:
        for site, store in sites.items():
            for backup in expired[site]:
                store.delete(f"{_folder(backup)}{MARKER}")
    made = []
    for site, store in sites.items():
        removed = {each.name: each.why for each in verdicts[site] if isinstance(each, Expired)}
        if really:
            for backup in expired[site]:
                _remove(store, backup)
        removed |= _sweep_archive(store, listed[site], retired, really=really)
        stale = leftovers.leftovers(store, now=now, older_than=LEFTOVER_AGE)
        removed |= {each.what: f"begun {each.since:%Y-%m-%d %H:%M:%S}Z and never finished" for each in stale}
        if really:
            leftovers.sweep_leftovers(store, now=now, older_than=LEFTOVER_AGE)
        stays = tuple(f"{each.name}: {each.why}" for each in verdicts[site] if not isinstance(each, Expired))
        made.append(Swept(site=site, removed=tuple(removed), kept=stays, reasons=removed))
    return tuple(made)


def _held_everywhere(found: Mapping[str, Sequence[Backup]]) -> dict[str, tuple[Backup, ...]]:
    """A hold at one site holds the copies, too: one that is copied there later has none of its own."""
    held = {(each.system_id, each.id) for backups in found.values() for each in backups if each.hold}
    return {
        site: tuple(each.but(hold=(each.system_id, each.id) in held) for each in backups)
        for site, backups in found.items()
    }


def _folder(backup: Backup) -> str:
    return f"base/{backup.system_id}/{backup.id}/"


def _remove(store: leftovers.Sweepable, backup: Backup) -> None:
    """The objects of a backup whose marker is gone, and the marker again should a copier have just written it."""
    store.delete(f"{_folder(backup)}{MARKER}")
    for each in list(store.list(_folder(backup))):
        store.delete(each.key)


def _listed(store: leftovers.Sweepable, system_id: str) -> Listed:
    """What a bucket holds of a system's WAL and marks."""
    files = {each.key.rpartition("/")[2].removesuffix(".zst"): each.key for each in store.list(f"wal/{system_id}/")}
    marks = mark.marks(store, system_id=system_id)
    return files | {f"{timeline}/{lsn}": mark_key("", system_id, timeline, lsn) for timeline, lsn in marks}


def _judge_archive(
    kept: Sequence[Backup],
    listed: Mapping[str, Mapping[str, Listed]],
    needed: Callable[[str, str, dict[int, int]], Iterable[Needed]],
) -> dict[str, dict[str, str]]:
    """Why WAL and marks go, by system and name: of all sites as one, so that all cut at the same places. `needed` gives
    what one site's backups need; what any of them needs, every site keeps."""
    gone: dict[str, dict[str, str]] = {}
    for system_id in sorted({each.system_id for each in kept}):
        mine = [each for each in kept if each.system_id == system_id]
        names = sorted({name for systems in listed.values() for name in systems[system_id]})
        files = [each for each in names if "/" not in each]
        size = mine[0].segment_bytes
        firsts = wal_kept.first_numbers(files, size)
        stays = [each for site in listed for each in needed(site, system_id, firsts)]
        places = [(int(on), int(lsn)) for on, slash, lsn in (each.partition("/") for each in names) if slash]
        verdicts = (
            *wal_kept.judge_wal(files, stays, segment_bytes=size),
            *wal_kept.judge_marks(places, mine, stays, segment_bytes=size),
        )
        gone[system_id] = {each.name: each.why for each in verdicts if isinstance(each, Expired)}
    return gone


def _sweep_archive(
    store: leftovers.Sweepable, listed: Mapping[str, Listed], gone: Mapping[str, Mapping[str, str]], *, really: bool
) -> dict[str, str]:
    """The WAL and marks of one site that go, with why."""
    removed = {}
    for system_id, reasons in gone.items():
        there = listed[system_id]
        for name in [each for each in reasons if each in there]:
            removed[f"mark {name}" if "/" in name else name] = reasons[name]
            if really:
                store.delete(there[name])
    return removed
