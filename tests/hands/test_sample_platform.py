"""The sample platform on a real database: rows with their side effects, parking, draining, no answer that hangs."""

from __future__ import annotations

import http.client
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from deployments.lab import scratch_cluster
from deployments.lab.app import serve
from deployments.lab.observed import FIRST_SEQ
from deployments.lab.postgres import schema
from deployments.lab.process import wait_until

ADDRESS = "127.0.0.9"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[scratch_cluster.Cluster]:
    with scratch_cluster.cluster(tmp_path_factory.mktemp("platform") / "db") as made:
        with psycopg.connect(made.dsn, autocommit=True) as sql:
            sql.execute(schema.ROLES)
            sql.execute("create table rows (seq bigint primary key, payload text, at timestamptz default now())")
            sql.execute("grant select, insert on rows to platform")
            sql.execute(schema.OUTBOX)
            sql.execute(schema.OUTBOX)  # again is harmless: labs of before get it at their next start
        yield made


@pytest.fixture
def empty(cluster: scratch_cluster.Cluster) -> scratch_cluster.Cluster:
    with psycopg.connect(cluster.dsn, autocommit=True) as sql:
        sql.execute("truncate rows, outbox")
    return cluster


@contextmanager
def site(cluster: scratch_cluster.Cluster, folder: Path, *, released: bool = True) -> Iterator[int]:
    """A platform that serves; gives its port."""
    secret = folder.parent / "credentials.json"
    secret.write_text(json.dumps({"access_key_id": "a", "secret_access_key": "b"}))
    server = serve.made(
        {
            "site": folder.name,
            "address": ADDRESS,
            "port": 0,
            "dsns": [cluster.dsn.replace("user=postgres", "user=platform")],
            "s3": {"endpoint_url": "http://127.0.0.9:1", "credentials": f"file:{secret}"},
            "bucket": "videos",
            "folder": str(folder),
            "released": released,
        }
    )
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        server.platform.end()
        thread.join()


def ask(port: int, method: str, path: str, said: Any = None) -> tuple[int, dict[str, Any]]:
    line = http.client.HTTPConnection(ADDRESS, port, timeout=5)
    try:
        line.request(method, path, None if said is None else json.dumps(said))
        answer = line.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        line.close()


def add(port: int, seq: int, payload: str = "x") -> int:
    return ask(port, "POST", "/rows", {"seq": seq, "payload": payload})[0]


def sent(folder: Path) -> list[int]:
    file = folder / "sent.jsonl"
    return [json.loads(line)["seq"] for line in file.read_text().splitlines()] if file.exists() else []


def soon(holds: Any, what: str) -> None:
    wait_until(holds, what=what, patience_seconds=8, hint="the sender runs every 0.1 s")


def wait_and_see(holds: Any) -> bool:
    """Whether it goes on holding for three rounds of the sender."""
    deadline = time.monotonic() + 0.4
    while time.monotonic() < deadline and holds():
        time.sleep(0.02)
    return bool(holds())


def test_a_row_is_acknowledged_with_its_site_and_timeline_and_read_back(empty, tmp_path):
    with site(empty, tmp_path / "east") as port:
        code, told = ask(port, "POST", "/rows", {"seq": 7, "payload": "seven"})
        assert (code, told["site"], told["timeline"]) == (201, "east", 1)
        assert ask(port, "POST", "/rows", {"seq": 7, "payload": "seven"})[0] == 201
        assert ask(port, "POST", "/rows", {"seq": 7, "payload": "other"})[0] == 400
        assert ask(port, "GET", "/rows/7")[1]["payload"] == "seven"
        assert ask(port, "GET", "/rows/8")[0] == 404
        assert ask(port, "GET", "/rows/eight")[0] == 400
        assert ask(port, "GET", "/elsewhere")[0] == 404


def test_the_observers_numbers_do_not_move_the_workloads(empty, tmp_path):
    with site(empty, tmp_path / "east") as port:
        assert [add(port, seq) for seq in (1, 2, FIRST_SEQ, FIRST_SEQ + 1)] == [201] * 4
        assert ask(port, "GET", "/rows/last")[1] == {"seq": 2, "count": 2}
        page = ask(port, "GET", f"/rows/from/{FIRST_SEQ}")[1]
        assert page == {"site": "east", "seqs": [FIRST_SEQ, FIRST_SEQ + 1], "more": False}


