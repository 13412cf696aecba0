"""The observer before a resolver and two sites that are made up: it goes where the name points, and writes all down."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingUDPServer
from typing import Any

import dns.message
import dns.rcode
import dns.rrset
import pytest

from deployments.lab import naming, observer
from deployments.lab.observed import FIRST_SEQ, outages
from deployments.lab.observer import Observer
from deployments.lab.process import wait_until

EAST, WEST, NAME = "127.0.0.11", "127.0.0.12", "app.lab.test"


class World:
    """What the name points to, how each site behaves, and the rows that each took."""

    def __init__(self) -> None:
        self.points_to: list[str] = [EAST]
        self.silent = False
        self.asked = 0
        self.hangs: set[str] = set()
        self.refuses: set[str] = set()
        self.forgets: set[str] = set()
        self.rows: dict[str, dict[int, str]] = {EAST: {}, WEST: {}}
        self.woken = threading.Event()


def resolver(world: World) -> type[BaseRequestHandler]:
    class Resolver(BaseRequestHandler):
        def handle(self) -> None:
            question = dns.message.from_wire(self.request[0])
            world.asked += 1
            if world.silent:
                return
            said = dns.message.make_response(question)
            if world.points_to:
                said.answer.append(dns.rrset.from_text(NAME + ".", 1, "IN", "A", *world.points_to))
            else:
                said.set_rcode(dns.rcode.NXDOMAIN)
            self.request[1].sendto(said.to_wire(), self.client_address)

    return Resolver


def platform(world: World, address: str) -> type[BaseHTTPRequestHandler]:
    class Platform(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            row = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if address in world.hangs:
                world.woken.wait(10)
            if address in world.refuses:
                self._say(503, {"error": "read-only"})
                return
            if address not in world.forgets:
                world.rows[address][row["seq"]] = row["payload"]
            timeline = 1 if address == EAST else 2
            self._say(201, {"seq": row["seq"], "site": {EAST: "east", WEST: "west"}[address], "timeline": timeline})

        def do_GET(self) -> None:
            rows, last = world.rows[address], self.path.rpartition("/")[2]
            if self.path == "/health":
                self._say(503 if address in world.refuses else 200, {"site": {EAST: "east", WEST: "west"}[address]})
            elif self.path.startswith("/rows/from/"):
                pages = sorted(seq for seq in rows if seq >= int(last))
                self._say(200, {"seqs": pages[:3], "more": len(pages) > 3})
            else:
                self._say(200 if int(last) in rows else 404, {"payload": rows.get(int(last))})

        def _say(self, code: int, said: Any) -> None:
            body = json.dumps(said).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the library's name
            pass

    return Platform


@contextmanager
def serving(server: Any) -> Iterator[Any]:
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[tuple[World, Observer, Path]]:
    world = World()
    with ExitStack() as stack:
        east = stack.enter_context(serving(ThreadingHTTPServer((EAST, 0), platform(world, EAST))))
        stack.enter_context(serving(ThreadingHTTPServer((WEST, east.server_port), platform(world, WEST))))
        names = stack.enter_context(serving(ThreadingUDPServer(("127.0.0.1", 0), resolver(world))))
        journal = stack.enter_context((tmp_path / "journal.jsonl").open("a"))
        by = naming.ByResolver(name=NAME, address="127.0.0.1", port=names.server_address[1])
        stack.callback(world.woken.set)
        yield (
            world,
            Observer(
                names=by, port=east.server_port, numbers=itertools.count(FIRST_SEQ), journal=journal,
                patience_seconds=1.5,
            ),
            tmp_path / "journal.jsonl",
        )  # fmt: skip


def test_a_try_asks_the_name_writes_reads_back_and_is_written_down(scene):
    world, observer_, journal = scene
    tried = observer_.try_once()
    assert (tried.outcome, tried.site, tried.timeline, tried.read_back, tried.address) == (
        "acknowledged", "east", 1, True, EAST,
    )  # fmt: skip
    assert observer.read(journal) == [tried]
    assert world.rows[EAST] == {FIRST_SEQ: f"observed {FIRST_SEQ}"}
    world.points_to = [WEST]
    assert observer_.try_once().site == "west", "the name is asked again for every try"
    assert world.asked == 2


def test_whatever_fails_is_a_failed_try_with_its_reason_within_the_patience(scene):
    world, observer_, _ = scene
    begun = time.monotonic()
    world.refuses = {EAST}
    assert observer_.try_once().why == "503 read-only"
    world.refuses, world.hangs = set(), {EAST}
    assert "Timeout" in observer_.try_once().why
    world.points_to = []
    assert "NXDOMAIN" in observer_.try_once().why
    world.silent = True
    assert "silent" in observer_.try_once().why
    world.silent, world.points_to = False, ["127.0.0.13"]
    assert "Connection" in observer_.try_once().why
    assert time.monotonic() - begun < 3


def test_an_acknowledged_row_that_cannot_be_read_again_stays_acknowledged_and_is_told(scene):
    world, observer_, _ = scene
    world.forgets = {EAST}
    tried = observer_.try_once()
    assert (tried.outcome, tried.read_back) == ("acknowledged", False)


def test_a_lost_site_is_one_outage_until_the_name_points_to_the_other(scene):
    world, observer_, journal = scene
    stopped = threading.Event()
    thread = threading.Thread(target=observer_.watch, args=(stopped,), kwargs={"rate": 50})
    thread.start()

    def seen(outcome: str, site: str) -> bool:
        return any(each.outcome == outcome and each.site == site for each in observer.read(journal))

    def patiently(holds: Any, what: str) -> None:
        wait_until(holds, what=what, patience_seconds=8, hint="see the journal")

    patiently(lambda: seen("acknowledged", "east"), "an acknowledgement at east")
    world.hangs = {EAST}
    patiently(lambda: seen("failed", ""), "a failed try")
    world.points_to = [WEST]
    patiently(lambda: seen("acknowledged", "west"), "an acknowledgement at west")
    stopped.set()
    thread.join()
    tries = observer.read(journal)
    (lost,) = outages(tries)
    assert lost.end is not None
    east = [each for each in tries if each.site == "east"]
    assert lost.begin == max(each.ended_at for each in east)
    assert len({each.seq for each in tries}) == len(tries)
    assert 0.3 < lost.seconds < 6
    assert observer._at_the_primary(observer_.names, FIRST_SEQ, port=observer_.port) == (
        {"address": WEST, "site": "west"}, set(world.rows[WEST]),
    )  # fmt: skip


def test_a_line_that_is_not_whole_yet_is_not_read(scene):
    _, observer_, journal = scene
    observer_.try_once()
    with journal.open("a") as torn:
        torn.write('{"seq": 1')
    assert len(observer.read(journal)) == 1


def test_an_observer_that_cannot_write_its_journal_stops_loudly(scene):
    _, observer_, _ = scene
    observer_.journal.close()
    with pytest.raises(ValueError, match="closed"):
        observer_.watch(threading.Event(), rate=50)


def test_without_a_resolver_the_site_that_failed_is_asked_last():
    names = naming.of({"known": [EAST, WEST]})
    assert names.addresses(patience_seconds=1) == [EAST, WEST]
    names.failed(EAST)
    names.failed(EAST)
    assert names.addresses(patience_seconds=1) == [WEST, EAST]
