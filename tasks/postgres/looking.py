"""Looking at a resource's recovery points: backups, archive, marks, the archive's end, the timeline. Never acts.

Separate from the verbs because plans, `dr points`, `dr status` and retention all decide from these facts.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

import psycopg

from recovery.catalog import Member, PostgresResource
from recovery.choose import End
from recovery.errors import BadInput, DrError, Failed, NoPoint
from recovery.point import Backup
from recovery.timeline import doubt, hole_behind
from recovery.wal import Archive, Known, name_of, path_to, timeline_for
from tasks.postgres.engines.native import Native, complete, readable
from tasks.postgres.engines.port import Engine
from tasks.postgres.mark import marks
from tasks.postgres.place import Place, stands
from tasks.postgres.reading import Deadline, first_line, reading
from tasks.postgres.seal import Keys
from tasks.postgres.wal_end import read_end
from tasks.store import Store

ASK_SECONDS = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What a server said of itself, or why it said nothing."""

    site: str
    place: Place | None
    why: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Points:
    """Everything that a choice of point needs, as one bucket holds it. Marks are (timeline, LSN), oldest first."""

    system_id: str
    timeline: int
    backups: tuple[Backup, ...]
    archive: Archive
    marks: tuple[tuple[int, int], ...]
    known: tuple[Known, ...]
    end: End | None
    reached: End | None = None
    """The end of what can be reached, where a hole parts it from `end`."""
    damaged: tuple[str, ...] = ()
    """Facts of commit markers that do not read: backups that are lost until these are mended."""
    doubt: str = ""
    """Why `timeline` may not be ours: nothing but the archive tells of a newer one."""


def ask(site: str, member: Member) -> Asked:
    """Ask one server where it stands; silence is an answer too."""
    try:
        with reading(member.dsn, Deadline(ASK_SECONDS)) as connection:
            return Asked(site=site, place=stands(connection))
    except DrError as trouble:
        return Asked(site=site, place=None, why=trouble.fact)
    except psycopg.Error as error:
        return Asked(site=site, place=None, why=first_line(error))


def backups(store: Store) -> tuple[Backup, ...]:
    """Every complete backup of the bucket, oldest first. Without its commit marker a backup does not exist."""
    return complete(store)


def look(
    store: Store,
    *,
    bin_dir: Path,
    servers: tuple[Asked, ...] | Callable[[], tuple[Asked, ...]],
    keys: Keys | None = None,
    need_end: bool = True,
    engine: Engine | None = None,
    timeline: int | None = None,
    vouched: Callable[[], tuple[int, ...]] = tuple,
) -> Points:
    """What is kept of the cluster that the servers belong to; without servers, of the newest backup's.

    `engine` keeps the backups; None: we do, in `store`, where the marks always are. `servers` may be what
    `asking` gave: then they answer while the bucket is read.

    The timeline is the newest on which a server stands or one of our backups was taken (an old primary that came back
    stands on an older one); with no server, or on which a mark was, or that `vouched` (asked only then) knows by a
    change of roles. Never just the newest in the archive, which a clone may have written: that is a `doubt`, which a
    person's `timeline` settles. Raises NoPoint when nothing tells which cluster it is, BadInput for a `timeline` that
    nothing tells of.
    """
    keeper = engine or Native(store=store, keys=keys or {})
    all_backups, damaged = readable(keeper.store) if isinstance(keeper, Native) else (keeper.backups(), ())
    servers = servers() if callable(servers) else servers
    standing = [asked.place for asked in servers if asked.place is not None]
    if not standing and not all_backups:
        why = "; ".join(f"{asked.site}: {asked.why}" for asked in servers)
        raise NoPoint(
            f"no server answers and the bucket holds no backup ({why})", hint="take a backup first with 'dr backup'"
        )
    system_id = standing[0].system_id if standing else all_backups[-1].system_id
    mine = tuple(each for each in all_backups if each.system_id == system_id)
    timelines = [*(each.timeline for each in standing), *(each.timeline for each in mine)]
    with ThreadPoolExecutor(1, "marks") as beside:
        marked = beside.submit(marks, store, system_id=system_id)
        archive = keeper.archive(system_id)
        _refuse_unknown(timeline, {*timelines, *archive.histories, *(each.timeline for each in archive.stretches)})
        told = timelines if standing or timeline else (*timelines, *(on for on, _ in marked.result()), *vouched())
        chosen = timeline or max(told)
        end, reached = (
            ends_of(store, archive, mine, chosen, bin_dir=bin_dir, keys=keys, engine=keeper)
            if need_end
            else (None, None)
        )
        all_marks = marked.result()
    return Points(
        system_id=system_id,
        timeline=chosen,
        backups=mine,
        archive=archive,
        marks=all_marks,
        known=_known(mine),
        end=end,
        reached=reached,
        damaged=damaged,
        doubt="" if standing or timeline else doubt(archive, chosen),
    )


