"""A restore by hand, as a printed page has it: from the bucket to a copy that has stopped at its moment. Pure.

Separate from manual.py, where names and terms are moved. What `--explain` prints is for one backup; a page is printed
before anybody knows which, so it says how to find it, and what is put in the place of SYSTEM, BACKUP, TIMELINE, MOMENT.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from shlex import quote

from recovery.catalog import Catalog, Member, PostgresResource
from recovery.manual import aws

PORT = 5499
"""The copy's own, on no network: only the socket in its folder is asked."""
_KEPT = "recovery_|restore_command|archive_|primary_|standby_|promote_"
_SETTINGS = (
    "archive_mode = 'off'",
    "restore_command = 'cp $PWD/wal/%f %p'",
    "recovery_target_timeline = 'TIMELINE'",
    "recovery_target_time = 'MOMENT'",
    "recovery_target_action = 'promote'",
)
_OPTIONS = (
    "listen_addresses=''",
    f"port={PORT}",
    "unix_socket_directories=$PWD",
    "shared_preload_libraries=''",
    "max_logical_replication_workers=0",
    "hot_standby=off",
)


def restored(catalog: Catalog, name: str, site: str) -> Iterator[str]:
    """How a backup of the database of that name is found, fetched and recovered at a site; nothing where it has no
    server there, whose folders and tools would be named."""
    database = catalog.resources[name]
    for _, member in database.at(site)[:1]:
        if database.engine != "native":
            where = f"into a new folder, never into {member.data_dir}"
            yield f"The backups are {database.engine}'s: restore with its own tool, as its manual says, {where}."
            return
        door = aws(catalog.sites[site].s3, catalog.sites[site].region)
        prefix = database.prefix.strip("/")
        place = f"s3://{database.bucket}/{prefix and f'{prefix}/'}"
        yield (
            "A folder base/SYSTEM/BACKUP with a backup.json in it is a whole backup. Take the newest BACKUP that ends"
            " in -full and whose ended_at is before the moment; its timeline is TIMELINE:"
        )
        yield f"$ aws s3 ls {door} --recursive {place}base/"
        yield f"$ aws s3 cp {door} {place}base/SYSTEM/BACKUP/backup.json -"
        yield (
            "Then on that machine (it needs aws with the same keys, zstd and tar), as the user that runs Postgres, in a"
            f" new and empty folder without blanks in its name, never in {member.data_dir}:"
        )
        yield from _fetched(catalog.backups[database.backup].encryption, name, door, place)
        yield from _recovered(member)


def _fetched(key: str | None, name: str, door: str, place: str) -> Iterator[str]:
    base = "base.tar.zst" if key is None else "base.tar.zst.enc"
    yield f"# aws s3 cp {door} {place}base/SYSTEM/BACKUP/{base} ."
    yield "# mkdir -m 700 data archive wal"
    yield f"# aws s3 cp {door} --recursive {place}wal/SYSTEM/ archive/"
    if key is not None:
        yield (
            f"All of it is sealed; KEYFILE is the file with its key, {key.rpartition('/')[2]}. What opens it,"
            f" unseal.py, is printed by dr backup {name} --explain BACKUP: keep that beside this page."
        )
        yield f"# python3 unseal.py KEYFILE < {base} > base.tar.zst"
        opened = 'python3 unseal.py KEYFILE < "$1" > open && mv open "$1"'
        yield f"# find archive -name '*.zst' -exec sh -c '{opened}' - {{}} ';'"
    yield "# zstd -dc base.tar.zst | tar -x -o -C data"
    yield "# find archive -name '*.zst' -exec zstd -q -d --output-dir-flat wal {} +"


def _recovered(member: Member) -> Iterator[str]:
    yield f"# {_tool(member, 'pg_verifybackup')} --no-parse-wal --exit-on-error data"
    yield "MOMENT is written like 2026-11-24 03:00:00+00. Up to the latest moment, leave the line with it out:"
    yield f"# sed -i -E '/^({_KEPT})/d' data/postgresql.auto.conf"
    for each in _SETTINGS:
        yield f'# echo "{each}" >> data/postgresql.auto.conf'
    yield "# rm -f data/standby.signal && touch data/recovery.signal"
    yield "Where the configuration lies outside of the data, as Debian has it, the copy gets one of its own:"
    yield "# test -f data/postgresql.conf || touch data/postgresql.conf"
    yield "# test -f data/pg_hba.conf || echo local all all trust > data/pg_hba.conf"
    yield "It runs on no network, with archiving, preloaded libraries, jobs and subscriptions off:"
    yield f'# {_tool(member, "pg_ctl")} -D data -l recovery.log -w -o "-c {" -c ".join(_OPTIONS)}" start'
    yield (
        "It recovers after that. Look into recovery.log until it says that it is ready to accept connections; before,"
        " it must say recovery stopping, and where (up to the latest moment: archive recovery complete)."
    )


def _tool(member: Member, program: str) -> str:
    """A tool of Postgres, for a shell."""
    return quote(f"{member.bin_dir}/{program}")


def copy_asked(member: Member) -> str:
    """psql on the copy, in the folder that it was restored into."""
    return f'{_tool(member, "psql")} -h "$PWD" -p {PORT}'


def asserted(database: PostgresResource, psql: Callable[[str], str]) -> Iterator[str]:
    """The catalog's assertions of a database, to be asked by hand. `psql`: database → the command that leads there."""
    for each in database.assertions:
        yield f"{each.name}, which must say {each.expect}:"
        yield f"{psql(each.database)} -Atc {quote(each.sql)}"
