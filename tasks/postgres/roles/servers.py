"""What the servers of a resource say of their roles, asked in parallel and never for long; a silent one is an answer.

Separate because every verb that changes roles begins with the same question, and none may wait for a site that is lost.
"""

# ruff: noqa: E501 -- SQL reads best unbroken

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from threading import Thread

import psycopg

from recovery.catalog import Member
from recovery.errors import DrError
from recovery.point import lsn_number
from tasks.postgres.place import Place, stands
from tasks.postgres.reading import Connection, Deadline, first_line, only, reading

ASK_SECONDS = 2.0
REPLAY_FOLDER = "standfast_replay"
"""Below the data directory: where WAL from the archive lies while a standby replays it."""

_MORE = """
select case when pg_is_in_recovery() then greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) else pg_current_wal_flush_lsn() end::text,
  (select status from pg_stat_wal_receiver limit 1), current_setting('primary_conninfo'), coalesce(current_setting('primary_slot_name'), ''),
  current_setting('restore_command'), current_setting('synchronous_standby_names'),
  (select reset_val = 'on' from pg_settings where name = 'default_transaction_read_only'),
  coalesce(host(inet_server_addr()), split_part(current_setting('unix_socket_directories'), ',', 1)), current_setting('port'),
  case when pg_is_in_recovery() then pg_get_wal_replay_pause_state() <> 'not paused' else false end
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Server:
    """A server that answered. `received_lsn`: flushed on a primary, received or replayed on a standby, whatever is more.

    `host` and `port` are its own address, as servers of its site reach it. Settings are as they are in force.
    """

    member: str
    place: Place
    received_lsn: int
    receiver: str | None
    conninfo: str
    slot: str
    restore_command: str
    synchronous: str
    read_only: bool
    host: str
    port: str
    paused: bool

    @property
    def primary(self) -> bool:
        """Whether it takes writes."""
        return not self.place.in_recovery


@dataclass(frozen=True, kw_only=True, slots=True)
class Silent:
    """A server that gave no answer, and why. Never taken for stopped."""

    member: str
    why: str


def server(member: str, connection: Connection) -> Server:
    """Ask over an open session."""
    found = stands(connection)
    row = only(connection, _MORE)
    return Server(
        member=member,
        place=found,
        received_lsn=max(found.lsn, lsn_number(row[0] or "0/0")),
        receiver=row[1],
        conninfo=row[2],
        slot=row[3],
        restore_command=row[4],
        synchronous=row[5],
        read_only=bool(row[6]),
        host=row[7],
        port=row[8],
        paused=bool(row[9]),
    )


def ask(member: str, at: Member, *, patience_seconds: float = ASK_SECONDS) -> Server | Silent:
    """Ask one server."""
    try:
        with reading(at.dsn, Deadline(patience_seconds)) as connection:
            return server(member, connection)
    except DrError as trouble:
        return Silent(member=member, why=trouble.fact)
    except psycopg.Error as error:
        return Silent(member=member, why=first_line(error))


def ask_all(
    members: Iterable[tuple[str, Member]], *, patience_seconds: float = ASK_SECONDS
) -> Mapping[str, Server | Silent]:
    """Ask all at the same time: a stopped one costs its patience once, and never more than that."""
    those = list(members)
    said: dict[str, Server | Silent] = {}

    def put(name: str, at: Member) -> None:
        said[name] = ask(name, at, patience_seconds=patience_seconds)

    threads = [Thread(target=put, args=each, daemon=True, name=f"ask-{each[0]}") for each in those]
    for thread in threads:
        thread.start()
    deadline = Deadline(patience_seconds + 0.5)
    for thread in threads:
        thread.join(deadline.left_seconds)
    silent = f"it did not answer within {patience_seconds:g} s"
    return {name: said.get(name) or Silent(member=name, why=silent) for name, _ in those}


def primaries(said: Mapping[str, Server | Silent]) -> tuple[Server, ...]:
    """Those that take writes."""
    return tuple(each for each in said.values() if isinstance(each, Server) and each.primary)


def standbys(said: Mapping[str, Server | Silent]) -> tuple[Server, ...]:
    """Those that follow."""
    return tuple(each for each in said.values() if isinstance(each, Server) and not each.primary)


def committed_at(said: Mapping[str, Server | Silent]) -> datetime | None:
    """The instant, by its primary's clock, of the newest commit that any standby has replayed."""
    known = (each.place.committed_at for each in standbys(said))
    return max((each for each in known if each is not None), default=None)


def whys(said: Mapping[str, Server | Silent]) -> str:
    """Why the silent ones are silent, for people."""
    return "; ".join(f"{each.member}: {each.why}" for each in said.values() if isinstance(each, Silent))
