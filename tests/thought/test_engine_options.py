"""The options of the engines of estates: what is known is taken, everything else is told with what to do."""

from __future__ import annotations

import pytest

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
