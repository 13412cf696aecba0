"""Orders that an agent carries out: believed, begun once, kept on disk, told of while they are underway.

Separate from what is ordered (the handlers: stop, start, term here; a standby's making in roles/at_home.py) and from
the agent: here is only that an order is the same order however often it is sent, that a kill -9 of the agent in the
middle of it is followed by going on with it, and that nobody but a trusted engine is obeyed.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from pydantic import JsonValue, ValidationError

from recovery.errors import BadInput, DrError, Failed, Refused
from recovery.order import Order, OrderState, SignedOrder, outdated, refusal
from recovery.value import canonical
from tasks import signatures
from tasks.keys import engine_fingerprints
from tasks.postgres.agent_memory import utc_now

Facts = dict[str, JsonValue]
MOST_KEPT = 200
LONGEST_WAIT_SECONDS = 20.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What a handler gets: the order, and a way to tell how far it is."""

    order: Order
    say: Callable[[str, float | None], None]

    def text(self, name: str, default: str = "") -> str:
        """A text among the arguments."""
        return str(self.order.arguments.get(name, default))

    def number(self, name: str, default: float) -> float:
        """A number among the arguments."""
        found = self.order.arguments.get(name, default)
        return float(found) if isinstance(found, int | float) else default


Handler = Callable[[Work], Facts]
"""Carries an order out, idempotently: after a kill it is called again. Gives facts; raises a DrError."""