def test_side_effects_go_out_in_order_once_and_not_while_parked_also_after_a_restart(empty, tmp_path):
    folder = tmp_path / "west"
    with site(empty, folder, released=False) as port:
        for seq in (1, 2, 3):
            add(port, seq)
        add(port, 3)
        assert ask(port, "GET", "/side-effects")[1] == {"parked": True, "waiting": 3, "sent": 0}
    with site(empty, folder, released=True) as port:  # it was parked: what it would be at first says nothing any more
        assert ask(port, "GET", "/side-effects")[1]["parked"] is True
        assert ask(port, "PUT", "/side-effects", {"parked": "no"})[0] == 400
        assert ask(port, "PUT", "/side-effects", {"parked": False})[0] == 200
        soon(lambda: ask(port, "GET", "/side-effects")[1]["waiting"] == 0, "the sending")
        assert sent(folder) == [1, 2, 3]
        assert ask(port, "PUT", "/side-effects", {"parked": True})[1]["parked"] is True
        add(port, 4)
        assert ask(port, "GET", "/side-effects")[1] == {"parked": True, "waiting": 1, "sent": 3}
    with (folder / "sent.jsonl").open("a") as torn:  # a sender that was killed in mid-line did not deliver it
        torn.write('{"id": 5, "so')
    with psycopg.connect(empty.dsn, autocommit=True) as sql:  # one that was killed before it marked them did
        sql.execute("update outbox set sent_at = null")
    with site(empty, folder) as port:
        ask(port, "PUT", "/side-effects", {"parked": False})
        soon(lambda: ask(port, "GET", "/side-effects")[1]["waiting"] == 0, "the sending")
        assert sent(folder) == [1, 2, 3, 4]


def test_many_writers_at_once_keep_the_outbox_whole_and_in_the_order_of_transactions(empty, tmp_path):
    with site(empty, tmp_path / "east") as port:
        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(lambda seq: add(port, seq), range(200))) == {201}
        soon(lambda: ask(port, "GET", "/side-effects")[1]["waiting"] == 0, "the sending")
    with psycopg.connect(empty.dsn) as sql:
        by_transaction = [seq for (seq,) in sql.execute("select seq from outbox order by xid, id")]
    assert sent(tmp_path / "east") == by_transaction
    assert sorted(by_transaction) == list(range(200))


def test_a_site_that_is_too_small_is_not_ready_and_says_why(empty, tmp_path):
    with site(empty, tmp_path / "west") as port:
        assert ask(port, "GET", "/ready") == (200, {"site": "west", "writable": True, "capacity": "full"})
        (tmp_path / "west" / "capacity").write_text("small\n")
        code, told = ask(port, "GET", "/ready")
        assert (code, told["capacity"]) == (503, "small")
        assert "too small for all users: 1 of 3 instances" in told["why"]
        assert ask(port, "GET", "/health")[0] == 200, "it serves who is there; it could not carry all"


def test_a_site_grows_when_it_is_told_to_takes_a_moment_and_is_never_made_smaller(empty, tmp_path):
    with site(empty, tmp_path / "west") as port:
        full = {"site": "west", "at_least": 1, "desired": 3, "in_service": 3, "at_most": 20}
        assert ask(port, "GET", "/capacity") == (200, full)
        (tmp_path / "west" / "capacity").write_text("small")
        assert ask(port, "GET", "/capacity")[1]["in_service"] == 1
        code, told = ask(port, "PUT", "/capacity", {"at_least": 4})
        assert (code, told["desired"], told["in_service"]) == (200, 4, 1)
        assert ask(port, "PUT", "/capacity", {"at_least": 2})[1]["at_least"] == 4
        soon(lambda: ask(port, "GET", "/capacity")[1]["in_service"] == 4, "the growing")
        assert ask(port, "GET", "/ready")[0] == 200
        (tmp_path / "west" / "capacity").write_text("limited")
        assert ask(port, "PUT", "/capacity", {"at_least": 4})[0] == 400
        assert ask(port, "GET", "/capacity")[1]["at_most"] == 1


