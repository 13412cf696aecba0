"""Wire answers to wire questions from one published state and one set of verdicts; a cache of answers on the hot path.

Separate from the sockets. An instance never changes what it knows: at each new zone or verdict the server takes a new
one, so no stale answer can outlive it. A name inside the zones is followed through CNAMEs; outside it is refused.
"""

from __future__ import annotations

import random
from collections import defaultdict
from fractions import Fraction
from itertools import accumulate
from typing import NamedTuple

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from deployments.lab.dns.zone import Healthy, Published, RecordSet, Zone, choices

PLAIN_UDP_BYTES, MOST_UDP_BYTES = 512, 1232
LONGEST_CHAIN = 8
MOST_CACHED = 20_000
HEADER_BYTES = 12
OPT = b"\x00\x00\x29"
Node = dict[str, list[RecordSet]]
Cached = tuple[list[float], list[bytes]]
"""Cumulative shares, and the answer of each without its id."""


class Outcome(NamedTuple):
    """One possible answer: its share, the record sets with their owners, and for a negative one the zone of its SOA."""

    share: Fraction
    given: tuple[tuple[str, tuple[RecordSet, ...]], ...] = ()
    rcode: dns.rcode.Rcode = dns.rcode.NOERROR
    negative: Zone | None = None


class Answers:
    """All answers under one published state and one set of verdicts."""

    def __init__(self, published: Published, healthy: Healthy) -> None:
        self.healthy = healthy
        self.zones = {zone.name: zone for zone in published.zones}
        self.nodes: dict[str, Node] = {}
        self.between: set[str] = set()
        for zone in published.zones:
            for record in zone.records:
                self.nodes.setdefault(record.name, defaultdict(list))[record.type].append(record)
                self.between |= set(_parents(record.name))
        self._cache: dict[bytes, Cached] = {}

    def respond(self, wire: bytes, stream: bool) -> bytes | None:
        """The answer to a question; None for what deserves none. `stream`: over TCP, where nothing is too long."""
        key = _key(wire, stream)
        if key is None:
            return self._build(wire, stream)
        known = self._cache.get(key)
        if known is None:
            try:
                known = self._variants(dns.message.from_wire(wire), _limit(wire, stream))
            except dns.exception.DNSException:
                return trouble(wire, dns.rcode.FORMERR)
            if len(self._cache) < MOST_CACHED:
                self._cache[key] = known
        shares, wires = known
        if len(wires) == 1:
            return wire[:2] + wires[0]
        chosen = random.random()  # noqa: S311 -- a share of the answers is no secret
        return wire[:2] + next((each for share, each in zip(shares, wires, strict=True) if chosen < share), wires[-1])

    def _build(self, wire: bytes, stream: bool) -> bytes | None:
        if len(wire) < HEADER_BYTES or wire[2] & 0x80:
            return None
        try:
            question = dns.message.from_wire(wire, ignore_trailing=True)
        except dns.exception.DNSException:
            return trouble(wire, dns.rcode.FORMERR)
        if question.opcode() != dns.opcode.QUERY:
            return trouble(wire, dns.rcode.NOTIMP)
        if len(question.question) != 1:
            return trouble(wire, dns.rcode.FORMERR)
        return wire[:2] + self._variants(question, _limit(wire, stream))[1][0]

    def _variants(self, question: dns.message.Message, limit_bytes: int) -> Cached:
        asked = question.question[0]
        if asked.rdclass == dns.rdataclass.IN:
            outcomes = self.outcomes(asked.name.to_text().lower(), dns.rdatatype.to_text(asked.rdtype))
        else:
            outcomes = (Outcome(Fraction(1), (), dns.rcode.REFUSED),)
        shares = [float(share) for share in accumulate(each.share for each in outcomes)]
        return shares, [_wire(question, each, limit_bytes) for each in outcomes]

    def outcomes(self, name: str, kind: str, depth: int = 0) -> tuple[Outcome, ...]:
        """Every possible answer to a name (lower case, with its last dot) and a type, with shares that add up to 1."""
        zone = self._zone(name)
        if zone is None or kind in {"AXFR", "IXFR"}:
            return (Outcome(Fraction(1), (), dns.rcode.REFUSED),)
        node = self._node(name, zone)
        if node is None:
            rcode = dns.rcode.NOERROR if name in self.between else dns.rcode.NXDOMAIN
            return (Outcome(Fraction(1), (), rcode, zone),)
        if kind == "ANY":
            every = [
                (name, those) for sets in node.values() for _, those in choices(sets, self.healthy)[:1]
            ]  # fmt: skip
            return (Outcome(Fraction(1), tuple(every)),)
        if kind in node:
            return tuple(Outcome(share, ((name, those),)) for share, those in choices(node[kind], self.healthy))
        if "CNAME" in node:
            return tuple(self._followed(name, kind, node["CNAME"], depth))
        return (Outcome(Fraction(1), (), dns.rcode.NOERROR, zone),)

    def _followed(self, name: str, kind: str, aliases: list[RecordSet], depth: int) -> list[Outcome]:
        found: list[Outcome] = []
        for share, those in choices(aliases, self.healthy):
            target = those[0].values[0].lower()
            target = target if target.endswith(".") else f"{target}."
            first = ((name, those),)
            if depth >= LONGEST_CHAIN or self._zone(target) is None:
                found.append(Outcome(share, first))
                continue
            found.extend(
                each._replace(share=share * each.share, given=first + each.given)
                for each in self.outcomes(target, kind, depth + 1)
            )
        return found

    def _zone(self, name: str) -> Zone | None:
        return next((self.zones[each] for each in (name, *_parents(name)) if each in self.zones), None)

    def _node(self, name: str, zone: Zone) -> Node | None:
        if name in self.nodes:
            return self.nodes[name]
        if name in self.between:
            return None
        for parent in _parents(name):
            if f"*.{parent}" in self.nodes:
                return self.nodes[f"*.{parent}"]
            if parent in self.nodes or parent in self.between or parent == zone.name:
                return None
        return None


