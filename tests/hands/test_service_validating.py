"""A recovered service is valid when its site answers, its database takes writes and its data is right; also by name."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import psycopg
import pytest
from service_scene import Act, catalog
from site_scene import Site, closed_port, site

from deployments.lab.scratch_cluster import Cluster, cluster
from recovery.check import Outcome
from recovery.drive import Truth
from recovery.errors import BadInput, Failed, Unproven
from recovery.step import Step
from tasks import serving
from tasks.home import Home
from tasks.resolving import address_and_port, resolve


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("pair"), standby=True) as made:
        yield made


def served(pair: Cluster, *, primary_at: str = "west", expect: str = "1") -> dict[str, Any]:
    """The database section: the primary at that site, its standby at the other."""
    assert pair.standby is not None
    where = {"data_dir": str(pair.data_dir), "bin_dir": str(pair.bin_dir)}
    other = "east" if primary_at == "west" else "west"
    return {
        "members": {primary_at: {"dsn": pair.dsn, **where}, other: {"dsn": pair.standby.dsn, **where}},
        "database": {"assertions": [{"name": "one", "sql": "select 1", "expect": expect}]},
    }


def validate(folder: Path, west: Site, *, database: dict[str, Any], **step: Any) -> Act:
    made = catalog({"probes": {"app-west": {"site": "west", "url": west.url}}}, **database)
    return Act(folder, made, "validate", **{"arguments": {"site": "west"}, **step})


def test_of_two_servers_at_a_site_the_one_that_takes_writes_is_judged(pair: Cluster, tmp_path: Path) -> None:
    assert pair.standby is not None
    told = served(pair)
    there = told["members"].pop("west")
    told["members"] = {
        **told["members"],
        "west": {**there, "dsn": pair.standby.dsn},
        "west-2": {**there, "site": "west"},
    }
    with site() as west:
        facts = validate(tmp_path, west, database=told, patience_seconds=10).perform()
    assert [each["outcome"] for each in facts["checks"].values()] == ["passed", "passed"]


def test_a_site_that_serves_is_valid_and_its_checks_are_facts(pair: Cluster, tmp_path: Path) -> None:
    with site() as west:
        act = validate(tmp_path, west, database=served(pair), patience_seconds=10)
        assert act.observe().truth is Truth.ABSENT
        facts = act.perform()
        assert facts["in_a_row"] == 3
        assert len(west.asked) == 3
        assert facts["checks"] == {
            "db takes writes": {"outcome": "passed", "why": "a write committed"},
            "db one": {"outcome": "passed", "why": "1, as expected"},
        }
        assert act.observe().truth is Truth.HOLDS
        west.say = lambda *_: (503, b"")
        assert act.observe().truth is Truth.ABSENT


def test_a_site_that_flaps_is_not_valid(pair: Cluster, tmp_path: Path) -> None:
    flap = iter([200, 200, 503] * 20)
    with site(lambda *_: (next(flap), b"")) as west:
        act = validate(tmp_path, west, database=served(pair), patience_seconds=2)
        with pytest.raises(Failed, match="west does not serve"):
            act.perform()


def test_a_standby_a_wrong_row_and_a_silent_server_are_told(pair: Cluster, tmp_path: Path) -> None:
    with site() as west:
        standby = validate(tmp_path, west, database=served(pair, primary_at="east"), patience_seconds=2)
        with pytest.raises(Failed, match="db takes writes: it is a standby"):
            standby.perform()
        wrong = validate(tmp_path, west, database=served(pair, expect="2"), patience_seconds=2)
        with pytest.raises(Failed, match="db one: it gave 1 instead of 2"):
            wrong.perform()
        nobody = {"members": {"west": {"dsn": f"host=127.0.0.1 port={closed_port()}", "data_dir": "/", "bin_dir": "/"}}}
        with pytest.raises(Unproven, match="it cannot be seen whether west serves; unproven: db takes writes"):
            validate(tmp_path, west, database=nobody, patience_seconds=2).perform()


def test_a_server_that_only_lets_read_or_whose_commits_hang_takes_no_writes(
    pair: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(folder=tmp_path, catalog=catalog({}, **served(pair)))
    monkeypatch.setattr(serving, "WRITE_SECONDS", 0.5)

    def told(setting: str, value: str) -> str:
        with psycopg.connect(pair.dsn, autocommit=True) as link:
            link.execute(f"alter system set {setting} = '{value}'".encode())
            link.execute(b"select pg_reload_conf()")
            until_set(link, setting, value)
            try:
                (found,) = serving.written(home, "core", "west")
            finally:
                link.execute(f"alter system reset {setting}".encode())
                link.execute(b"select pg_reload_conf()")
                until_set(link, setting, {"default_transaction_read_only": "off"}.get(setting, ""))
        assert found.outcome is Outcome.FAILED
        return found.fact

    def until_set(link: psycopg.Connection[Any], setting: str, value: str) -> None:
        for _ in range(500):
            row = link.execute(b"select pg_sleep(0.01), current_setting(%s)", (setting,)).fetchone()
            if row is not None and row[1] == value:
                return
        raise AssertionError(setting)

    assert told("synchronous_standby_names", "nobody").startswith("a write did not commit within 0.5 s")
    assert serving.written(home, "core", "west")[0].outcome is Outcome.PASSED
    assert told("default_transaction_read_only", "on") == "it only lets sessions read"


def test_a_standby_that_follows_is_told_from_a_primary(pair: Cluster, tmp_path: Path) -> None:
    home = Home(folder=tmp_path, catalog=catalog({}, **served(pair)))
    (east,) = serving.following(home, "core", "east", lag_seconds=5.0)
    assert (east.outcome, east.fact) == (Outcome.PASSED, "streaming, 0.0 s behind")
    assert serving.following(home, "core", "west", lag_seconds=5.0) == ()
    assert serving.following(home, "core", "witness", lag_seconds=5.0) == ()


@contextmanager
def resolver(answers: dict[str, str], rcode: dns.rcode.Rcode = dns.rcode.NOERROR) -> Iterator[str]:
    """`ADDRESS:PORT` of a resolver that knows these names."""
    link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    link.bind(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                asked, where = link.recvfrom(4096)
            except OSError:
                return
            if not asked:
                return
            question = dns.message.from_wire(asked)
            answer = dns.message.make_response(question)
            answer.set_rcode(rcode)
            name = question.question[0].name
            if (value := answers.get(name.to_text(omit_final_dot=True))) is not None:
                answer.answer.append(dns.rrset.from_text(name, 1, "IN", "A", value))
            link.sendto(answer.to_wire(), where)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{link.getsockname()[1]}"
    finally:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", link.getsockname())
        thread.join(2)
        link.close()


def by_name(folder: Path, west: Site, *resolvers: str, value: str = "127.0.0.1", live: bool = True) -> Act:
    port = west.url.rpartition(":")[2]
    app = {
        "name": "app.lab.test",
        "zone": "lab.test",
        "zone_id": "Z",
        "moved_by": "record-edit",
        "use": "live" if live else "rehearsal",
        "records": {"west": {"value": value, "set_identifier": "west"}},
        "resolvers": list(resolvers),
    }
    probes = {"app-west": {"site": "west", "url": f"http://127.0.0.1:{port}/ready", "expect": "ok"}}
    made = catalog({"dns": ["app"], "probes": probes}, dns={"app": app})
    return Act(folder, made, "validate", arguments={"site": "west", "through": "names"}, patience_seconds=0.8)


def test_the_service_is_asked_by_its_name_where_every_resolver_leads(tmp_path: Path) -> None:
    with site() as west, resolver({"app.lab.test": "127.0.0.1"}) as one, resolver({"app.lab.test": "127.0.0.1"}) as two:
        act = by_name(tmp_path, west, one, two)
        facts = act.perform()
        assert facts["through"] == "names"
        assert facts["checks"][f"app.lab.test by {one}"] == {"outcome": "passed", "why": "127.0.0.1"}
        assert facts["checks"]["app app-west"]["outcome"] == "passed"
        assert west.asked[0][1:3] == ("/ready", f"app.lab.test:{west.url.rpartition(':')[2]}")
        assert act.observe().truth is Truth.HOLDS
        west.say = lambda *_: (503, b"")
        assert act.observe().truth is Truth.ABSENT


def test_a_resolver_that_leads_elsewhere_fails_and_a_silent_one_is_unproven(tmp_path: Path) -> None:
    with (
        site() as west,
        resolver({"app.lab.test": "127.0.0.1"}) as right,
        resolver({"app.lab.test": "127.9.9.9"}) as old,
    ):
        with pytest.raises(Failed, match=f"{old} answers 127"):
            by_name(tmp_path, west, right, old).perform()
        with resolver({}) as empty, pytest.raises(Failed, match="answers nothing for app"):
            by_name(tmp_path, west, right, empty).perform()
        with resolver({}, dns.rcode.SERVFAIL) as ill:
            facts = by_name(tmp_path, west, right, ill).perform()
        assert facts["checks"][f"app.lab.test by {ill}"] == {"outcome": "unproven", "why": "SERVFAIL"}


def test_without_a_live_name_that_is_said(tmp_path: Path) -> None:
    with site() as west:
        facts = by_name(tmp_path, west, live=False).perform()
    assert facts["checks"] == {"state": "not configured"}
    with pytest.raises(BadInput, match="`through` is 'walls'"):
        Act(tmp_path, catalog({}), "validate", arguments={"site": "west", "through": "walls"}).perform()


def test_a_copy_is_judged_by_the_checks_of_what_restored_it_and_by_nothing_made_up(tmp_path: Path) -> None:
    act = Act(tmp_path, catalog({}), "validate", arguments={"site": "west", "scratch": True})
    with pytest.raises(Unproven, match="no step of this run has checked the restored copy"):
        act.perform()
    restore = Step(id="restore", verb="restore", resource="db")
    act.plan = act.plan.but(steps=(restore, act.step))
    act.results["restore"] = {"checks": {"rows": {"outcome": "passed"}}}
    assert act.perform() == {"scratch": True, "checks": {"restore": {"rows": {"outcome": "passed"}}}}
    assert act.observe().truth is Truth.HOLDS
    act.results["restore"] = {"checks": [{"name": "rows", "outcome": "failed"}]}
    with pytest.raises(Failed, match="the restored copy failed checks of restore"):
        act.perform()


@pytest.mark.parametrize(
    ("server", "found"),
    [
        ("1.1.1.1", ("1.1.1.1", 53)),
        ("127.0.0.1:5353", ("127.0.0.1", 5353)),
        ("::1", ("::1", 53)),
        ("[::1]:5353", ("::1", 5353)),
        ("[::1]", ("::1", 53)),
    ],
)
def test_a_resolvers_address_may_have_a_port(server: str, found: tuple[str, int]) -> None:
    assert address_and_port(server) == found


def test_silence_is_not_an_answer_without_addresses() -> None:
    with resolver({}) as empty:
        assert resolve(empty, "app.lab.test", "A").outcome == "answered"
    assert resolve(f"127.0.0.1:{closed_port()}", "app.lab.test", "A", patience_seconds=0.2).outcome == "silent"
    assert resolve("no address", "app.lab.test", "A").outcome == "silent"
