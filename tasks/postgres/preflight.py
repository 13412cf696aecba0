"""Looks at a Postgres server and at the tools of its version, before a backup or a restore depends on them.

Separate from source.py, which asks only what one backup needs and raises at the first thing that is wrong.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from recovery.catalog import Member
from recovery.check import Check
from recovery.errors import DrError, Failed
from recovery.policy import BackupPolicy
from tasks.host import LocalHost
from tasks.postgres.reading import Deadline, databases, first_line, reading
from tasks.postgres.source import connected
from tasks.preflight import failed, passed, unproven, warned

TOOLS = ("postgres", "pg_basebackup", "pg_verifybackup", "pg_waldump", "pg_controldata", "pg_ctl")
SKEW_SECONDS = 1.0
_PATIENCE_SECONDS = 10.0
_UNLOGGED = """
select c.oid::regclass::text from pg_catalog.pg_class c where c.relkind = 'r' and c.relpersistence = 'u' order by 1
"""
_ASK = """
select clock_timestamp(), pg_is_in_recovery(), current_setting('server_version_num')::int,
  (select sum(pg_database_size(oid))::bigint from pg_database),
  (select jsonb_object_agg(name, setting) from pg_settings where name in
    ('wal_level', 'summarize_wal', 'archive_mode', 'archive_command', 'archive_library', 'track_commit_timestamp',
     'data_checksums'))
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """The checks of one server and, when it answered, its version and size."""

    checks: tuple[Check, ...]
    major: int | None = None
    size_bytes: int | None = None


def server(name: str, member: Member, policy: BackupPolicy) -> Seen:
    """One server. Raises Failed when it can't be reached."""
    with connected(member) as connection:
        begin = datetime.now(UTC)
        clock, standby, version, size, settings = _ask(connection)
        end = datetime.now(UTC)
    role = "a standby" if standby else "a primary"
    checks = [passed(name, f"Postgres {version // 10000}.{version % 10000}, {role}"), _clock(name, clock, begin, end)]
    checks += _settings(name, settings, version // 10000, policy)
    checks.append(_unlogged(f"{name} unlogged tables", member))
    return Seen(checks=tuple(checks), major=version // 10000, size_bytes=size)


def _ask(connection: Any) -> Any:
    import psycopg

    try:
        return connection.execute(_ASK).fetchone()
    except psycopg.Error as error:
        said = " ".join(str(error).split())
        raise Failed(
            f"the server answers, but would not tell its settings: {said}", hint="give the role pg_monitor"
        ) from None


def _clock(name: str, clock: datetime, begin: datetime, end: datetime) -> Check:
    name = f"{name} clock"
    apart = max((begin - clock).total_seconds(), (clock - end).total_seconds(), 0.0)
    if apart > SKEW_SECONDS:
        return warned(name, f"{apart:.1f} s from ours", "set both by NTP: moments to restore to are the server's")
    return passed(name, f"within {SKEW_SECONDS:g} s of ours")


def _settings(name: str, settings: dict[str, str], major: int, policy: BackupPolicy) -> list[Check]:
    def judge(setting: str, fits: bool, hint: str) -> Check:
        value = settings.get(setting, "absent")
        about = f"{name} {setting}"
        return passed(about, value) if fits else failed(about, value or "empty", hint)

    checks = [
        judge("wal_level", settings.get("wal_level") in {"replica", "logical"}, "set wal_level = replica and restart"),
        judge("archive_mode", settings.get("archive_mode") in {"on", "always"}, "set archive_mode = on and restart"),
        judge(
            "track_commit_timestamp",
            settings.get("track_commit_timestamp") == "on",
            "set track_commit_timestamp = on and restart: without it no commit's time is known, and RPO is unproven",
        ),
    ]
    archived = bool(settings.get("archive_library")) or settings.get("archive_command") not in {"", "(disabled)", None}
    archiving = f"{name} archiving"
    checks.append(
        passed(archiving, "set")
        if archived
        else failed(archiving, "neither archive_command nor archive_library is set", "see `dr agent --help`")
    )
    if settings.get("data_checksums") != "on":
        about = f"{name} data_checksums"
        checks.append(warned(about, "off", "pg_checksums --enable while it is stopped: bit rot is invisible without"))
    if policy.incremental is not None:
        incremental = major >= 17 and settings.get("summarize_wal") == "on"
        checks.append(judge("summarize_wal", incremental, "incrementals need Postgres 17 and summarize_wal = on"))
    return checks


def _unlogged(name: str, member: Member) -> Check:
    """What no WAL tells of: it is empty after every restore and every change of roles, a graceful one, too."""
    import psycopg

    deadline, found = Deadline(_PATIENCE_SECONDS), list[str]()
    try:
        with reading(member.dsn, deadline) as connection:
            names = databases(connection)
        for database in names:
            with reading(member.dsn, deadline, database) as connection:
                found += [f"{database}.{table}" for (table,) in connection.execute(_UNLOGGED.encode()).fetchall()]
    except (DrError, psycopg.Error) as trouble:
        return unproven(name, f"they can't be looked for: {first_line(trouble)}", "give the role CONNECT everywhere")
    if found:
        shown = ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")
        hint = "alter table … set logged where their rows matter: no standby, backup or list of losses has them"
        return warned(name, shown, hint)
    return passed(name, "none")


def tools(name: str, member: Member, *, incremental: bool, major: int | None) -> tuple[Check, ...]:
    """The tools in the member's `bin_dir`, and whether they are of the server's version."""
    name = f"{name} tools"
    if member.host != "local":
        hint = "run `dr check` on that machine too"
        return (unproven(name, f"{member.bin_dir} is on {member.host.removeprefix('ssh:')}", hint),)
    wanted = (*TOOLS, *(("pg_combinebackup",) if incremental else ()))
    missing = [tool for tool in wanted if not (Path(member.bin_dir) / tool).is_file()]
    if missing:
        hint = "install Postgres's server and client programs, or correct `bin_dir`"
        return (failed(name, f"{member.bin_dir} has no {', '.join(missing)}", hint),)
    said = LocalHost().run([f"{member.bin_dir}/postgres", "--version"], patience_seconds=_PATIENCE_SECONDS).out.strip()
    found = re.search(r"(\d+)(?:\.\d+)*", said)
    if found is None:
        return (failed(name, f"{member.bin_dir}/postgres doesn't say its version", "is it for this machine?"),)
    if major is None:
        return (unproven(name, f"{said}; the server's version is not known", "make the server reachable"),)
    if int(found[0].split(".")[0]) != major:
        return (failed(name, f"{said}, but the server is {major}", "name the `bin_dir` of the server's version"),)
    return (passed(name, said),)