def trouble(wire: bytes, rcode: dns.rcode.Rcode) -> bytes:
    """An answer without sections that says what is wrong, of the header alone: for questions that can't be read."""
    flags = bytes([0x80 | wire[2] & 0x79, int(rcode)])
    return wire[:2] + flags + bytes(8)


def _parents(name: str) -> list[str]:
    labels = name.split(".")
    return [".".join(labels[at:]) for at in range(1, len(labels) - 1)]


def _key(wire: bytes, stream: bool) -> bytes | None:
    """What makes two questions the same: flags, counts, the question as it was spelt, and how long the answer may be.

    None for anything that is not one ordinary question with nothing or one OPT behind it.
    """
    if len(wire) < HEADER_BYTES or wire[2] & 0xF8 or wire[4:10] != b"\x00\x01\x00\x00\x00\x00" or wire[10]:
        return None
    at = HEADER_BYTES
    while at < len(wire) and 0 < wire[at] < 64:
        at += wire[at] + 1
    end = at + 5
    if at >= len(wire) or wire[at] or end > len(wire) or at - HEADER_BYTES > 254:
        return None
    more = wire[11]
    if more == 0:
        return wire[2:end] + bytes([stream]) if len(wire) == end else None
    if more == 1 and wire[end : end + 3] == OPT and _whole_opt(wire, end):
        return wire[2:end] + wire[end + 3 : end + 9] + bytes([stream])
    return None


def _whole_opt(wire: bytes, end: int) -> bool:
    return len(wire) >= end + 11 and len(wire) == end + 11 + int.from_bytes(wire[end + 9 : end + 11], "big")


def _limit(wire: bytes, stream: bool) -> int:
    if stream:
        return 65535
    at = wire.find(OPT, HEADER_BYTES) if wire[11] else -1
    if at < 0:
        return PLAIN_UDP_BYTES
    return max(PLAIN_UDP_BYTES, min(MOST_UDP_BYTES, int.from_bytes(wire[at + 3 : at + 5], "big")))


def _wire(question: dns.message.Message, outcome: Outcome, limit_bytes: int) -> bytes:
    """The whole answer but its id. One that is too long says so and is empty: the client comes again over TCP."""
    reply = dns.message.make_response(question)
    reply.set_rcode(outcome.rcode)
    if outcome.rcode != dns.rcode.REFUSED:
        reply.flags |= dns.flags.AA
    for owner, sets in outcome.given:
        name = question.question[0].name if owner == question.question[0].name.to_text().lower() else owner
        reply.answer.append(_rrset(name, sets))
    if outcome.negative is not None:
        reply.authority += _soa(outcome.negative)
    wire = reply.to_wire(max_size=65535)
    if len(wire) > limit_bytes:
        short = dns.message.make_response(question)
        short.flags |= dns.flags.AA | dns.flags.TC
        wire = short.to_wire()
    return wire[2:]


def _rrset(owner: dns.name.Name | str, sets: tuple[RecordSet, ...]) -> dns.rrset.RRset:
    values = [value for each in sets for value in each.values]
    return dns.rrset.from_text(owner, min(each.ttl for each in sets), "IN", sets[0].type, *values)


def _soa(zone: Zone) -> list[dns.rrset.RRset]:
    """The zone's SOA with the time for which "no" may be kept: the least of its TTL and its minimum."""
    for record in zone.records:
        if record.type == "SOA" and record.name == zone.name:
            minimum = int(record.values[0].split()[-1])
            return [dns.rrset.from_text(zone.name, min(record.ttl, minimum), "IN", "SOA", *record.values)]
    return []
