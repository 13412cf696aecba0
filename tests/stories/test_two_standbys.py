"""Two standbys at the recovery site: the most advanced takes over, its neighbour follows it, and all go home again."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from moved import DB, home_of, lab, lost, moved, seen
from psycopg import sql
from psycopg.conninfo import make_conninfo
from troubled import until

from deployments.lab import breaking, observer
from deployments.lab.world import World
from recovery.outcome import Changed
from tasks.home import Home
from tasks.journal import read_records
from tasks.postgres.roles import servers
from tasks.postgres.roles.servers import Server

pytestmark = [pytest.mark.lab, pytest.mark.slow]


@pytest.fixture(scope="module")
def raised(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with lab(tmp_path_factory.mktemp("two") / "home", standbys=2) as made:
        yield made


@pytest.fixture
def world(raised: World) -> Iterator[World]:
    """Before and after: served by the east, both others stream from it."""
    seen(raised, "east")
    all_follow(raised, "east")
    yield raised
    breaking.end(raised)
    if roles(raised)["east"] != "primary":
        back = moved(home_of(raised), "failback", "east")
        assert (back.outcome, back.lost_commits) == ("met", 0), back
    seen(raised, "east")
    all_follow(raised, "east")
    assert observer.look(raised)["two_writers"] == []
    assert not set(observer.look(raised)["missing"]) - GIVEN_UP, "going home lost nothing"


GIVEN_UP: set[int] = set()
"""Rows that a failover gave up: what they were is listed, and is not this file's story."""


@pytest.fixture
def home(world: World) -> Home:
    return home_of(world)


def said(world: World) -> dict[str, Server | servers.Silent]:
    return dict(servers.ask_all(home_of(world).resource(DB).members.items()))


def roles(world: World) -> dict[str, str]:
    return {
        name: ("primary" if each.primary else "standby") if isinstance(each, Server) else "silent"
        for name, each in said(world).items()
    }


def all_follow(world: World, primary: str) -> None:
    """Every other server streams from that one, on its timeline, through a slot of its own that is in use."""

    def so() -> bool:
        found = said(world)
        first = found[primary]
        assert isinstance(first, Server), first
        others = [each for name, each in found.items() if name != primary]
        with psycopg.connect(world.dsn(primary), autocommit=True) as connection:
            streams = connection.execute(
                "select s.slot_name from pg_replication_slots s join pg_stat_replication r on r.pid = s.active_pid"
                " where r.state = 'streaming'"
            ).fetchall()
        lines = {each.place.timeline for each in found.values() if isinstance(each, Server)}
        assert first.primary
        assert all(isinstance(each, Server) and each.receiver == "streaming" for each in others), others
        assert lines == {first.place.timeline}
        assert {row[0] for row in streams} >= {name.replace("-", "_") for name in found if name != primary}, streams
        return True

    until(so)


def promoted(home: Home, told: Changed) -> tuple[str, object]:
    """Which server the run promoted, and what became of its neighbours."""
    ended = next(
        each
        for each in read_records(home.ledger(), told.run)
        if each.kind == "step.ended" and each.facts.get("step") == "promote"
    )
    result = ended.facts["result"]
    assert isinstance(result, dict)
    return str(result["member"]), result["neighbours"]


def behind(world: World, member: str) -> None:
    """Cut a standby off from what comes: it receives nothing more while the others do."""
    with psycopg.connect(world.dsn(member), autocommit=True) as connection:
        told = connection.execute("show primary_conninfo").fetchone()
        assert told is not None
        nowhere = sql.Literal(make_conninfo(told[0], port=1))
        connection.execute(sql.SQL("alter system set primary_conninfo = {}").format(nowhere))
        connection.execute("select pg_reload_conf()")
    until(lambda: isinstance(each := said(world)[member], Server) and not each.receiver)
    here = said(world)[member]
    assert isinstance(here, Server)

    def passed() -> bool:
        first = said(world)["east"]
        return isinstance(first, Server) and first.received_lsn > here.received_lsn + 4096

    until(passed)


@pytest.mark.parametrize(("lagging", "first", "second"), [("west", "west-2", "west"), ("west-2", "west", "west-2")])
def test_the_most_advanced_is_promoted_its_neighbour_follows_it_and_they_go_home(
    world: World, home: Home, lagging: str, first: str, second: str
) -> None:
    behind(world, lagging)
    lost(world, "site:east")
    told = moved(home, "failover", "west")
    assert told.outcome == "met", told
    assert promoted(home, told) == (first, {second: "pointed"})
    seen(world, "west")
    GIVEN_UP.update(observer.look(world)["missing"])
    until(lambda: isinstance(each := said(world)[second], Server) and each.receiver == "streaming")
    breaking.end(world)
    assert roles(world)["east"] != "primary"
    back = moved(home, "failback", "east")
    assert (back.outcome, back.lost_commits, back.rpo_seconds) == ("met", 0, 0.0), back
    seen(world, "east")
    all_follow(world, "east")


def test_a_switchover_there_and_home_loses_nothing_and_all_follow(world: World, home: Home) -> None:
    there = moved(home, "switchover", "west")
    assert (there.outcome, there.lost_commits, there.rpo_seconds) == ("met", 0, 0.0), there
    first, _ = promoted(home, there)
    seen(world, "west")
    all_follow(world, first)
    back = moved(home, "switchover", "east")
    assert (back.outcome, back.lost_commits) == ("met", 0), back
    seen(world, "east")
