"""The name servers' desk: verdicts and the published zone over HTTP, for status, people and `look`. Read only."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from deployments.lab.dns.neutral import Neutral


class Desk(BaseHTTPRequestHandler):
    """One request. `neutral` is set on a subclass made at the start."""

    neutral: Neutral
    timeout = 10

    def do_GET(self) -> None:
        """GET /health-checks, /zone."""
        pages: dict[str, Callable[[], Any]] = {
            "/health-checks": self.neutral.tell,
            "/zone": lambda: self.neutral.published.model_dump(mode="json"),
        }
        page = pages.get(self.path)
        said: Any = page() if page else {"error": "no such page", "pages": list(pages)}
        body = json.dumps(said).encode()
        self.send_response(200 if page else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the library's name
        """Say nothing of each request."""


def open_desk(neutral: Neutral, address: str, port: int) -> ThreadingHTTPServer:
    """Listen, and serve in a thread."""
    server = ThreadingHTTPServer((address, port), type("NeutralDesk", (Desk,), {"neutral": neutral}))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.5,), name="desk", daemon=True).start()
    return server
