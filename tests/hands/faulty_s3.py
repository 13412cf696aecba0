"""A tiny S3 server whose answers a test scripts: it fails, cuts, delays or loses answers on demand. For tests only."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

from recovery.catalog import S3Endpoint


@dataclass
class Faults:
    """What the next requests meet, first first: a status with code `503 SlowDown`, `cut` (half of the body, then
    the end), `lost` (done, but the answer never comes). A spent script serves. `always` never is spent."""

    script: list[str] = field(default_factory=list)
    always: str = ""
    unwritable: bool = False
    """A full disk: what is put meets 503, what is asked for is served."""
    seen: list[str] = field(default_factory=list)
    objects: dict[str, bytes] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def next(self, request: str) -> str:
        with self.lock:
            self.seen.append(request)
            return self.always or (self.script.pop(0) if self.script else "")


class Handler(BaseHTTPRequestHandler):
    faults: ClassVar[Faults]
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        return

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self._fault("PUT"):
            return
        if self.faults.unwritable:
            self._answer(503, _error("ServiceUnavailable"))
            return
        if self.headers.get("If-None-Match") == "*" and self.path in self.faults.objects:
            self._answer(412, _error("PreconditionFailed"))
            return
        self.faults.objects[self.path] = body
        if self._lost:
            self.close_connection = True
            return
        self._answer(200, b"", {"ETag": f'"{hashlib.md5(body).hexdigest()}"'})

    def do_GET(self) -> None:
        if self._fault("GET"):
            return
        path = self.path.partition("?")[0]
        if path not in self.faults.objects:
            self._answer(404, _error("NoSuchKey"))
            return
        body, wanted = self.faults.objects[path], re.match(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if wanted:
            body = body[int(wanted[1]) : int(wanted[2]) + 1]
        if self._cut:
            self.send_response(206)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
            return
        self._answer(206 if wanted else 200, body, {"ETag": f'"{hashlib.md5(body).hexdigest()}"'})

    def do_DELETE(self) -> None:
        if not self._fault("DELETE"):
            self.faults.objects.pop(self.path, None)
            self._answer(204, b"")

    _lost = _cut = False

    def _fault(self, verb: str) -> bool:
        what = self.faults.next(f"{verb} {self.path.partition('?')[0]}")
        self._lost, self._cut = what == "lost", what == "cut"
        if what in {"", "lost", "cut"}:
            return False
        status, code = what.split()
        self._answer(int(status), _error(code))
        return True

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, text in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(body)


def _error(code: str) -> bytes:
    return f"<Error><Code>{code}</Code><Message>scripted</Message></Error>".encode()


@contextmanager
def faulty_s3() -> Iterator[tuple[S3Endpoint, Faults]]:
    """A running server; the environment must have FAULTY_ACCESS_KEY_ID and FAULTY_SECRET_ACCESS_KEY."""
    faults = Faults()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Scripted", (Handler,), {"faults": faults}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield S3Endpoint(endpoint_url=f"http://127.0.0.1:{server.server_port}", credentials="env:FAULTY"), faults
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
