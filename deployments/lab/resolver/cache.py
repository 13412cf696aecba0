"""Answers kept for their TTL: by their record sets' own times, a negative one as long as its SOA allows. Pure.

The clock comes in as `now` (seconds, monotonic).
"""

from __future__ import annotations

from dataclasses import dataclass

import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

MOST_ENTRIES = 10_000
Question = tuple[str, int, int]
"""Name in lower case, type, class."""


@dataclass(frozen=True, slots=True)
class Kept:
    """One answer as it came."""

    rcode: dns.rcode.Rcode
    answer: tuple[dns.rrset.RRset, ...]
    authority: tuple[dns.rrset.RRset, ...]
    at: float
    until: float


def kept(reply: dns.message.Message, *, now: float) -> Kept:
    """The reply with the moment until which it may be given: the least TTL of what it says, or of its SOA for "no"."""
    answer, authority = tuple(reply.answer), tuple(reply.authority)
    negative = reply.rcode() == dns.rcode.NXDOMAIN or not any(
        each.rdtype != dns.rdatatype.CNAME or reply.question[0].rdtype == dns.rdatatype.CNAME for each in answer
    )
    times = [each.ttl for each in answer]
    if negative:
        times += [min(each.ttl, each[0].minimum) for each in authority if each.rdtype == dns.rdatatype.SOA] or [0]
    if reply.rcode() not in {dns.rcode.NOERROR, dns.rcode.NXDOMAIN}:
        times = [0]
    return Kept(reply.rcode(), answer, authority, now, now + min(times, default=0))


class Cache:
    """Questions and what is known of them; what has run out is never given."""

    def __init__(self) -> None:
        self._known: dict[Question, Kept] = {}

    def put(self, question: Question, entry: Kept) -> None:
        """Keep it, if it may be kept at all. The oldest goes when there are too many."""
        if entry.until <= entry.at:
            return
        self._known.pop(question, None)
        if len(self._known) >= MOST_ENTRIES:
            del self._known[next(iter(self._known))]
        self._known[question] = entry

    def get(self, question: Question, *, now: float) -> Kept | None:
        """What is known and has not run out."""
        entry = self._known.get(question)
        return entry if entry is not None and now < entry.until else None


def aged(sets: tuple[dns.rrset.RRset, ...], seconds: float) -> list[dns.rrset.RRset]:
    """The record sets with what is left of their TTLs, whole seconds, never below zero."""
    found = []
    for each in sets:
        one: dns.rrset.RRset = each.copy()  # type: ignore[no-untyped-call]
        one.ttl = max(0, each.ttl - int(seconds))
        found.append(one)
    return found
