"""Taking a mark on a standby, and keeping marks in the backups bucket.

Separate from the fingerprint because here something is acted upon: replay is paused, and resumed whatever happens.
While it is paused nothing conflicts with a long read, and every session sees the same: what is committed at the LSN.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

import psycopg
from psycopg import errors

from recovery.errors import BadInput, DrError, Failed, Unproven
from recovery.mark import Mark, mark_key, marks_folder
from recovery.point import lsn_text
from tasks.postgres.fingerprint import fingerprint
from tasks.postgres.place import place
from tasks.postgres.reading import Connection, Deadline, first_line, only, reading
from tasks.store import AlreadyThere, Store

POLL_SECONDS = 0.02
BETWEEN_TRIES_SECONDS = 0.3
TRIES = 10
PAUSE_SECONDS = 20
ADVISORY_LOCK = 5_894_210_711
RESUME = "select pg_wal_replay_resume()"

_STATE = (
    "select pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('is_superuser') = 'on',"
    " case when pg_catalog.pg_is_in_recovery() then pg_catalog.pg_get_wal_replay_pause_state() end"
)
_LOCKED = """
select string_agg(distinct coalesce(l.relation::regclass::text, 'relation ' || l.relation), ', ')
from pg_catalog.pg_locks l where l.mode = 'AccessExclusiveLock' and l.granted and l.locktype = 'relation'
  and l.pid in (select pid from pg_catalog.pg_stat_activity where backend_type = 'startup')