def _known(backups: tuple[Backup, ...]) -> tuple[Known, ...]:
    """The moments of which a backup tells where they lie in the log."""
    ends = (end for each in backups for end in ((each.begin_lsn, each.begun_at), (each.end_lsn, each.ended_at)))
    return tuple(sorted((Known(lsn=lsn, at=at) for lsn, at in ends), key=lambda each: each.lsn))


def _refuse_unknown(timeline: int | None, known: set[int]) -> None:
    if timeline is not None and timeline not in known:
        told = ", ".join(map(str, sorted(known)))
        raise BadInput(
            f"no server, backup or WAL here tells of timeline {timeline}", hint=f"--timeline takes one of: {told}"
        )


def ends_of(
    store: Store,
    archive: Archive,
    backups: tuple[Backup, ...],
    timeline: int,
    *,
    bin_dir: Path,
    keys: Keys | None,
    engine: Engine | None = None,
) -> tuple[End | None, End | None]:
    """The end of a timeline's archive; and the end of what can be reached, where a hole parts it from that. WAL before
    the hole that does not read leaves the second unknown: it is told to people, and no point depends on it."""
    end = end_of(store, archive, timeline, bin_dir=bin_dir, keys=keys, engine=engine)
    hole = hole_behind(archive, backups, timeline) if end is not None else None
    if hole is None:
        return end, None
    try:
        reached = end_of(store, archive, timeline, bin_dir=bin_dir, keys=keys, engine=engine, until_lsn=hole.to_lsn)
    except DrError:
        return end, None
    return end, reached


def end_of(
    store: Store,
    archive: Archive,
    timeline: int,
    *,
    bin_dir: Path,
    keys: Keys | None,
    engine: Engine | None = None,
    until_lsn: int | None = None,
) -> End | None:
    """The last record and the last commit of a timeline's newest stretch; None when it has no segment. `until_lsn`: of
    the WAL on the way to that timeline before it."""
    last = None
    if until_lsn is not None:
        last = until_lsn // archive.segment_bytes - 1
        timeline = timeline_for(path_to(archive.histories, timeline), last, archive.segment_bytes)
    mine = (each for each in reversed(archive.stretches) if each.timeline == timeline)
    stretch = next((each for each in mine if last is None or each.first <= last <= each.last), None)
    if stretch is None:
        return None
    keeper = engine or Native(store=store, keys=keys or {})
    with tempfile.TemporaryDirectory(prefix="standfast-") as folder:
        found: End | None = None
        for back in range(8):
            number = (stretch.last if last is None else last) - back
            if number < stretch.first:
                break
            name = name_of(timeline, number, archive.segment_bytes)
            keeper.fetch_wal(archive.system_id, [name], Path(folder))
            read = read_end(bin_dir, Path(folder) / name, archive.segment_bytes)
            found = found or read
            if read is not None and read.at is not None and found is not None:
                return found.but(at=read.at)
        return found


def primary_of(servers: tuple[Asked, ...]) -> str | None:
    """The site whose server is not in recovery; None when none answers as one. Raises Failed when two do."""
    found = [each.site for each in servers if each.place is not None and not each.place.in_recovery]
    if len(found) > 1:
        raise Failed(
            f"two servers say that they are primary: {', '.join(found)}",
            hint="fence one of them before anything else; nothing was touched",
        )
    return found[0] if found else None


def members(resource: PostgresResource) -> tuple[Asked, ...]:
    """Ask every member of the resource."""
    return asking(resource)()


def asking(resource: PostgresResource) -> Callable[[], tuple[Asked, ...]]:
    """Begin to ask every member at the same time: a stopped one costs its patience once, not for each. Call what it
    gives for the answers."""
    said: dict[str, Asked] = {}

    def put(site: str, member: Member) -> None:
        said[site] = ask(site, member)

    threads = [Thread(target=put, args=each, daemon=True, name="asking") for each in resource.members.items()]
    for thread in threads:
        thread.start()
    deadline = Deadline(ASK_SECONDS + 0.5)

    def answers() -> tuple[Asked, ...]:
        for thread in threads:
            thread.join(deadline.left_seconds)
        silent = f"it did not answer within {ASK_SECONDS} s"
        return tuple(said.get(site) or Asked(site=site, place=None, why=silent) for site in resource.members)

    return answers
