"""How users of the lab find the platform: a name asked at the lab's resolver, afresh whenever they are told to.

Separate because observer and workload both go by name; a lab without a resolver gives its doors in turn instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from deployments.lab import layout
from deployments.lab.dns import names
from deployments.lab.world import World

ANSWER_SECONDS = 0.35
"""A resolver on the same machine answers in milliseconds; what takes longer is asked again within the patience."""


class Unresolved(Exception):
    """The name has no address now: the resolver is silent, or says so."""


class Names(Protocol):
    """Where the platform is."""

    def addresses(self, *, patience_seconds: float) -> list[str]:
        """Addresses to try in this order. Raises Unresolved."""
        ...

    def failed(self, address: str) -> None:
        """The platform did not serve there."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class ByResolver:
    """A name at a resolver. Nothing is kept here: what a TTL means is the resolver's to show."""

    name: str
    address: str
    port: int

    def addresses(self, *, patience_seconds: float) -> list[str]:
        """The A records, as answered. Raises Unresolved."""
        import dns.exception
        import dns.message
        import dns.query
        import dns.rcode
        import dns.rdatatype

        question = dns.message.make_query(self.name, dns.rdatatype.A)
        wait, why = min(ANSWER_SECONDS, patience_seconds), "no answer"
        for _ in range(max(1, int(patience_seconds / wait))):
            try:
                said = dns.query.udp(question, self.address, port=self.port, timeout=wait)
            except (dns.exception.DNSException, OSError) as trouble:
                why = type(trouble).__name__
                continue
            found = [item.to_text() for each in said.answer if each.rdtype == dns.rdatatype.A for item in each]
            if found:
                return found
            raise Unresolved(f"{self.name}: {dns.rcode.to_text(said.rcode())}, no address")
        raise Unresolved(f"{self.name}: the resolver is silent ({why})")

    def failed(self, address: str) -> None:
        """Nothing: where the name points is not the client's to say."""


@dataclass(kw_only=True, slots=True)
class InTurn:
    """Fixed addresses, for a lab that has no names: the one that failed goes to the end."""

    known: list[str]

    def addresses(self, *, patience_seconds: float) -> list[str]:  # noqa: ARG002 -- nothing is asked
        """All of them, the one that served last first."""
        return list(self.known)

    def failed(self, address: str) -> None:
        """Turn to the next, unless another did so."""
        if self.known[0] == address:
            self.known = [*self.known[1:], address]


def of(described: dict[str, object]) -> Names:
    """The names of a description as `describe` makes it."""
    match described:
        case {"name": str(name), "address": str(address), "port": int(port)}:
            return ByResolver(name=name, address=address, port=port)
        case {"known": [*known]}:
            return InTurn(known=[str(each) for each in known])
    raise ValueError(f"these are no names: {described}")


def describe(world: World) -> dict[str, object]:
    """How users find the platform of this lab, as JSON: name and resolver, or the doors where the lab has no names."""
    if not world.named:
        return {"known": [world.address(site, source="user") for site in layout.SITES]}
    address, port = layout.hidden(world.block, "resolver"), layout.DNS_PORT
    return {"name": f"{names.LIVE}.{names.ZONE}", "address": address, "port": port}
