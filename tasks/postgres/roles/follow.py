"""Who follows whom: slots at the one, connection settings at the other.

Separate because promotion, synchronisation and the order at the old site's agent all point servers at each other.
"""

from __future__ import annotations

from collections.abc import Sequence

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import JsonValue

from recovery.errors import DrError
from tasks.postgres.reading import Connection, Deadline, first_line, only, reading
from tasks.postgres.roles.servers import Server


def slot_of(member: str) -> str:
    """The name of a member's slot at whoever is primary."""
    return member.replace("-", "_")


def make_slots(connection: Connection, members: Sequence[str], *, also: Sequence[str] = ()) -> dict[str, JsonValue]:
    """A slot for each of the others, so that the WAL which they need to come back is kept. Works on a standby, too.

    WAL is reserved at once only where `max_slot_wal_keep_size` bounds it: a dead site must never fill the disk.
    Gives slot → `made`, `there`, or why not: no promotion fails for want of a slot.
    """
    bounded = only(connection, "select current_setting('max_slot_wal_keep_size') <> '-1'")[0]
    found: dict[str, JsonValue] = {}
    for slot in dict.fromkeys((*map(slot_of, members), *also)):
        try:
            row = connection.execute(
                "select pg_create_physical_replication_slot(%s, %s) where not exists"
                " (select from pg_replication_slots where slot_name = %s)",
                [slot, bounded, slot],
            ).fetchone()
            found[slot] = "there" if row is None else "made"
        except psycopg.Error as error:
            found[slot] = f"not made: {first_line(error)}"
    return found


def release_slots(connection: Connection, names: Sequence[str]) -> list[str]:
    """Slots of servers that follow another one now, at a standby that came back: what they held of its WAL is for
    nobody, and where nothing bounds it, until the disk is full. They stay, and hold nothing. Gives them."""
    held = connection.execute(
        "select slot_name::text from pg_replication_slots where slot_name = any(%s) and slot_type = 'physical'"
        " and not temporary and not active and restart_lsn is not null"
        " and current_setting('max_slot_wal_keep_size') = '-1' order by 1",
        [list(names)],
    ).fetchall()
    for (slot,) in held:
        connection.execute("select pg_drop_replication_slot(%s)", [slot])
        connection.execute("select pg_create_physical_replication_slot(%s)", [slot])
    return [str(slot) for (slot,) in held]


def follows(standby: Server, primary: Server) -> bool:
    """Whether a standby's setting names that primary."""
    parts = conninfo_to_dict(standby.conninfo)
    return (str(parts.get("host", "")), str(parts.get("port", "5432"))) == (primary.host, primary.port)


def point(standby: Server, primary: Server, dsn: str, deadline: Deadline) -> str:
    """Let a running standby of the same site follow the new primary, from the next connection on (at once).

    Its user, password file and options stay. Gives `pointed`, `already`, or why not: the promotion has happened, and
    users don't wait for a neighbour.
    """
    if follows(standby, primary):
        return "already"
    parts = {**conninfo_to_dict(standby.conninfo), "host": primary.host, "port": primary.port}
    parts.pop("hostaddr", None)
    text = make_conninfo("", **parts)
    try:
        with reading(dsn, deadline) as connection:
            connection.execute(sql.SQL("alter system set primary_conninfo = {}").format(sql.Literal(text)))
            connection.execute("select pg_reload_conf()")
    except psycopg.Error as error:
        return f"not pointed: {first_line(error)}"
    except DrError as trouble:
        return f"not pointed: {trouble.fact}"
    return "pointed"
