"""A small site: an HTTP server that says what it is told to, slowly, never, or wrongly; and bare sockets."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Say = Callable[[str, str, bytes], tuple[int, bytes]]
"""Method, path and body → status and answer."""


class Site:
    """A server whose answer can be changed while it runs; `asked` are the requests (method, path, Host, body)."""

    def __init__(self, say: Say | None = None) -> None:
        self.say: Say = say or (lambda _method, _path, _body: (200, b"ok"))
        self.asked: list[tuple[str, str, str, bytes]] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def end(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def _handler(site: Site) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            site.asked.append((self.command, self.path, self.headers.get("Host", ""), body))
            status, said = site.say(self.command, self.path, body)
            self.send_response(status)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        do_GET = do_PUT = do_POST = _serve  # noqa: N815 -- names that http.server looks for

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- http.server's signature
            pass

    return Handler


@contextmanager
def site(say: Say | None = None) -> Iterator[Site]:
    made = Site(say)
    try:
        yield made
    finally:
        made.end()


@contextmanager
def bare(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """`ADDRESS:PORT` of a server that does as it likes with each connection."""
    listening = socket.create_server(("127.0.0.1", 0))
    links: list[socket.socket] = []

    def accept() -> None:
        while True:
            try:
                link, _ = listening.accept()
            except OSError:
                return
            links.append(link)
            threading.Thread(target=_serving, args=(serve, link), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{listening.getsockname()[1]}"
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        for link in links:
            link.close()
        thread.join(2)


def _serving(serve: Callable[[socket.socket], None], link: socket.socket) -> None:
    try:
        serve(link)
    except OSError:
        return  # the one who asked has gone, or the test has ended


def closed_port() -> int:
    """A port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def until(holds: Callable[[], Any], patience_seconds: float = 5.0) -> Any:
    """What `holds` gives once it is true. Fails past the patience."""
    deadline = time.monotonic() + patience_seconds
    while not (found := holds()):
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)
    return found


def plain(value: object) -> bytes:
    return json.dumps(value).encode()
