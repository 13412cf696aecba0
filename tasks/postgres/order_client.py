"""The engine's side of an order: sign it, send it to an agent, wait for its end, with a patience.

Separate from the agent's side so that a verb says one line. An agent that does not answer is a value and no error
here: whoever asked decides what silence means, and it is never taken for done.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import urllib3
from pydantic import JsonValue

from recovery.errors import BadInput, DrError, Failed, Refused
from recovery.lease import Under
from recovery.order import EXPIRED, Order, SignedOrder
from recovery.value import canonical
from tasks.signatures import Signer
from tasks.unanswered import why

CONNECT_SECONDS = 1.0
SEND_SECONDS = 5.0
"""An agent says at once that it has taken an order; one that does not is sent it again, which changes nothing."""
LOOK_SECONDS = 2.0
"""How long one question for an order's state may be held open by the agent."""
MOST_APART = timedelta(hours=1)
"""By how much an agent's clock may be wrong for an order to be sent once more, to expire by that."""
Facts = dict[str, JsonValue]


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """The agent carried it out."""

    facts: Facts


@dataclass(frozen=True, kw_only=True, slots=True)
class Silent:
    """The agent did not answer, or not to the end, within the patience. What it does meanwhile is not known."""

    why: str
    underway: bool = False
    """It had taken the order before it fell silent."""


def no_news(text: str, share: float | None) -> None:
    """Nobody watches."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Agent:
    """One agent, as the engine speaks to it."""

    url: str
    sign: Signer
    now: Callable[[], datetime]
    under: Callable[[], Under]
    """The lease that is held, as it is now: every order carries it."""

    def order(
        self,
        order_id: str,
        what: str,
        *,
        resource: str,
        site: str,
        generation: int,
        run: str,
        arguments: Mapping[str, JsonValue] | None = None,
        patience_seconds: float,
        say: Callable[[str, float | None], None] = no_news,
        until: Callable[[], bool] = lambda: False,
        to_the_end: bool = False,
    ) -> Done | Silent:
        """Order something and wait for its end. Sent again with the same id it only waits. Raises Refused or BadInput
        as the agent did, Failed when the agent tried and failed (again is allowed, with the next attempt's id).
        `until`: nobody waits for it any more, so that it is not sent again; `to_the_end`: what was taken is waited for
        all the same."""
        deadline = time.monotonic() + patience_seconds
        order = Order(
            id=order_id,
            what=what,
            resource=resource,
            site=site,
            generation=generation,
            run=run,
            under=self.under(),
            arguments=dict(arguments or {}),
            expires_at=self.now() + timedelta(seconds=max(patience_seconds, 5.0)),
        )
        taken = False
        pause = 0.05
        while True:
            try:
                state = self._look(order_id, deadline) if taken else self._send(order, deadline)
                taken, pause = True, 0.05
            except _NoAnswer as silence:
                if time.monotonic() + pause >= deadline or until():
                    return Silent(why=str(silence), underway=taken)
                time.sleep(pause)
                pause = min(2 * pause, 0.5)
                taken = False  # an agent that was killed meanwhile may have lost nothing or everything: send it again
                continue
            match state["state"]:
                case "done":
                    return Done(facts=state["facts"])
                case "failed":
                    raise _failure(state)
            say(str(state.get("text", "")), state.get("share"))
            if time.monotonic() >= deadline or (until() and not to_the_end):
                return Silent(why=f"{what} was still underway after {patience_seconds:g} s", underway=True)

    def get(self, path: str, *, patience_seconds: float) -> Any | Silent:
        """A question to the agent: its JSON, or Silent."""
        try:
            return self._ask("GET", path, None, patience_seconds)
        except _NoAnswer as silence:
            return Silent(why=str(silence))

    def _send(self, order: Order, deadline: float) -> Any:
        """Where the agent's clock is wrong, the order expires by that: it is wanted now, and on the worst night nobody
        mends clocks. An older engine's is told by its lease, whatever the clocks say."""
        try:
            return self._post(order, deadline)
        except _Expired as late:
            now = self.now()
            if late.told_at is None or abs(late.told_at - now) > MOST_APART:
                raise
            return self._post(order.but(expires_at=late.told_at + (order.expires_at - now)), deadline)

    def _post(self, order: Order, deadline: float) -> Any:
        signed = SignedOrder(
            order=order, public_key=self.sign.public_pem.decode(), signature=self.sign(canonical(order))
        )
        return self._ask("POST", "/orders", canonical(signed), min(SEND_SECONDS, _left(deadline)))

    def _look(self, order_id: str, deadline: float) -> Any:
        left = _left(deadline)
        hold = min(LOOK_SECONDS, left)
        return self._ask("GET", f"/orders/{order_id}?wait={hold:.3f}", None, hold + CONNECT_SECONDS)

    def _ask(self, method: str, path: str, body: bytes | None, patience_seconds: float) -> Any:
        timeout = urllib3.Timeout(connect=min(CONNECT_SECONDS, patience_seconds), total=patience_seconds)
        try:
            answer = urllib3.request(
                method, f"{self.url.rstrip('/')}{path}", body=body, timeout=timeout, retries=False, redirect=False
            )
            said = json.loads(answer.data)
        except (urllib3.exceptions.HTTPError, ValueError) as trouble:
            raise _NoAnswer(f"the agent at {self.url} does not answer: {why(trouble)}") from None
        if answer.status != 200:
            raise _told(answer.status, said, self.url, answer.headers.get("Date"))
        return said


class _NoAnswer(Exception):
    """Nothing, or nothing that can be read."""


class _Expired(Refused):
    """The order had expired at the agent. `told_at`: its clock, in whole seconds, where it tells that."""

    told_at: datetime | None = None


def _left(deadline: float) -> float:
    return max(0.05, deadline - time.monotonic())


def _told(status: int, said: Any, url: str, date: str | None) -> Exception:
    fact = str(said.get("fact", f"status {status}")) if isinstance(said, dict) else f"status {status}"
    hint = str(said.get("hint", "")) if isinstance(said, dict) else ""
    match status:
        case 409 if fact.startswith(EXPIRED):
            late = _Expired(f"the agent at {url} refuses: {fact}", hint=hint)
            with suppress(ValueError):  # no date that anybody could read: then there is none
                late.told_at = parsedate_to_datetime(date or "").astimezone(UTC)
            return late
        case 409:
            return Refused(f"the agent at {url} refuses: {fact}", hint=hint)
        case 400 | 404 | 413:
            return BadInput(f"the agent at {url}: {fact}", hint=hint)
    return _NoAnswer(f"the agent at {url}: {fact}")


def _failure(state: Mapping[str, Any]) -> DrError:
    fact, hint = str(state["fact"]), str(state["hint"])
    return Refused(fact, hint=hint) if state.get("final") else Failed(fact, hint=hint)