"""


def take(dsn: str, *, now: datetime, patience_seconds: float, pausing: Callable[[bool], None] = lambda _: None) -> Mark:
    """Pause the standby's replay, read its fingerprint, resume. Nothing is asked of the primary.

    `pausing` is told True before the pause and False after the end of it, so that a supervisor that finds its note of a
    pause after a crash can call `resume`. Raises BadInput for a primary, Unproven when no quiet moment was found or the
    time ran out, Failed when the replay could not be resumed.
    """
    deadline = Deadline(patience_seconds)
    with reading(dsn, deadline) as connection:
        _may_be_marked(connection)
        for tried in range(TRIES):
            with _paused(dsn, connection, deadline, pausing):
                locked = only(connection, _LOCKED)[0]
                if locked is None:
                    return _read(dsn, now=now, deadline=deadline)
            if deadline.left_seconds <= BETWEEN_TRIES_SECONDS:
                break
            time.sleep(BETWEEN_TRIES_SECONDS * (tried + 1))
    raise Unproven(
        f"no mark: DDL was underway at each try, last on {locked}",
        hint="take the mark at a quieter hour, or look for a long transaction that holds an exclusive lock",
    )


def resume(dsn: str) -> None:
    """Let the standby replay again. Harmless when it does already, or was promoted."""
    with reading(dsn, Deadline(PAUSE_SECONDS)) as connection:
        if only(connection, _STATE)[0]:
            connection.execute(RESUME)


def store_mark(store: Store, mark: Mark, *, prefix: str = "") -> str:
    """Keep a mark; gives its key. One that is there already for the same place stays."""
    key = mark_key(prefix, mark.system_id, mark.timeline, mark.lsn)
    try:
        store.put(key, mark.body)
    except AlreadyThere:
        return key
    return key


def marks(store: Store, *, system_id: str, prefix: str = "") -> tuple[tuple[int, int], ...]:
    """(timeline, lsn) of all marks of a cluster, oldest first."""
    folder = marks_folder(prefix, system_id)
    places = []
    for stored in store.list(folder):
        timeline, _, name = stored.key.removeprefix(folder).partition("/")
        if name.endswith(".json"):
            places.append((int(timeline, 16), int(name.removesuffix(".json"), 16)))
    return tuple(sorted(places))


def read_mark(store: Store, *, system_id: str, timeline: int, lsn: int, prefix: str = "") -> Mark:
    """One mark. Raises Failed when it is missing or does not read as one."""
    key = mark_key(prefix, system_id, timeline, lsn)
    found = store.get(key)
    if found is None:
        raise Failed(f"the mark {key} is gone", hint="choose another mark; `dr points` lists them")
    try:
        mark = Mark.model_validate_json(found[0])
    except ValueError as error:
        raise Failed(f"the mark {key} cannot be read", hint="it was damaged or cut: choose another mark") from error
    if (mark.system_id, mark.timeline, mark.lsn) != (system_id, timeline, lsn):
        raise Failed(f"the mark {key} describes another place", hint="somebody copied it there: choose another mark")
    return mark


def newest_mark(
    store: Store, *, system_id: str, prefix: str = "", timeline: int | None = None, before: int | None = None
) -> Mark | None:
    """The newest mark, on `timeline` if given, with an LSN at or before `before` if given; None when there is none."""
    fitting = [
        (on, lsn)
        for on, lsn in marks(store, system_id=system_id, prefix=prefix)
        if timeline in (None, on) and (before is None or lsn <= before)
    ]
    if not fitting:
        return None
    on, lsn = fitting[-1]
    return read_mark(store, system_id=system_id, timeline=on, lsn=lsn, prefix=prefix)


def _may_be_marked(connection: Connection) -> None:
    in_recovery, superuser, state = only(connection, _STATE)
    if not in_recovery:
        raise BadInput("a mark is taken on a standby; this server is a primary", hint="name the standby's dsn")
    if not superuser:
        raise BadInput(
            "a mark reads every catalog; the role is not a superuser", hint="give the agent a superuser's dsn"
        )
    if state != "not paused":
        raise Unproven(
            "the standby's replay is paused already, by somebody else or by a mark that was killed",
            hint=f"if nobody needs the pause: {RESUME}",
        )
    if not only(connection, f"select pg_catalog.pg_try_advisory_lock({ADVISORY_LOCK})")[0]:
        raise Unproven("another mark is being taken on this standby", hint="wait until it has ended")


@contextmanager
def _paused(dsn: str, connection: Connection, deadline: Deadline, pausing: Callable[[bool], None]) -> Iterator[None]:
    pausing(True)
    try:
        connection.execute("select pg_catalog.pg_wal_replay_pause()")
        _wait_until_paused(connection, deadline)
        yield
        if only(connection, _STATE) != (True, True, "paused"):
            raise Unproven("the standby was resumed or promoted while its mark was read", hint="take the mark again")
    finally:
        _resume_surely(dsn, connection)
        pausing(False)


def _wait_until_paused(connection: Connection, deadline: Deadline) -> None:
    patience = Deadline(min(PAUSE_SECONDS, deadline.left_seconds))
    while only(connection, _STATE)[2] != "paused":
        if not patience.left_seconds:
            raise Unproven(
                "the standby did not pause its replay in time",
                hint="a conflict with a long query may hold it up; look at pg_stat_activity on the standby",
            )
        time.sleep(POLL_SECONDS)


def _resume_surely(dsn: str, connection: Connection) -> None:
    """Resume by this session, or by a new one when this one broke."""
    try:
        connection.execute(RESUME)
    except errors.ObjectNotInPrerequisiteState:
        return  # it was promoted: nothing is paused any more
    except psycopg.Error as broken:
        try:
            resume(dsn)
        except (psycopg.Error, DrError) as error:
            raise Failed(
                f"the standby's replay was left paused: {first_line(error)}; before that: {first_line(broken)}",
                hint=f"on the standby, as soon as it answers: {RESUME}; until then it falls behind",
            ) from error


def _read(dsn: str, *, now: datetime, deadline: Deadline) -> Mark:
    mark = fingerprint(dsn, now=now, patience_seconds=deadline.left_seconds)
    with reading(dsn, deadline) as connection:
        seen = place(connection)
    if seen.lsn != mark.lsn or not seen.in_recovery:
        raise Unproven(
            f"the standby moved from {lsn_text(mark.lsn)} while its mark was read", hint="take the mark again"
        )
    return mark
