"""Asks one resolver for a name, as a user's machine does. Silence is told apart from an answer without addresses.

Separate and at the root because whoever proves that a service answers by its name needs it, whatever moved the name.
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from typing import Literal

PORT = 53
PATIENCE_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Resolved:
    """What a resolver gave: `values` as text, sorted. `silent`: no answer, or one that says that it can't answer."""

    outcome: Literal["answered", "silent"]
    values: tuple[str, ...] = ()
    why: str = ""
    ttl_seconds: float | None = None
    """The shortest of the answer's TTLs; a name server's is the record's own, a resolver's what is left of it."""


def address_and_port(server: str) -> tuple[str, int]:
    """`ADDRESS`, `ADDRESS:PORT` or `[ADDRESS]:PORT`; 53 without a port."""
    if server.startswith("["):
        address, _, port = server[1:].partition("]")
        return address, int(port.removeprefix(":") or PORT)
    address, _, port = server.rpartition(":")
    if address and ":" not in address:
        return address, int(port)
    return server, PORT


def resolve(server: str, name: str, kind: str, *, patience_seconds: float = PATIENCE_SECONDS) -> Resolved:
    """Ask `server` for `name`. Over UDP, and over TCP where the answer was cut; each within the patience. Where
    `server` is a host's name, this machine's resolver is asked for its address first, in a time of its own."""
    import dns.exception
    import dns.message
    import dns.query
    import dns.rcode
    import dns.rdatatype

    wanted = dns.rdatatype.from_text(kind)
    try:
        host, port = address_and_port(server)
        question = dns.message.make_query(name, wanted)
        answer, _ = dns.query.udp_with_fallback(question, _address(host), timeout=patience_seconds, port=port)
    except (dns.exception.DNSException, OSError, EOFError, ValueError) as trouble:
        return Resolved(outcome="silent", why=_words(trouble))
    if answer.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        return Resolved(outcome="silent", why=dns.rcode.to_text(answer.rcode()))
    found = [rrset for rrset in answer.answer if rrset.rdtype == wanted]
    return Resolved(
        outcome="answered",
        values=tuple(sorted(item.to_text() for rrset in found for item in rrset)),
        ttl_seconds=min((float(rrset.ttl) for rrset in found), default=None),
    )


def _address(host: str) -> str:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return str(socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM)[0][4][0])
    return host


def _words(trouble: Exception) -> str:
    said = " ".join(str(trouble).split())[:200]
    return f"{type(trouble).__name__}: {said}" if said else type(trouble).__name__
