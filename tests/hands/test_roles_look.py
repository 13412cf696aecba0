"""Before roles change, an archive is read to its end only where it may hold what a standby has not received."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from recovery.catalog import Member, PostgresResource
from recovery.errors import Failed
from recovery.wal import parse
from tasks import watching
from tasks.home import Home
from tasks.postgres.archived import key_of
from tasks.postgres.place import Place
from tasks.postgres.roles import look
from tasks.postgres.roles.servers import Server
from tests.hands.memory_store import MemoryStore

SYSTEM, SEGMENT = "7", 16 * 1024 * 1024
RECEIVED = 5 * SEGMENT + 4000
"""In the segment 000000030000000000000005."""


def standby(member: str = "west", *, received_lsn: int = RECEIVED) -> Server:
    place = Place(
        system_id=SYSTEM, in_recovery=True, lsn=received_lsn, timeline=3, committed_at=None, server_version=180000,
        segment_bytes=SEGMENT,
    )  # fmt: skip
    return Server(
        member=member, place=place, received_lsn=received_lsn, receiver=None, conninfo="", slot="", restore_command="",
        synchronous="", read_only=False, host="h", port="1", paused=False,
    )  # fmt: skip


def home(store: Any, engine: str = "native") -> Home:
    member = Member(dsn="postgresql://nobody@127.0.0.1:9/postgres", data_dir="/d", bin_dir="/b")
    members = {"west": member, "west-2": member.but(site="west")}
    resource = PostgresResource(
        kind="postgres", objective="o", backup="b", proof="p", owner="t", members=members, bucket="b",
        engine=cast("Any", engine),
    )  # fmt: skip
    return cast(
        "Home", SimpleNamespace(resource=lambda name: resource, backups=lambda name, site, patience_seconds: store)
    )


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The sites whose buckets were read."""
    sites: list[str] = []

    def bucket(home: Home, name: str, site: str, servers: Any, *, marked: bool) -> watching.Bucket:
        sites.append(site)
        return watching.Bucket(site=site, points=None, why="a test's")

    monkeypatch.setattr(watching, "bucket", bucket)
    return sites


def kept(*files: str) -> MemoryStore:
    store = MemoryStore()
    for each in files:
        store.put(key_of(SYSTEM, parse(each), each), b"")
    return store


OWN, BEFORE = "000000030000000000000005", "000000030000000000000004"


@pytest.mark.parametrize(
    ("files", "reads"),
    [
        ((), False),
        ((BEFORE,), False),
        ((BEFORE, "000000040000000000000005", "000000030000000000000006"), False),  # no promotion would replay these
        ((BEFORE, OWN), True),
        ((f"{OWN}.partial",), True),
    ],
)
def test_the_end_of_an_archive_is_read_where_a_promotion_would_find_something_to_replay(
    read: list[str], files: tuple[str, ...], reads: bool
) -> None:
    one = standby()
    found = look._archives(home(kept(*files)), "db", [one], (one,))
    assert read == (["west"] if reads else [])
    assert list(found) == read


def test_one_of_several_standbys_that_lags_behind_it_is_enough(read: list[str]) -> None:
    both = (standby(), standby("west-2", received_lsn=4 * SEGMENT + 1))
    assert list(look._archives(home(kept(BEFORE)), "db", both, both)) == ["west"]
    assert read == ["west"]


def test_what_another_engine_keeps_is_always_read_since_it_lies_under_names_of_its_own(read: list[str]) -> None:
    one = standby()
    look._archives(home(kept(), engine="pgbackrest"), "db", [one], (one,))
    assert read == ["west"]


def test_an_archive_that_does_not_answer_tells_nothing_and_is_not_read(read: list[str]) -> None:
    def silent(key: str) -> None:
        raise Failed("nobody answers there", hint="see whether it is up")

    one = standby()
    assert look._archives(home(SimpleNamespace(head=silent)), "db", [one], (one,)) == {}
    assert not read
