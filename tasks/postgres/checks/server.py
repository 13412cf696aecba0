"""Is the server around the data right? Isolated, with the source's collations and extensions."""

# ruff: noqa: E501 -- SQL reads best unbroken, and is made of constants and quoted names only

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from recovery.check import Check, Finding
from tasks.postgres.checks.context import CheckContext, each_database, failed, judged, passed, session, unproven
from tasks.postgres.reading import only

_SETTINGS = """
select name, setting from pg_catalog.pg_settings where name in ('archive_mode', 'archive_command', 'archive_library',
  'primary_conninfo', 'primary_slot_name', 'listen_addresses', 'max_logical_replication_workers', 'shared_preload_libraries',
  'session_preload_libraries', 'local_preload_libraries', 'synchronous_standby_names')
"""
_WRONG: Mapping[str, Callable[[str], bool]] = {
    "archive_mode": lambda value: value != "off",
    "primary_conninfo": bool,
    "primary_slot_name": bool,
    "listen_addresses": bool,
    "max_logical_replication_workers": lambda value: value != "0",
    "shared_preload_libraries": bool,
    "session_preload_libraries": bool,
    "local_preload_libraries": bool,
    "synchronous_standby_names": bool,
}
_DANGER = {
    "archive_mode": "it would push its own WAL into an archive, the source's if the command came with the data",
    "primary_conninfo": "it would stream from a live server",
    "primary_slot_name": "it would use a live server's slot",
    "listen_addresses": "others could reach it",
    "max_logical_replication_workers": "its subscriptions would take changes from live publishers",
    "synchronous_standby_names": "its commits would wait",
}
_SECRET = frozenset({"primary_conninfo", "archive_command"})
_HINT = "the attempt is not isolated: stop it at once, and start it with archiving, replication and preloads off"
_COLLATIONS = """
select 'collation ' || (pg_catalog.pg_identify_object('pg_catalog.pg_collation'::regclass, oid, 0)).identity, collversion,
  pg_catalog.pg_collation_actual_version(oid)
from pg_catalog.pg_collation where collversion is not null and collversion is distinct from pg_catalog.pg_collation_actual_version(oid)
  and (oid >= 16384 or exists (select from pg_catalog.pg_attribute a where a.attcollation = pg_collation.oid and a.attrelid >= 16384))
"""
_DEFAULT_COLLATION = """
select 'default collation', datcollversion, pg_catalog.pg_database_collation_actual_version(oid) from pg_catalog.pg_database
where datname = pg_catalog.current_database() and datcollversion is not null
  and datcollversion is distinct from pg_catalog.pg_database_collation_actual_version(oid)
"""
_EXTENSIONS = """
select extname::text, extversion from pg_catalog.pg_extension e where not exists (
  select from pg_catalog.pg_available_extension_versions v where v.name = e.extname and v.version = e.extversion)
"""
_LIBRARIES = "select distinct probin::text from pg_catalog.pg_proc where probin is not null and probin <> ''"


def isolation(context: CheckContext, name: str) -> Check:
    """Nothing in the copy's settings reaches out, and there is no network to reach out with."""
    with session(context) as connection:
        settings = dict(connection.execute(_SETTINGS.encode()).fetchall())
    found = []
    for setting, value in sorted(settings.items()):
        if setting in _WRONG and _WRONG[setting](value):
            shown = "set" if setting in _SECRET else value
            why = _DANGER.get(setting, "it would run the source's code")
            command = (
                " with an archive_command" if setting == "archive_mode" and settings.get("archive_command") else ""
            )
            found.append(Finding(check=name, fact=f"{setting} is {shown}{command}: {why}", hint=_HINT))
    if found:
        return failed(name, found)
    if not context.network_isolated:
        return unproven(name, "archiving, replication and preloads are off, but the copy shares this machine's network")
    return passed(name, "archiving, replication and preloads are off, and the copy has no network")


def collations(context: CheckContext, name: str) -> Check:
    """Texts sort here as they did where the indexes were built."""
    found = []
    for database, connection in each_database(context):
        rows = connection.execute(_COLLATIONS.encode()).fetchall()
        if int(only(connection, "show server_version_num")[0]) >= 150000:
            rows += connection.execute(_DEFAULT_COLLATION.encode()).fetchall()
        for what, recorded, actual in rows:
            fact = f"{what} in database {database} is version {actual} here and {recorded} at the source"
            hint = "indexes on text may be wrong on this machine: use the source's operating system image, or reindex"
            found.append(Finding(check=name, fact=fact, hint=hint))
    return judged(name, found, "collations have the versions that the data was built with")


def extensions(context: CheckContext, name: str) -> Check:
    """Every extension's version and every library that the data needs can be had here."""
    found = []
    hint = "install the source's extension packages on the machines of the recovery site"
    libraries: set[str] = set(context.preload)
    folder = Path()
    for database, connection in each_database(context):
        folder = Path(only(connection, "select setting from pg_catalog.pg_config() where name = 'PKGLIBDIR'")[0])
        for extension, version in connection.execute(_EXTENSIONS.encode()).fetchall():
            fact = f"extension {extension} {version} of database {database} is not available here"
            found.append(Finding(check=name, fact=fact, hint=hint))
        libraries |= {row[0] for row in connection.execute(_LIBRARIES.encode()).fetchall()}
    missing = [library for library in sorted(libraries) if not _there(library, folder)]
    found += [Finding(check=name, fact=f"library {library} is not available here", hint=hint) for library in missing]
    return judged(name, found, "all extensions and libraries that the data needs are here")


def _there(library: str, folder: Path) -> bool:
    plain = library.removeprefix("$libdir/")
    path = Path(plain) if Path(plain).is_absolute() else folder / plain
    return any(path.with_name(path.name + ending).exists() for ending in ("", ".so", ".dylib", ".dll"))
