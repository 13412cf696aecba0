"""The sample platform's process. Run as `python -m deployments.lab.app.serve CONFIG_FILE`.

POST /rows {"seq", "payload"} answers 201 only after the commit: that row is then *acknowledged*. GET /rows/last,
GET /health (200 only when this site can serve: its database answers and takes writes), PUT and GET /videos/NAME.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

import psycopg
from botocore.exceptions import BotoCoreError, ClientError

from deployments.lab.s3.client import client
from recovery.catalog import S3Endpoint

if TYPE_CHECKING:
    from collections.abc import Iterator

BODY_MAX_BYTES = 64 * 1024 * 1024
POOL_SIZE = 8
STATEMENT_PATIENCE = "-c statement_timeout=5s"


class Platform:
    """What the handlers share: a handful of database connections and the site's bucket."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.site: str = config["site"]
        self.dsn: str = config["dsn"]
        self.bucket: str = config["bucket"]
        self.s3 = client(S3Endpoint.model_validate(config["s3"]))
        self._idle: SimpleQueue[psycopg.Connection] = SimpleQueue()

    @contextmanager
    def sql(self) -> Iterator[psycopg.Connection]:
        """A connection in a transaction: committed at the end; dropped when anything went wrong."""
        try:
            connection = self._idle.get_nowait()
        except Empty:
            connection = psycopg.connect(self.dsn, options=STATEMENT_PATIENCE)
        try:
            yield connection
            connection.commit()
        except BaseException:
            connection.close()
            raise
        if self._idle.qsize() < POOL_SIZE:
            self._idle.put(connection)
        else:
            connection.close()

    def add_row(self, seq: int, payload: str) -> dict[str, Any]:
        """Write the row; it is committed when this returns. The same row again is the same answer."""
        with self.sql() as sql:
            sql.execute("insert into rows (seq, payload) values (%s, %s) on conflict (seq) do nothing", [seq, payload])
        with self.sql() as sql:
            found = sql.execute(
                "select payload = %s, at, pg_current_wal_insert_lsn()::text from rows where seq = %s", [payload, seq]
            ).fetchone()
        if found is None or not found[0]:
            raise ValueError(f"row {seq} is there with another payload")
        return {"seq": seq, "at": found[1].isoformat(), "lsn": found[2]}

    def last_row(self) -> dict[str, Any]:
        """The newest row and how many there are."""
        with self.sql() as sql:
            found = sql.execute("select max(seq), count(*) from rows").fetchone()
        return {"seq": found[0] if found else None, "count": found[1] if found else 0}

    def health(self) -> dict[str, Any]:
        """What it can do."""
        with self.sql() as sql:
            standby = sql.execute("select pg_is_in_recovery()").fetchone() == (True,)
        return {"site": self.site, "database": "read-only" if standby else "writable"}


class Handler(BaseHTTPRequestHandler):
    """One request. `platform` is set on a subclass made at the start."""

    platform: Platform
    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_GET(self) -> None:
        """GET /health, /rows/last, /videos/NAME."""
        if self.path == "/health":
            self._answer(self._health)
        elif self.path == "/rows/last":
            self._answer(lambda: (200, self.platform.last_row()))
        elif self.path.startswith("/videos/"):
            self._answer(self._get_video)
        else:
            self._send(404, {"error": "no such page"})

    def do_POST(self) -> None:
        """POST /rows."""
        self._answer(self._add_row) if self.path == "/rows" else self._send(404, {"error": "no such page"})

    def do_PUT(self) -> None:
        """PUT /videos/NAME."""
        self._answer(self._put_video) if self.path.startswith("/videos/") else self._send(404, {"error": "no page"})

    def _add_row(self) -> tuple[int, Any]:
        asked = json.loads(self._body())
        return 201, self.platform.add_row(int(asked["seq"]), str(asked["payload"]))

    def _health(self) -> tuple[int, Any]:
        health = self.platform.health()
        return 200 if health["database"] == "writable" else 503, health

    def _put_video(self) -> tuple[int, Any]:
        put = self.platform.s3.put_object(
            Bucket=self.platform.bucket, Key=self.path.removeprefix("/videos/"), Body=self._body()
        )
        return 201, {"etag": put.get("ETag", "")}

    def _get_video(self) -> tuple[int, Any]:
        got = self.platform.s3.get_object(Bucket=self.platform.bucket, Key=self.path.removeprefix("/videos/"))
        return 200, got["Body"].read()

    def _body(self) -> bytes:
        length = int(self.headers.get("Content-Length") or 0)
        if length > BODY_MAX_BYTES:
            raise ValueError(f"the body is larger than {BODY_MAX_BYTES} bytes")
        return self.rfile.read(length)

    def _answer(self, work: Any) -> None:
        try:
            code, said = work()
        except (ValueError, KeyError, TypeError) as trouble:
            code, said = 400, {"error": str(trouble)}
        except ClientError as trouble:
            missing = trouble.response.get("Error", {}).get("Code") == "NoSuchKey"
            code, said = (404 if missing else 503), {"error": type(trouble).__name__}
        except (psycopg.Error, BotoCoreError) as trouble:
            code, said = 503, {"error": str(trouble).splitlines()[0] if str(trouble) else type(trouble).__name__}
        self._send(code, said)

    def _send(self, code: int, said: Any) -> None:
        body = said if isinstance(said, bytes) else json.dumps(said).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/octet-stream" if isinstance(said, bytes) else "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the library's name
        """Say nothing of each request; troubles are in the answers."""


class Server(ThreadingHTTPServer):
    """Threads that don't keep it alive; no reverse look-up of its own name."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error of ours; anything else goes to the log."""
        if not isinstance(sys.exception() if sys.version_info >= (3, 11) else None, ConnectionError):
            super().handle_error(request, client_address)


def serve(config: dict[str, Any]) -> None:
    """Serve until SIGTERM."""
    handler = type("PlatformHandler", (Handler,), {"platform": Platform(config)})
    server = Server((config["address"], config["port"]), handler)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever(poll_interval=0.1)


if __name__ == "__main__":
    serve(json.loads(Path(sys.argv[1]).read_text()))
