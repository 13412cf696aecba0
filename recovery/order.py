"""An order to an agent: what it is, and why one is refused. Pure.

Separate from the agent (which carries orders out) and from signatures: an order is believed only when a trusted engine
signed it, it is meant for this agent, it has not expired, and nothing newer was ordered before: neither for newer roles
nor under a newer generation of the same lease (PLAN.md, lease), by which an engine that slept is told from the one that
has taken its place.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, JsonValue

from recovery.evidence import Signature
from recovery.lease import Under
from recovery.step import Name
from recovery.value import Instant, Value, rfc3339

EXPIRED = "the order expired"
"""How that refusal begins: by the agent's clock, which may be another than the engine's."""
OrderId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=200)]


class Order(Value):
    """`id` is the attempt's derived name: sent again it is the same order. `generation` is that of the run's roles,
    `under` the lease of who sends it (absent in what older engines sent)."""

    id: OrderId
    what: Name
    resource: Name
    site: Name
    generation: Annotated[int, Field(ge=0)]
    run: str
    under: Under | None = None
    arguments: dict[str, JsonValue] = {}
    expires_at: Instant

    def same(self, other: Order) -> bool:
        """Whether both say the same; only the expiry and the lease's generation may differ."""
        return self.but(expires_at=other.expires_at, under=other.under) == other


class SignedOrder(Value):
    """An order as it travels. `public_key` (PEM) is the signer's; the agent knows the fingerprints that it trusts."""

    order: Order
    public_key: str
    signature: Signature


class OrderState(Value):
    """An order as an agent keeps and tells it. `final`: trying again cannot help. `share`: done, 0 to 1, if known."""

    order: Order
    state: Literal["underway", "done", "failed"] = "underway"
    text: str = ""
    share: float | None = None
    facts: dict[str, JsonValue] = {}
    fact: str = ""
    hint: str = ""
    final: bool = False
    begun_at: Instant
    ended_at: Instant | None = None


def outdated(order: Order, known: Iterable[Order]) -> str:
    """Why an order counts for nothing though it may have been taken before: `known` holds one of a newer generation of
    its lease. Nothing when it is as new as all of them."""
    if order.under is None:
        return "the order says under no lease: the engine that sent it is of an older version"
    same = (each.under for each in known if each.under is not None and each.under.lease == order.under.lease)
    newest = max((each.generation for each in same), default=0)
    if order.under.generation < newest:
        return (
            f"the order was given under generation {order.under.generation} of the lease on {order.under.lease},"
            f" and another engine has ordered under generation {newest}"
        )
    return ""


def refusal(order: Order, *, site: str, resource: str, newest: int, now: datetime) -> str:
    """Why this agent takes no new order, or nothing. `newest`: the newest generation of roles that it has seen."""
    if order.resource != resource:
        return f"the order is for {order.resource}, this agent is of {resource}"
    if order.site != site:
        return f"the order is for {order.site}, this agent is at {site}"
    if now >= order.expires_at:
        return f"{EXPIRED} at {rfc3339(order.expires_at)}, here it is {rfc3339(now)}"
    if order.generation < newest:
        return f"the order is of generation {order.generation}, generation {newest} was ordered before"
    return ""