def test_a_database_that_hangs_hangs_nobody_and_goes_on_afterwards(empty, tmp_path):
    with site(empty, tmp_path / "east") as port:
        assert add(port, 1) == 201
        family = [empty.pid, *_children(empty.pid)]
        for pid in family:
            with suppress(ProcessLookupError):  # a worker that has ended
                os.kill(pid, signal.SIGSTOP)
        try:
            with ThreadPoolExecutor(12) as pool:
                writes = [pool.submit(add, port, seq) for seq in range(2, 10)]
                begun = time.monotonic()
                code, told = ask(port, "GET", "/health")
                assert time.monotonic() - begun < 5
                assert (code, "did not answer" in told["database"]) == (503, True)
                assert ask(port, "GET", "/ready")[0] == 503
                assert {each.result() for each in writes} == {503}
            assert time.monotonic() - begun < 15
            assert ask(port, "GET", "/side-effects")[1]["waiting"] is None
        finally:
            for pid in family:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
        soon(lambda: add(port, 100) == 201, "a row after the hang")
        assert ask(port, "GET", "/health")[0] == 200


def test_connections_that_the_server_closed_cost_no_request(empty, tmp_path):
    with site(empty, tmp_path / "east") as port:
        assert add(port, 1) == 201
        with psycopg.connect(empty.dsn, autocommit=True) as sql:
            sql.execute("select pg_terminate_backend(pid, 2000) from pg_stat_activity where usename = 'platform'")
        assert add(port, 2) == 201


def test_a_database_that_went_read_only_is_told_and_refuses_writes(empty, tmp_path):
    with site(empty, tmp_path / "east") as port:
        assert add(port, 1) == 201
        soon(lambda: sent(tmp_path / "east") == [1], "the sending")
        with psycopg.connect(empty.dsn, autocommit=True) as sql:
            sql.execute("alter role platform set default_transaction_read_only = on")
            try:
                sql.execute("select pg_terminate_backend(pid, 2000) from pg_stat_activity where usename = 'platform'")
                assert ask(port, "GET", "/health") == (503, {"site": "east", "database": "read-only"})
                assert ask(port, "GET", "/ready")[1]["writable"] is False
                assert ask(port, "GET", "/ready")[0] == 200
                assert add(port, 2) == 503
                sql.execute("insert into outbox (sort, seq, body) values ('mail', 2, 'x')")
                assert ask(port, "GET", "/side-effects")[1]["waiting"] == 1
                assert wait_and_see(lambda: sent(tmp_path / "east") == [1]), "who gives way sends nothing more"
            finally:
                sql.execute("alter role platform reset default_transaction_read_only")
        assert add(port, 3) == 201, "connections of the read-only past were dropped"


def test_draining_sends_long_lived_clients_away(empty, tmp_path):
    with site(empty, tmp_path / "east") as port:
        stays = http.client.HTTPConnection(ADDRESS, port, timeout=5)
        stays.request("GET", "/rows/last")
        first = stays.getresponse()
        first.read()
        assert first.getheader("Connection") is None
        assert ask(port, "GET", "/connections")[1] == {"site": "east", "open": 1, "old": 0, "draining": False}
        soon(lambda: ask(port, "GET", "/connections")[1]["old"] == 1, "the connection's age")
        assert ask(port, "POST", "/drain")[1]["told_to_go"] >= 2, "the old one, the asking one, and any not yet closed"
        assert stays.sock.recv(1) == b"", "it was closed"
        stays.close()
        soon(lambda: ask(port, "GET", "/connections")[1]["open"] == 0, "the end of old connections")
        stays.request("GET", "/rows/last")
        assert stays.getresponse().getheader("Connection") == "close"
        stays.close()


def _children(pid: int) -> list[int]:
    import psutil

    return [each.pid for each in psutil.Process(pid).children(recursive=True)]
