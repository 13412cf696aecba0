"""Where a server stands: its identity, the LSN it has replayed, and the timeline that this LSN belongs to.

Separate because no single function of Postgres says on which timeline a paused standby stands: the newest one that it
knows may begin beyond the LSN, so the history files decide.
"""

# ruff: noqa: E501 -- SQL reads best unbroken, and is made of constants and quoted names only

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from recovery.point import lsn_number
from tasks.postgres.reading import Connection, only

_WHERE = """
select s.system_identifier::text, pg_catalog.pg_is_in_recovery(),
  coalesce(pg_catalog.pg_last_wal_replay_lsn(), case when not pg_catalog.pg_is_in_recovery() then pg_catalog.pg_current_wal_lsn() end)::text,
  pg_catalog.pg_last_xact_replay_timestamp(), pg_catalog.current_setting('server_version_num')::int, i.bytes_per_wal_segment,
  greatest(c.timeline_id, r.min_recovery_end_timeline, (select received_tli from pg_catalog.pg_stat_wal_receiver limit 1),
    case when pg_catalog.current_setting('recovery_target_timeline') ~ '^[0-9]{{1,9}}$'
      then pg_catalog.current_setting('recovery_target_timeline')::int end,
    case when not pg_catalog.pg_is_in_recovery()
      then ('x' || pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8))::bit(32)::int end,
    case when pg_catalog.pg_is_in_recovery() then (select max(('x' || pg_catalog.substr(w.name, 1, 8))::bit(32)::int)
      from pg_catalog.pg_ls_waldir() w where w.name ~ '^[0-9A-F]{{24}}$' and pg_catalog.substr(w.name, 9) >= {segment}) end)
from pg_catalog.pg_control_system() s, pg_catalog.pg_control_checkpoint() c, pg_catalog.pg_control_recovery() r,
  pg_catalog.pg_control_init() i
"""
# A standby whose receiver has ended tells its timeline no more but by the names of its files, from the replayed one on.
_SEGMENT = """
(select pg_catalog.lpad(pg_catalog.upper(pg_catalog.to_hex((n.number / n.per_log)::bigint)), 8, '0')
     || pg_catalog.lpad(pg_catalog.upper(pg_catalog.to_hex((n.number % n.per_log)::bigint)), 8, '0')
  from (select pg_catalog.div(greatest(pg_catalog.pg_last_wal_replay_lsn() - '0/0'::pg_lsn - 1, 0), i.bytes_per_wal_segment)::bigint as number,
    4294967296 / i.bytes_per_wal_segment as per_log) n)
"""
_WRITES_AT = """
select pg_catalog.pg_current_wal_lsn()::text,
  ('x' || pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8))::bit(32)::int
"""
_HISTORY = "select pg_catalog.pg_read_file('pg_wal/' || {name} || '.history', 0, 1048576, true)"


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """`lsn` is the end of the last record replayed; a promoted copy keeps the one at which it was promoted."""

    system_id: str
    in_recovery: bool
    lsn: int
    timeline: int
    committed_at: datetime | None
    server_version: int
    segment_bytes: int


def place(connection: Connection) -> Place:
    """Where the server stands now. Needs a superuser."""
    return _look(connection)[0]


def _look(connection: Connection) -> tuple[Place, int]:
    """Its place, and the newest timeline of which it has any WAL."""
    query = _WHERE.format(segment=_SEGMENT)
    system_id, in_recovery, lsn, committed_at, version, segment_bytes, newest = only(connection, query)
    number = lsn_number(lsn)
    found = Place(
        system_id=system_id,
        in_recovery=in_recovery,
        lsn=number,
        timeline=timeline_at(number, newest, history(connection, newest)),
        committed_at=committed_at,
        server_version=version,
        segment_bytes=segment_bytes,
    )
    return found, newest


def stands(connection: Connection) -> Place:
    """As `place`, but a primary stands where it writes (one that was promoted is on its new timeline at once), and a
    standby on the newest timeline of which it has WAL, replayed or not."""
    found, newest = _look(connection)
    if found.in_recovery:
        return replace(found, timeline=newest)
    lsn, timeline = only(connection, _WRITES_AT)
    return replace(found, lsn=lsn_number(lsn), timeline=timeline)


def history(connection: Connection, timeline: int) -> str:
    """The history file of a timeline as the server has it; empty when it has none."""
    if timeline <= 1:
        return ""
    text = only(connection, _HISTORY.format(name=f"'{timeline:08X}'"))[0]
    return "" if text is None else str(text)


def timeline_at(lsn: int, newest: int, history_text: str) -> int:
    """The timeline that `lsn` belongs to: the first one of the history that ends at or behind it, else the newest."""
    for line in history_text.splitlines():
        fields = line.split()
        if len(fields) >= 2 and fields[0].isdigit() and lsn <= lsn_number(fields[1]):
            return int(fields[0])
    return newest
