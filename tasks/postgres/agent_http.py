"""The agent's HTTP door: a small table of routes, JSON in and out.

Separate so that marks, fences and leases add their routes without touching the agent. It listens where its
configuration says and nowhere else.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

from pydantic import JsonValue

from recovery.errors import BadInput, DrError, Failed, Refused

Route = Callable[[Mapping[str, str], bytes], JsonValue]
"""Query and body in, JSON out. A DrError becomes its status with fact and hint."""
_BODY_BYTES = 1024 * 1024


class Door(ThreadingHTTPServer):
    """`add` routes, then `serve_forever` in a thread."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, address: str, port: int) -> None:
        self.routes: dict[tuple[str, str], Route] = {}
        try:
            super().__init__((address, port), _Handler)
        except OSError as error:
            raise Failed(
                f"{address}:{port} can't be listened on: {error.strerror}",
                hint="end what listens there (another agent?) or choose another port in the agent's configuration",
            ) from None

    def add(self, method: str, path: str, route: Route) -> None:
        """Answer `method path` with `route`. A path that ends with a slash also answers below it; what follows the
        slash is the query's `below`."""
        self.routes[method, path] = route

    def answer(self, method: str, target: str, body: bytes) -> tuple[int, JsonValue]:
        """Status and JSON of one request."""
        url = urlsplit(target)
        query = dict(parse_qsl(url.query))
        route = self.routes.get((method, url.path))
        if route is None and url.path.count("/") > 1:
            above, _, below = url.path.rpartition("/")
            route = self.routes.get((method, f"{above}/"))
            query["below"] = below
        if route is None:
            known = ", ".join(sorted(f"{m} {p}" for m, p in self.routes))
            return 404, {"fact": f"there is no {method} {url.path}", "hint": f"there are: {known}"}
        try:
            return 200, route(query, body)
        except DrError as error:
            status = 400 if isinstance(error, BadInput) else 409 if isinstance(error, Refused) else 503
            return status, {"fact": error.fact, "hint": error.hint, "exit_code": error.exit_code}
        except Exception as error:  # noqa: BLE001 -- the caller hears it, the log has the rest
            sys.stderr.write(traceback.format_exc())
            return 500, {"fact": f"the agent failed ({type(error).__name__})", "hint": "see the agent's log"}


class _Handler(BaseHTTPRequestHandler):
    server: Door
    timeout = 30

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        if length > _BODY_BYTES:
            status, said = 413, {"fact": "the body is too long", "hint": f"at most {_BODY_BYTES} bytes"}
        else:
            status, said = self.server.answer(self.command, self.path, self.rfile.read(length))  # type: ignore[assignment]
        text = json.dumps(said, allow_nan=False).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = do_DELETE = _serve  # noqa: N815 -- names that http.server looks for

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- http.server's signature
        """Requests are not logged: status is asked every second."""
