"""A name server, a resolver and an endpoint that health checkers probe, in this process, on loopback addresses."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dns.message
import dns.query

from deployments.lab.dns.checkers import Checkers
from deployments.lab.dns.files import write
from deployments.lab.dns.neutral import Neutral
from deployments.lab.dns.wire import NameServer, Sky
from deployments.lab.dns.zone import Check, Published, RecordSet, Zone
from deployments.lab.resolver.serve import Resolver

ADDRESS = "127.61.7.1"
EAST, WEST = "192.0.2.1", "192.0.2.2"
SOA = RecordSet(name="lab.test.", type="SOA", ttl=30, values=("ns.lab.test. me.lab.test. 1 7200 900 1209600 1",))
NS = RecordSet(name="lab.test.", type="NS", ttl=60, values=("ns.lab.test.",))


def a(name: str, *values: str, ttl: int = 1, **more: Any) -> RecordSet:
    return RecordSet(name=f"{name}.lab.test.", type="A", ttl=ttl, values=values, **more)


def pair(name: str, check: str | None, behind: str | None = None, ttl: int = 1) -> tuple[RecordSet, RecordSet]:
    """A failover name: east while `check` is healthy, then west."""
    return (
        a(name, EAST, ttl=ttl, set_identifier=f"{name}-e", failover="PRIMARY", health_check=check),
        a(name, WEST, ttl=ttl, set_identifier=f"{name}-w", failover="SECONDARY", health_check=behind),
    )


def published(*records: RecordSet, checks: tuple[Check, ...] = (), serial: int = 1) -> Published:
    return Published(
        serial=serial, zones=(Zone(id="Z1", name="lab.test.", records=(SOA, NS, *records)),), checks=checks
    )


@dataclass(kw_only=True)
class Scene:
    """The neutral world: `publish` is what the emulator does; `ask` asks the name server, `resolve` the resolver."""

    folder: Path
    neutral: Neutral
    checkers: Checkers
    server: NameServer
    resolver: NameServer
    ended: threading.Event = field(default_factory=threading.Event)

    def publish(self, told: Published) -> None:
        write(self.folder / "zone.json", told.model_dump(mode="json"))
        until(lambda: self.neutral.published == told, "the publication")

    def keep_looking(self) -> None:
        while not self.ended.wait(0.01):
            if self.neutral.look():
                self.checkers.keep(self.neutral.published.checks)

    def ask(self, name: str, kind: str = "A", *, tcp: bool = False, port: int | None = None) -> dns.message.Message:
        asked = dns.message.make_query(f"{name}.lab.test." if not name.endswith(".") else name, kind)
        how = dns.query.tcp if tcp else dns.query.udp
        return how(asked, ADDRESS, port=port or self.server.port, timeout=3)

    def resolve(self, name: str, kind: str = "A") -> dns.message.Message:
        return self.ask(name, kind, port=self.resolver.port)


def values(reply: dns.message.Message) -> list[str]:
    return [each.to_text() for rrset in reply.answer for each in rrset]


@contextmanager
def scene(folder: Path, *, scale: float = 0.002, arc: tuple[Path, ...] = ()) -> Iterator[Scene]:
    neutral = Neutral(folder, scale=scale, arc=arc)
    server = NameServer(ADDRESS, 0, neutral.respond, weather=Sky(folder / "weather.json"))
    resolver = Resolver((ADDRESS, server.port))
    with ThreadPoolExecutor(8) as pool:
        cache = NameServer(ADDRESS, 0, resolver.respond, weather=Sky(folder / "sky.json"), pool=pool)
        made = Scene(
            folder=folder,
            neutral=neutral,
            checkers=Checkers(neutral, patience_seconds=1),
            server=server,
            resolver=cache,
        )
        looking = threading.Thread(target=made.keep_looking)
        for each in (server, cache):
            each.start()
        looking.start()
        try:
            yield made
        finally:
            made.ended.set()
            looking.join()
            made.checkers.keep(())
            server.close()
            cache.close()


class Endpoint:
    """An HTTP endpoint whose objects are in `objects`, and which counts how often it was asked."""

    def __init__(self) -> None:
        self.objects: set[str] = set()
        self.asked = 0
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                endpoint.asked += 1
                self.send_response(200 if self.path in endpoint.objects else 404)
                self.send_header("Content-Length", "5")
                self.end_headers()
                self.wfile.write(b"hello")

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer((ADDRESS, 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def check(self, name: str, path: str, **more: Any) -> Check:
        return Check(
            id=name, reference=name, type="HTTP", address=ADDRESS, port=self.port, path=path, every_seconds=10, **more
        )

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def until(holds: Callable[[], object], what: str, patience_seconds: float = 8) -> None:
    deadline = time.monotonic() + patience_seconds
    while not holds():
        assert time.monotonic() < deadline, f"{what} did not come about"
        time.sleep(0.005)
