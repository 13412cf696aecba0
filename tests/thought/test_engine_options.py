"""The options of the engines of estates: what is known is taken, everything else is told with what to do."""

from __future__ import annotations

from typing import Any

import pytest

from recovery.catalog import Catalog
from recovery.contradictions import contradictions
from recovery.engine_options import BarmanCloudOptions, PgBackRestOptions, wrong


def test_what_an_engine_knows_is_taken() -> None:
    assert wrong("native", {}) == ()
    assert wrong("pgbackrest", {"stanza": "main", "config": "/etc/pgbackrest.conf", "repo": 2}) == ()
    assert wrong("barman-cloud", {"server": "orders", "compression": "lz4", "retention": "REDUNDANCY 3"}) == ()
    assert PgBackRestOptions(stanza="main").incremental == "diff"
    assert BarmanCloudOptions(server="orders").compression == "gzip"


@pytest.mark.parametrize(
    ("engine", "options", "option", "fact", "hint"),
    [
        ("native", {"stanza": "main"}, "stanza", "native has no option `stanza`", "options of native: none"),
        ("pgbackrest", {}, "", "pgbackrest needs the option `stanza`", "add `stanza`"),
        ("pgbackrest", {"stanza": "m", "cofnig": "x"}, "cofnig", "pgbackrest has no option `cofnig`", "`config`"),
        ("pgbackrest", {"stanza": "m", "repo": 0}, "repo", "greater than or equal to 1", "options: stanza"),
        ("barman-cloud", {"server": "o", "retention": "90 days"}, "retention", "should match", "options: server"),
        ("barman-cloud", {"server": "o", "password": "x"}, "password", "no option `password`", "bin_dir"),
    ],
)
def test_everything_else_is_told_with_what_to_do(
    engine: str, options: dict[str, object], option: str, fact: str, hint: str
) -> None:
    (told,) = wrong(engine, options)  # type: ignore[arg-type]
    assert told.option == option
    assert fact in told.fact
    assert hint in told.hint


def catalog(engine: str, options: dict[str, Any], **policy: Any) -> Catalog:
    full = {"schedule": {"cron": "0 3 * * *"}, "keep": "30 days"}
    member = {"dsn": "dbname=postgres", "data_dir": "/nowhere", "bin_dir": "/nowhere"}
    return Catalog.model_validate(
        {
            "schema": 1,
            "name": "estate",
            "sites": {"east": {"role": "primary", "region": "us-east-1"}},
            "ledger": {"home": "directory:ledger"},
            "objectives": {"o": {"category": "c", "rpo": "15 min", "rto": "30 min", "proof_age": "1 day"}},
            "backups": {"b": {"full": full, "marks": {"cron": "15 * * * *"}, "copies": ["east"], **policy}},
            "proofs": {"p": {"schedule": {"cron": "0 5 * * *"}, "site": "east"}},
            "services": {"core": {"owner": "team", "resources": ["db"]}},
            "resources": {
                "db": {
                    "kind": "postgres", "objective": "o", "backup": "b", "proof": "p", "owner": "team",
                    "bucket": "backups", "engine": engine, "engine_options": options, "members": {"east": member},
                }
            },
        }
    )  # fmt: skip


INCREMENTAL = {"schedule": {"cron": "30 * * * *"}, "keep": "7 days"}


def test_a_catalog_that_asks_nothing_strange_of_its_engine_has_no_contradiction() -> None:
    assert contradictions(catalog("native", {}, incremental=INCREMENTAL)) == ()
    assert contradictions(catalog("pgbackrest", {"stanza": "main"}, incremental=INCREMENTAL)) == ()
    assert contradictions(catalog("barman-cloud", {"server": "orders"})) == ()


def test_a_catalog_is_refused_for_what_its_engine_does_not_have_at_the_place_where_it_stands() -> None:
    wanted = {"incremental": INCREMENTAL, "encryption": "env:KEY"}
    told = {each.path: each.fact for each in contradictions(catalog("barman-cloud", {"stanza": "main"}, **wanted))}
    assert "barman-cloud has no option `stanza`" in told["resources", "db", "engine_options", "stanza"]
    assert "barman-cloud needs the option `server`" in told["resources", "db", "engine_options"]
    assert "takes full backups only" in told["backups", "b", "incremental"]
    assert "does not use this key" in told["backups", "b", "encryption"]


def test_a_missing_option_is_told_at_the_resource_and_a_missing_policy_is_not_told_twice() -> None:
    bare = catalog("pgbackrest", {})
    assert [each.path for each in contradictions(bare)] == [("resources", "db")]
    lost = bare.but(resources={"db": bare.resources["db"].but(backup="gone", engine_options={"stanza": "main"})})
    assert all("gone" in each.fact for each in contradictions(lost))
