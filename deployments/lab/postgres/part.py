"""The Postgres part: real servers with real archiving and real streaming, made once and started as their data says.

A member's role is not written anywhere here: a data directory with standby.signal is a standby, whatever it was before.
"""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import tasks
from deployments.lab import layout
from deployments.lab.part import Part, Unwell
from deployments.lab.parts import postgres_bin_dir
from deployments.lab.postgres import leash, schema, server
from deployments.lab.process import wait_until
from deployments.lab.world import World
from tasks.postgres.run_as import give

if TYPE_CHECKING:
    from psycopg import Connection

ROLES = ("postgres", "platform", "replicator")
SETTINGS = {
    "wal_level": "replica",
    "hot_standby": "on",
    "summarize_wal": "on",
    "wal_compression": "pglz",
    "track_commit_timestamp": "on",
    "archive_mode": "on",
    "archive_timeout": "5s",
    "max_wal_senders": "16",
    "max_replication_slots": "16",
    "max_slot_wal_keep_size": "2GB",
    "max_connections": "60",
    "shared_buffers": "32MB",
    "password_encryption": "scram-sha-256",
    "shared_preload_libraries": "pg_stat_statements",
    "unix_socket_directories": "",
    "wal_receiver_timeout": "15s",
    "wal_sender_timeout": "15s",
    "wal_retrieve_retry_interval": "1s",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%a ",
}
HBA = "host all all 127.0.0.0/8 scram-sha-256\nhost replication all 127.0.0.0/8 scram-sha-256\n"


def name(member: str) -> str:
    """The process name of a member: `east.postgres`."""
    return leash.name(member)


def agent_socket(world: World, member: str) -> Path:
    """Where the agent of a server listens for archive_command's client."""
    return world.runtime / f"{member}.agent"


def start(world: World, member: str) -> Part:
    """Start a member under its leash; its data is made first when there is none. The west needs a running primary for
    that. A server that is held back, since another is the primary by now, counts as started: its leash runs."""
    write_passfile(world)
    if not world.data_dir(member).exists():
        _initdb(world) if member == "east" else _clone(world, member)
    if not world.processes.alive(name(member)):
        _configure(world, member)
        leash.spawn(world, member)
    said = leash.wait(world, member)
    if said.state == "running":
        _provide(world, member)
    return Part(
        name=name(member),
        pid=said.pid or 0,
        address=layout.hidden(world.block, member),
        ports={"postgres": layout.PORTS["postgres"]},
    )


def test(world: World, member: str) -> None:
    """Use it through its door: a commit on the primary, its arrival on a standby. Raises Unwell."""
    with _sql(world, member, source="engine") as sql:
        if not _is_standby(sql):
            sql.execute("create temporary table self_test as select 42 as answer")
            answered = sql.execute("select answer from self_test").fetchone()
            if answered != (42,):
                raise Unwell(f"{member} answered {answered}")
            return
        seen = sql.execute("select status from pg_stat_wal_receiver").fetchone()
        if seen != ("streaming",):
            raise Unwell(f"the standby {member} is not streaming: {seen}")


def stop(world: World, member: str) -> None:
    """Stop it with a checkpoint."""
    world.processes.end(name(member), number=signal.SIGINT, patience_seconds=30)


def write_passfile(world: World) -> None:
    """Generated passwords, once; the file that every DSN of the lab names. A copy lies beside the servers' data."""
    if not world.passfile.exists():
        fresh = world.passfile.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        fresh.touch(mode=0o600)
        fresh.write_text("".join(f"*:*:*:{role}:{secrets.token_urlsafe(24)}\n" for role in ROLES))
        fresh.replace(world.passfile)


def password(world: World, role: str) -> str:
    """The password of a role, for the moment it is set."""
    lines = (line.split(":") for line in world.passfile.read_text().splitlines())
    return {line[3]: line[4] for line in lines}[role]


def _initdb(world: World) -> None:
    target = world.data_dir("east")
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = _fresh(target)
    secret = target.with_name("superuser")
    secret.unlink(missing_ok=True)
    secret.touch(mode=0o600)
    secret.write_text(password(world, "postgres") + "\n")
    give(target.parent)
    try:
        server.initdb(postgres_bin_dir(), fresh, auth=["--auth=scram-sha-256", f"--pwfile={secret}"])
    finally:
        secret.unlink()
    leash.trust_the_first(world, "east")
    fresh.replace(target)


