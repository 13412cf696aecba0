"""Engines behind one port: an absent tool, a wrong option, a tool's exit codes and words; stand-ins for the tools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from recovery.catalog import PostgresResource, S3Endpoint
from recovery.errors import BadInput, Failed, Unproven
from tasks.host import LocalHost
from tasks.postgres.engines import barman_cloud, pgbackrest_said, table
from tasks.postgres.engines.native import Native
from tasks.postgres.engines.tool import Tool, WalCommand, fetch_each
from tests.hands.memory_store import MemoryStore

SEGMENT = "000000010000000000000003"
SIZE = 1 << 20


def resource(**changes: Any) -> PostgresResource:
    member = {"dsn": "dbname=postgres", "data_dir": "/nowhere", "bin_dir": "/nowhere"}
    said: dict[str, Any] = {
        "kind": "postgres", "objective": "o", "backup": "b", "proof": "p", "owner": "team", "bucket": "backups",
        "members": {"east": member}, **changes,
    }  # fmt: skip
    return PostgresResource.model_validate(said)


def place(credentials: str = "default") -> table.Place:
    endpoint = S3Endpoint(endpoint_url="http://127.0.0.1:9", credentials=credentials)
    return table.Place(site="east", endpoint=endpoint, region="us-east-1", store=MemoryStore())


def program(folder: Path, name: str, script: str) -> Tool:
    file = folder / name
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o700)
    return Tool(bin_dir=str(folder), install="install it", host=LocalHost())


def test_the_word_of_the_catalog_gives_the_engine() -> None:
    assert isinstance(table.engine_of("db", resource(), place()), Native)


@pytest.mark.parametrize(
    ("engine", "options", "tool"),
    [("pgbackrest", {"stanza": "main"}, "pgbackrest"), ("barman-cloud", {"server": "o"}, "barman-cloud-backup-list")],
)
def test_an_absent_tool_is_bad_input_that_says_how_to_get_it(
    tmp_path: Path, engine: str, options: dict[str, str], tool: str
) -> None:
    wanted = resource(engine=engine, engine_options={**options, "bin_dir": str(tmp_path)})
    with pytest.raises(BadInput, match=f"{tool} is not installed here") as told:
        table.engine_of("db", wanted, place())
    assert "install" in told.value.hint
    assert "bin_dir" in told.value.hint


def test_an_unknown_option_and_an_absent_configuration_are_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no option `stanze`"):
        table.engine_of("db", resource(engine="pgbackrest", engine_options={"stanza": "m", "stanze": "m"}), place())
    program(tmp_path, "pgbackrest", "exit 0")
    options = {"stanza": "main", "bin_dir": str(tmp_path), "config": str(tmp_path / "absent.conf")}
    with pytest.raises(BadInput, match=r"no pgbackrest configuration .*absent\.conf"):
        table.engine_of("db", resource(engine="pgbackrest", engine_options=options), place())


@pytest.mark.parametrize(
    ("script", "fact"),
    [
        ("exit 1", "is not in the archive"),
        ("echo 'ERROR: no route to host' >&2; exit 103", "could not fetch .* ended with 103: ERROR: no route to host"),
        ("exit 2", "could not fetch .* ended with 2: it said nothing"),
        ("exit 0", "could not fetch .* ended with 0"),
        ('head -c 5000 /dev/zero >"$2"', f"has 5000 bytes in the archive, a segment has {SIZE}"),
    ],
)
def test_no_exit_code_of_a_tool_ever_means_end_of_wal(tmp_path: Path, script: str, fact: str) -> None:
    tool = program(tmp_path, "get", script)
    command = WalCommand(program="get", arguments={SEGMENT: (SEGMENT, str(tmp_path / SEGMENT))})
    with pytest.raises(Failed, match=fact) as told:
        fetch_each(tool, command, tmp_path, SIZE)
    assert SEGMENT in told.value.fact
    assert ("not in the archive" in told.value.fact) == (script == "exit 1")


def test_secrets_reach_a_tool_by_its_environment_and_by_nothing_that_can_be_seen(tmp_path: Path) -> None:
    told = tmp_path / "credentials.json"
    told.write_text(json.dumps({"access_key_id": "who", "secret_access_key": "planted-secret"}))
    seen = tmp_path / "seen"
    program(
        tmp_path, "barman-cloud-backup-list", f'echo "$* / $AWS_SECRET_ACCESS_KEY" >{seen}; echo "ERROR: no"; exit 4'
    )
    options = {"server": "o", "bin_dir": str(tmp_path)}
    engine = table.engine_of("db", resource(engine="barman-cloud", engine_options=options), place(f"file:{told}"))
    with pytest.raises(Failed, match="ended with 4") as trouble:
        engine.backups()
    arguments, _, environment = seen.read_text().partition(" / ")
    assert environment.strip() == "planted-secret"
    assert "planted-secret" not in arguments + repr(engine) + str(trouble.value)


def test_a_password_in_a_dsn_never_stands_on_a_command_line() -> None:
    database, env = barman_cloud.libpq("host=db port=6432 user=u password=planted-secret dbname=orders")
    assert database == "orders"
    assert env == {"PGHOST": "db", "PGPORT": "6432", "PGUSER": "u", "PGPASSWORD": "planted-secret"}


def info(**changes: Any) -> dict[str, Any]:
    backup = {
        "archive": {"start": "0000000100000000000000FE", "stop": "000000010000000100000001"},
        "database": {"id": 2, "repo-key": 1},
        "error": False,
        "info": {"size": 1000, "delta": 1000, "repository": {"delta": 10}},
        "label": "20261124-175344F_20261124-175348D",
        "lsn": {"start": "0/FE000028", "stop": "1/1000050"},
        "timestamp": {"start": 1795542828, "stop": 1795542829},
        "type": "diff",
    }
    return {
        "name": "main",
        "status": {"code": 0, "message": "ok"},
        "db": [
            {"id": 1, "repo-key": 1, "system-id": 7, "version": "9.6"},
            {"id": 2, "repo-key": 1, "system-id": 8, "version": "15"},
        ],
        "archive": [
            {"id": "9.6-1", "database": {"id": 1, "repo-key": 1}},
            {"id": "15-2", "database": {"id": 2, "repo-key": 1}},
        ],
        "backup": [{**backup, **changes}],
    }


def test_what_pgbackrest_says_of_a_backup_becomes_ours() -> None:
    (found,) = pgbackrest_said.backups(info(), "db", 16 << 20)
    assert (found.system_id, found.timeline, found.kind, found.parent) == ("8", 1, "incremental", "20261124-175344F")
    assert (found.begin_lsn, found.end_lsn) == (0xFE000028, 0x101000050)
    assert found.server_version == 150000
    assert (found.ended_at - found.begun_at).total_seconds() == 2  # whole seconds: it surely had ended a second later
    assert pgbackrest_said.error_of(info(error=True), found.id) is True
    assert pgbackrest_said.error_of(info(error=None), found.id) is None


def test_a_pgbackrest_that_tells_no_lsn_is_unproven_and_a_stanza_in_trouble_is_told() -> None:
    told = info()
    del told["backup"][0]["lsn"]
    with pytest.raises(Unproven, match="tells no LSNs"):
        pgbackrest_said.backups(told, "db", 16 << 20)
    with pytest.raises(Failed, match="no such stanza"):
        pgbackrest_said.stanza_of([info()], "other")
    with pytest.raises(Failed, match="missing stanza path"):
        pgbackrest_said.stanza_of([{"name": "main", "status": {"code": 1, "message": "missing stanza path"}}], "main")


def test_only_the_archive_of_the_asked_system_counts_and_strange_names_are_kept_as_strange() -> None:
    sha1 = "0123456789abcdef0123456789abcdef01234567"
    listed = {
        "archive.info": {"type": "file"},
        "9.6-1/0000000100000000": {"type": "path"},
        f"9.6-1/0000000100000000/{SEGMENT}-{sha1}.gz": {"type": "file"},
        f"15-2/0000000100000000/{SEGMENT}-{sha1}.zst": {"type": "file"},
        f"15-2/0000000100000000/{SEGMENT}.partial-{sha1}": {"type": "file"},
        "15-2/00000002.history": {"type": "file"},
        f"15-2/0000000100000000/{SEGMENT}.00000028.backup": {"type": "file"},
        "15-2/0000000100000000/what.tmp": {"type": "file"},
    }
    ids = pgbackrest_said.archive_ids(info(), "8")
    assert ids == ("15-2",)
    assert dict(pgbackrest_said.wal_files(listed, ids)) == {
        SEGMENT: sha1,
        f"{SEGMENT}.partial": sha1,
        "00000002.history": "",
        f"{SEGMENT}.00000028.backup": "",
        "15-2/0000000100000000/what.tmp": "-",
    }
