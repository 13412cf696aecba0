"""Ask the authoritative server: UDP with a few tries, TCP when the answer is too long, CNAMEs to their end."""

from __future__ import annotations

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rdatatype
import dns.rrset

PATIENCE_SECONDS = 0.8
TRIES = 3
LONGEST_CHAIN = 8


class Silent(Exception):
    """The authoritative server gave no usable answer to any try."""


def ask(name: str, kind: int, server: tuple[str, int]) -> dns.message.Message:
    """The answer, with the chain of CNAMEs followed. Raises Silent."""
    reply = _once(name, kind, server)
    for _ in range(LONGEST_CHAIN):
        target = _dangling(reply, kind)
        if target is None:
            return reply
        more = _once(target, kind, server)
        reply.answer += more.answer
        reply.authority = more.authority
        reply.set_rcode(more.rcode())
        if not more.answer:
            return reply
    raise Silent(f"{name} is a chain of more than {LONGEST_CHAIN} aliases")


def _once(name: str, kind: int, server: tuple[str, int]) -> dns.message.Message:
    question = dns.message.make_query(name, dns.rdatatype.RdataType(kind), use_edns=0, payload=1232)
    question.flags &= ~dns.flags.RD
    trouble: Exception | None = None
    for _ in range(TRIES):
        try:
            reply = dns.query.udp(question, server[0], port=server[1], timeout=PATIENCE_SECONDS, ignore_unexpected=True)
            if reply.flags & dns.flags.TC:
                reply = dns.query.tcp(question, server[0], port=server[1], timeout=PATIENCE_SECONDS)
        except (dns.exception.DNSException, OSError, EOFError) as silence:
            trouble = silence
        else:
            return reply
    raise Silent(f"no answer about {name}: {trouble}")


def _dangling(reply: dns.message.Message, kind: int) -> str | None:
    """The name at which a chain of aliases ends without an answer; None when there is one or none is needed."""
    if not reply.answer or kind in {dns.rdatatype.CNAME, dns.rdatatype.ANY}:
        return None
    last: dns.rrset.RRset = reply.answer[-1]
    if any(each.rdtype == kind for each in reply.answer) or last.rdtype != dns.rdatatype.CNAME or reply.authority:
        return None
    return str(last[0].target.to_text())