def _clone(world: World, member: str) -> None:
    target = world.data_dir(member)
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = _fresh(target)
    give(target.parent)
    source = world.dsn("east", source="west", user="replicator")
    how = ["--checkpoint=fast", "--wal-method=stream", "--no-sync", f"--slot={slot(member)}"]
    server.tool(postgres_bin_dir(), "pg_basebackup", "-d", source, "-D", str(fresh), *how, patience_seconds=120)
    (fresh / "standby.signal").touch()
    give(fresh)
    fresh.replace(target)


def _fresh(target: Path) -> Path:
    """A name that no other start uses: what a killed starter began may still be written by its orphan."""
    for stale in target.parent.glob("data.new-*"):
        shutil.rmtree(stale, ignore_errors=True)
    return target.with_name(f"data.new-{os.getpid()}-{time.monotonic_ns()}")


def slot(member: str) -> str:
    """The replication slot of a member on whoever is primary."""
    return member.replace("-", "_")


def _configure(world: World, member: str) -> None:
    site = layout.site_of(member)
    upstream = "west" if site == "east" else "east"
    client = Path(tasks.__file__).parent / "postgres" / "archive_client.py"
    words = [sys.executable, "-I", "-S", str(client), str(agent_socket(world, member))]
    conninfo = world.dsn(upstream, source=site, user="replicator")
    server.configure(
        world.data_dir(member),
        {
            **SETTINGS,
            "listen_addresses": layout.hidden(world.block, member),
            "port": str(layout.PORTS["postgres"]),
            "archive_command": shlex.join(words).replace("%", "%%") + " %p",
            "primary_conninfo": f"{conninfo} application_name={slot(member)}",
            "primary_slot_name": slot(member),
            "cluster_name": member,
        },
    )
    (world.data_dir(member) / "pg_hba.conf").write_text(HBA)


def _provide(world: World, member: str) -> None:
    """On a primary: roles with their passwords, slots for the others, and the platform's schema. Idempotent."""
    with _sql(world, member, source=layout.site_of(member)) as sql:
        if _is_standby(sql):
            return
        sql.execute(schema.ROLES)
        for role in ROLES[1:]:
            _set_password(sql, role, password(world, role))
        for other in world.members:
            if other != member:
                sql.execute(
                    "select pg_create_physical_replication_slot(%s, true) where not exists"
                    " (select from pg_replication_slots where slot_name = %s)",
                    [slot(other), slot(other)],
                )
        with sql.transaction():
            if sql.execute("select to_regclass('public.rows') is null").fetchone() == (True,):
                sql.execute(schema.SCHEMA)
            if sql.execute("select to_regclass('public.outbox') is null").fetchone() == (True,):
                sql.execute(schema.OUTBOX)


def _set_password(sql: Connection, role: str, secret: str) -> None:
    from psycopg.sql import SQL, Identifier, Literal

    verifier = sql.pgconn.encrypt_password(secret.encode(), role.encode(), b"scram-sha-256").decode()
    sql.execute(SQL("alter role {} password {}").format(Identifier(role), Literal(verifier)))


def _is_standby(sql: Connection) -> bool:
    return sql.execute("select pg_is_in_recovery()").fetchone() == (True,)


def _sql(world: World, member: str, *, source: str) -> Connection:
    import psycopg

    return psycopg.connect(world.dsn(member, source=source), autocommit=True)


def is_standby(world: World, member: str) -> bool:
    """Whether it starts as a standby: its data says so."""
    return (world.data_dir(member) / "standby.signal").exists()


def wait_for_streaming(world: World, member: str, *, patience_seconds: float = 30) -> None:
    """Wait until a standby streams. Raises Failed past the patience."""

    def streams() -> bool:
        with _sql(world, member, source=layout.site_of(member)) as sql:
            return not _is_standby(sql) or sql.execute("select 1 from pg_stat_wal_receiver").fetchone() is not None

    wait_until(
        streams,
        what=f"streaming into {member}",
        patience_seconds=patience_seconds,
        hint=f"read {world.processes.log(name(member))}",
    )
