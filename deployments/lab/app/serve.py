"""The sample platform's process: its HTTP. Run as `python -m deployments.lab.app.serve CONFIG_FILE`.

POST /rows {"seq", "payload"} answers 201 only after the commit: that row is then *acknowledged*. GET /rows/SEQ,
/rows/last, /rows/from/SEQ, PUT and GET /videos/NAME. GET /health: 200 only when this site serves, its database answers
and takes writes. GET /ready: 200 when it could, were its database writable. GET and PUT /side-effects {"parked"}.
GET and PUT /capacity {"at_least"}. GET /connections, POST /drain.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psycopg
from botocore.exceptions import BotoCoreError, ClientError

from deployments.lab.app.database import Silent
from deployments.lab.app.sample_platform import Platform

BODY_MAX_BYTES = 64 * 1024 * 1024
Answer = tuple[int, Any]


class Handler(BaseHTTPRequestHandler):
    """One client connection. `platform` is set on a subclass made at the start."""

    platform: Platform
    protocol_version = "HTTP/1.1"
    timeout = 60
    disable_nagle_algorithm = True  # else an answer on a kept connection waits 40 ms for the client's acknowledgement

    def setup(self) -> None:
        """A client connected."""
        super().setup()
        self.platform.connections.opened(id(self), self.connection)

    def finish(self) -> None:
        """The connection ends."""
        self.platform.connections.closed(id(self))
        super().finish()

    def do_GET(self) -> None:
        """What can be asked."""
        simple: dict[str, Callable[[], Answer]] = {
            "/health": self._health,
            "/ready": self._ready,
            "/rows/last": lambda: (200, self.platform.last_row()),
            "/side-effects": lambda: (200, self.platform.effects.told()),
            "/capacity": lambda: (200, {"site": self.platform.site, **self.platform.capacity.told()}),
            "/connections": self._connections,
        }
        folder, _, last = self.path.rpartition("/")
        by_folder: dict[str, Callable[[], Answer]] = {
            "/videos": self._get_video,
            "/rows": lambda: self._row(int(last)),
            "/rows/from": lambda: (200, self.platform.page(int(last))),
        }
        self._answer(simple.get(self.path) or by_folder.get(folder) or _no_page)

    def do_POST(self) -> None:
        """Add a row; drain."""
        self._answer({"/rows": self._add_row, "/drain": self._drain}.get(self.path, _no_page))

    def do_PUT(self) -> None:
        """Keep a video; park or release side effects; have more instances."""
        put_video = self._put_video if self.path.startswith("/videos/") else _no_page
        self._answer({"/side-effects": self._park, "/capacity": self._grow}.get(self.path, put_video))

    def _add_row(self) -> Answer:
        asked = json.loads(self._body())
        return 201, self.platform.add_row(int(asked["seq"]), str(asked["payload"]))

    def _row(self, seq: int) -> Answer:
        found = self.platform.row(seq)
        return (404, {"error": f"no row {seq}"}) if found is None else (200, found)

    def _health(self) -> Answer:
        health = self.platform.health()
        return 200 if health["database"] == "writable" else 503, health

    def _ready(self) -> Answer:
        ready, told = self.platform.ready()
        return 200 if ready else 503, told

    def _park(self) -> Answer:
        parked = json.loads(self._body())["parked"]
        if not isinstance(parked, bool):
            raise TypeError("parked is true or false")
        self.platform.effects.park(parked)
        return 200, self.platform.effects.told()

    def _grow(self) -> Answer:
        self.platform.capacity.raise_to(int(json.loads(self._body())["at_least"]))
        return 200, self.platform.capacity.told()

    def _connections(self) -> Answer:
        return 200, {"site": self.platform.site, **self.platform.connections.told(but=id(self))}

    def _drain(self) -> Answer:
        self._body()
        return 200, self.platform.drain()

    def _put_video(self) -> Answer:
        put = self.platform.s3.put_object(
            Bucket=self.platform.bucket, Key=self.path.removeprefix("/videos/"), Body=self._body()
        )
        return 201, {"etag": put.get("ETag", "")}

    def _get_video(self) -> Answer:
        got = self.platform.s3.get_object(Bucket=self.platform.bucket, Key=self.path.removeprefix("/videos/"))
        return 200, got["Body"].read()

    def _body(self) -> bytes:
        length = int(self.headers.get("Content-Length") or 0)
        if length > BODY_MAX_BYTES:
            raise ValueError(f"the body is larger than {BODY_MAX_BYTES} bytes")
        return self.rfile.read(length)

    def _answer(self, work: Callable[[], Answer]) -> None:
        self.platform.connections.begun(id(self))
        try:
            code, said = work()
        except (ValueError, KeyError, TypeError) as trouble:
            code, said = 400, {"error": str(trouble)}
        except ClientError as trouble:
            missing = trouble.response.get("Error", {}).get("Code") == "NoSuchKey"
            code, said = (404 if missing else 503), {"error": type(trouble).__name__}
        except (psycopg.Error, BotoCoreError, Silent) as trouble:
            code, said = 503, {"error": str(trouble).splitlines()[0] if str(trouble) else type(trouble).__name__}
        self._send(code, said)
        self.platform.connections.ended(id(self))

    def _send(self, code: int, said: Any) -> None:
        body = said if isinstance(said, bytes) else json.dumps(said).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/octet-stream" if isinstance(said, bytes) else "application/json")
        self.send_header("Content-Length", str(len(body)))
        if self.platform.connections.must_close(id(self)):
            self.send_header("Connection", "close")  # the base class then closes it
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the library's name
        """Say nothing of each request; troubles are in the answers."""


def _no_page() -> Answer:
    return 404, {"error": "no such page"}


class Server(ThreadingHTTPServer):
    """Threads that don't keep it alive; no reverse look-up of its own name."""

    platform: Platform

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error of ours; anything else goes to the log."""
        if not isinstance(sys.exception() if sys.version_info >= (3, 11) else None, ConnectionError):
            super().handle_error(request, client_address)


def made(config: dict[str, Any]) -> Server:
    """A server that listens, with its sender running; `serve_forever` answers."""
    platform = Platform(config)
    server = Server((config["address"], config["port"]), type("PlatformHandler", (Handler,), {"platform": platform}))
    server.platform = platform
    platform.effects.start()
    return server


def serve(config: dict[str, Any]) -> None:
    """Serve until SIGTERM."""
    server = made(config)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever(poll_interval=0.1)
    os._exit(0)  # threads that wait for a database that hangs must not keep the process


if __name__ == "__main__":
    serve(json.loads(Path(sys.argv[1]).read_text()))