@dataclass(kw_only=True)
class Orders:
    """The orders of one agent, in `folder`. `trusted`: fingerprints, and `folder:PATH` for the engine's keys there."""

    folder: Path
    site: str
    resource: str
    trusted: tuple[str, ...]
    handlers: Mapping[str, Handler] = field(default_factory=dict)
    now: Callable[[], datetime] = utc_now
    _states: dict[str, OrderState] = field(default_factory=dict)
    _cut_off: list[OrderState] | None = None
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def load(self) -> None:
        """Read what is on disk, unless that was done, and go on with what was underway when the agent was killed."""
        self.read()
        cut_off, self._cut_off = self._cut_off or [], []
        for state in cut_off:
            self._begin(state)

    def read(self) -> None:
        """Read what is on disk, once. Before any order is taken: else one that is known would be begun a second time
        beside itself, and an older one than the newest taken for good."""
        if self._cut_off is not None:
            return
        make_durably(self.folder)
        for path in sorted(self.folder.glob("*.json")):
            try:
                state = OrderState.model_validate_json(path.read_bytes())
            except ValidationError:
                path.replace(path.with_suffix(".damaged"))
                continue
            self._states[state.order.id] = state
        self._cut_off = [each for each in self._states.values() if each.state == "underway"]

    def post(self, body: bytes) -> JsonValue:
        """Take an order; gives its state. Sent again it is not begun again. Raises BadInput or Refused."""
        order = self._believed(body)
        with self._changed:
            known = self._states.get(order.id)
            why = outdated(order, (each.order for each in self._states.values()))
            if known is None and not why:
                why = refusal(order, site=self.site, resource=self.resource, newest=self.newest(), now=self.now())
            if why:
                raise Refused(why, hint="see who drives the service with 'dr runs'; nothing was done")
            if known is not None:
                return self._again(known, order)
            if order.what not in self.handlers:
                raise BadInput(
                    f"this agent cannot {order.what!r}",
                    hint=f"it can {', '.join(sorted(self.handlers))}; is it of an older version?",
                )
            state = OrderState(order=order, begun_at=self.now())
            self._keep(state)
        self._forget()
        self._begin(state)
        return state.model_dump(mode="json")

    def _again(self, known: OrderState, order: Order) -> JsonValue:
        """What was taken before is told. Sent by an engine that has taken the lease over, it is from now on hers."""
        if not known.order.same(order):
            raise Refused(
                f"{order.id} was another order before",
                hint="an order's id is its attempt's name: send a new one",
            )
        if known.order.under != order.under:
            known = known.but(order=known.order.but(under=order.under))
            self._keep(known)
        return known.model_dump(mode="json")

    def get(self, order_id: str, wait_seconds: float = 0.0) -> JsonValue:
        """An order's state; with a wait, when it has ended or the wait is over. Raises BadInput for an unknown one."""
        with self._changed:
            if order_id not in self._states:
                raise BadInput(f"there is no order {order_id!r} here", hint="it was never taken, or long ago")
            self._changed.wait_for(
                lambda: self._states[order_id].state != "underway", min(wait_seconds, LONGEST_WAIT_SECONDS)
            )
            return self._states[order_id].model_dump(mode="json")

    def newest(self) -> int:
        """The newest generation that was ordered here."""
        return max((each.order.generation for each in self._states.values()), default=0)

    def underway(self) -> tuple[str, ...]:
        """The ids of those that have not ended."""
        with self._changed:
            return tuple(name for name, each in self._states.items() if each.state == "underway")

    def _believed(self, body: bytes) -> Order:
        try:
            signed = SignedOrder.model_validate_json(body)
        except ValidationError as error:
            wrong = error.errors()
            if all(each["type"] == "extra_forbidden" for each in wrong):
                unknown = ", ".join(str(each["loc"][-1]) for each in wrong)
                raise BadInput(
                    f"the order says what this agent does not know: {unknown}",
                    hint="the engine that sent it is of a newer version: update this agent, then send it again",
                ) from None
            raise BadInput(f"this is no signed order ({error.error_count()} errors)", hint="send it with dr") from None
        pem = signed.public_key.encode()
        mark = signatures.fingerprint(pem)
        if mark not in trusted_keys(self.trusted):
            raise Refused(
                f"the order is signed by {mark[:16]}, which this agent does not trust",
                hint="name the engine's fingerprint ('dr keys list') under `trusted` in the agent's configuration",
            )
        if not signatures.valid(canonical(signed.order), signed.signature, pem):
            raise Refused(
                "the order's signature is not valid",
                hint="engine and agent are of different versions (update both to one, agents first), or it was changed"
                " on its way: then send it again",
            )
        return signed.order

    def _begin(self, state: OrderState) -> None:
        threading.Thread(target=self._carry_out, args=(state,), name=f"order {state.order.what}", daemon=True).start()

    def _carry_out(self, state: OrderState) -> None:
        def say(text: str, share: float | None = None) -> None:
            with self._changed:
                moved = self._states[state.order.id].but(text=text, share=share)
                self._states[state.order.id] = moved

        try:
            facts = self.handlers[state.order.what](Work(order=state.order, say=say))
            found: Facts = {"state": "done", "facts": facts, "share": 1.0}
        except DrError as trouble:
            found = _failed(trouble.fact, trouble.hint, final=not isinstance(trouble, Failed))
        except Exception as trouble:  # noqa: BLE001 -- told in full to the log and in short to whoever ordered it
            sys.stderr.write(traceback.format_exc())
            said = f"the agent failed to {state.order.what}: {type(trouble).__name__}: {trouble}"[:300]
            found = _failed(said, "see the agent's log", final=False)
        with self._changed:
            self._end(self._states[state.order.id].but(**found, ended_at=self.now()))
            self._changed.notify_all()

    def _end(self, ended: OrderState) -> None:
        """An end that cannot be kept (a full disk) is told all the same; behind a kill it is done once more."""
        try:
            self._keep(ended)
        except OSError:
            sys.stderr.write(traceback.format_exc())
            self._states[ended.order.id] = ended

    def _keep(self, state: OrderState) -> None:
        """On disk, durably, before anything is done or said."""
        write_durably(self.folder / f"{state.order.id}.json", canonical(state))
        self._states[state.order.id] = state

    def _forget(self) -> None:
        """Orders that ended long ago; the newest generations always stay."""
        with self._changed:
            ended = [each for each in self._states.values() if each.state != "underway"]
            ended.sort(key=_age)
            for each in ended[:-MOST_KEPT]:
                (self.folder / f"{each.order.id}.json").unlink(missing_ok=True)
                del self._states[each.order.id]


def _failed(fact: str, hint: str, *, final: bool) -> Facts:
    return {"state": "failed", "fact": fact, "hint": hint, "final": final}


def _age(state: OrderState) -> tuple[int, int, datetime]:
    under = state.order.under
    return state.order.generation, 0 if under is None else under.generation, state.begun_at


def trusted_keys(named: Iterable[str]) -> frozenset[str]:
    """The fingerprints: those that are written, and the engine's keys of the folders, as they are now."""
    found: set[str] = set()
    for each in named:
        if each.startswith("folder:"):
            found |= engine_fingerprints(Path(each.removeprefix("folder:")))
        else:
            found.add(each)
    return frozenset(found)


def write_durably(path: Path, body: bytes) -> None:
    """Whole or not at all, and still there after a power cut."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.{time.monotonic_ns()}")
    make_durably(path.parent)
    with fresh.open("wb") as sink:
        sink.write(body)
        sink.flush()
        os.fsync(sink.fileno())
    fresh.replace(path)
    _sync_folder(path.parent)


def make_durably(folder: Path) -> None:
    """A folder with its parents; the entry of each that is made is durable in the one above it."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for each in reversed(missing):
        _sync_folder(each.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
