"""The emulator's process. Run as `python -m deployments.lab.aws.serve CONFIG_FILE`.

CONFIG: {"addresses": {"east": A, "west": B}, "port", "global": "east", "state": FILE, "published": FILE, "desk_url",
"delay_seconds"}. One emulator, an address for each region's door: Route53's control plane is in us-east-1 alone and is
answered only there.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

from deployments.lab.aws.book import Book
from deployments.lab.aws.route53 import install

ROUTE53 = "/2013-04-01/"
Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
ELSEWHERE = (
    b"<?xml version='1.0'?><ErrorResponse><Error><Type>Sender</Type><Code>UnknownEndpoint</Code><Message>Route53's "
    b"control plane is reached in us-east-1 only</Message></Error><RequestId>lab</RequestId></ErrorResponse>"
)


def without_route53(application: Wsgi) -> Wsgi:
    """The application as a region shows it that doesn't hold Route53's control plane."""

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if not str(environ.get("PATH_INFO", "")).startswith(ROUTE53):
            return application(environ, start_response)
        start_response("404 Not Found", [("Content-Type", "text/xml"), ("Content-Length", str(len(ELSEWHERE)))])
        return [ELSEWHERE]

    return answer


def serve(config: dict[str, Any]) -> None:
    """Serve until SIGTERM."""
    book = Book(Path(config["state"]), Path(config["published"]), delay_seconds=config["delay_seconds"])
    install(book, config["desk_url"])
    book.start()
    application: Wsgi = DomainDispatcherApplication(create_backend_app)
    for site, address in config["addresses"].items():
        shown = application if site == config["global"] else without_route53(application)
        server = make_server(address, config["port"], shown, threaded=True, request_handler=MotoRequestHandler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    ended.wait()


if __name__ == "__main__":
    serve(json.loads(Path(sys.argv[1]).read_text()))
