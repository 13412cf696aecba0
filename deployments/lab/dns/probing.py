"""One real probe of an endpoint, as Route53's checkers do it: TCP connect, HTTP status, a string in the answer."""

from __future__ import annotations

import http.client
import socket
from contextlib import closing

from deployments.lab.dns.zone import Check

SEARCHED_BYTES = 5120


def probe(check: Check, *, patience_seconds: float) -> tuple[bool, str]:
    """Whether the endpoint is well, and why. Never raises for what an endpoint does."""
    address = check.address or check.host or ""
    try:
        if check.type == "TCP":
            socket.create_connection((address, check.port), timeout=patience_seconds).close()
            return True, "connected"
        return _ask(check, address, patience_seconds)
    except (OSError, http.client.HTTPException) as trouble:
        return False, str(trouble) or type(trouble).__name__


def _ask(check: Check, address: str, patience_seconds: float) -> tuple[bool, str]:
    with closing(http.client.HTTPConnection(address, check.port, timeout=patience_seconds)) as line:
        line.request("GET", check.path, headers={"Host": check.host or address, "Connection": "close"})
        answer = line.getresponse()
        body = answer.read(SEARCHED_BYTES) if check.search else b""
    if not 200 <= answer.status < 400:
        return False, f"HTTP status {answer.status}"
    if check.search and check.search.encode() not in body:
        return False, f"HTTP status {answer.status}, but the text is not in its first {SEARCHED_BYTES} bytes"
    return True, f"HTTP status {answer.status}"
