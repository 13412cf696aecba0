"""Orders of people in the ledger: given from any machine, taken into a run's chain by whoever drives it, each once.

Separate from recovery/orders.py, which decides whether an order counts: here are documents, keys and the watch for new
ones. The watch is a thread that asks the ledger's copies one after the other, so that a copy that is silent holds up
neither the run nor an order that lies in another.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from pydantic import JsonValue

from recovery import orders
from recovery.begun import SIGNED
from recovery.errors import BadInput, DrError, Failed
from recovery.evidence import Record
from recovery.hazard import Acceptance, Hazard
from recovery.journal import history, outcome
from recovery.ordered import HAZARDS, vouched_bytes
from recovery.orders import NotTaken, Order, Rights, Said, Taken, Waiting, Word, order_key
from recovery.plan import Plan
from recovery.step import Mode
from tasks import approving, signatures
from tasks.home import Home
from tasks.journal import Journal
from tasks.keys import ENGINE, engine_fingerprints, signer
from tasks.ledger import Ledger
from tasks.ledger_mirrored import silent_of
from tasks.signed import keep_signed, verified

EVERY_SECONDS = 0.5
AGAIN_SECONDS = 2.0
"""Between two looks at the world for an order whose hazards could not be seen."""
_OUTLIVES_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Now:
    """The world as an order to switch variants meets it: the plan's hazards in that variant, and what goes on record
    beside the order (recovery/outage.py)."""

    hazards: Sequence[Hazard] = ()
    facts: Mapping[str, JsonValue] = field(default_factory=dict)


Look = Callable[[Mode], Now]
"""May raise DrError: the order then waits."""


def give(
    home: Home,
    plan: Plan,
    word: Word,
    *,
    who: str | None,
    step: str | None = None,
    accepted: Sequence[Acceptance] = (),
    why: str = "",
) -> Order:
    """Sign an order and hand it in. See `draft`."""
    made = draft(home, plan, word, who=who, step=step, accepted=accepted, why=why)
    hand_in(home, made)
    return made


def draft(
    home: Home,
    plan: Plan,
    word: Word,
    *,
    who: str | None,
    step: str | None = None,
    tries: int = 1,
    accepted: Sequence[Acceptance] = (),
    why: str = "",
) -> Order:
    """A signed order, not handed in yet. `who` None: by the engine's key.

    Raises BadInput without the key, Refused when the catalog does not list it.
    """
    sign = _signer(home, who)
    words = {"step": step, "tries": tries, "accepted": tuple(accepted), "why": why, "who": who or ENGINE}
    made = Order.model_validate({"run": plan.run, "word": word, "made_at": home.now(), **words})
    return made.model_copy(update={"signature": sign(made.signed_bytes())})


def hand_in(home: Home, order: Order) -> None:
    """Store a signed order for whoever drives the run, now or later."""
    sign = _signer(home, None if order.who == ENGINE else order.who)
    keep_signed(home.ledger(), order_key(order), order, sign)


def _signer(home: Home, who: str | None) -> signatures.Signer:
    by_engine = who is None or who == ENGINE
    return signer(home.folder / "keys", ENGINE) if by_engine else approving.listed_signer(home, str(who))


def driven(home: Home, plan: Plan) -> str:
    """Who drives the plan's run now, by its lease; empty when nobody does."""
    from recovery.failover import lease_of
    from tasks.engine import Act

    held = Act(home=home).leases().look(lease_of(plan))
    alive = held is not None and held.run == plan.run and not held.released and held.expires_at > home.now()
    return held.owner if held is not None and alive else ""


def rights_of(home: Home, plan: Plan) -> Rights:
    """Who may order this run, and what was accepted before it began. Raises what the ledger raises."""
    found = approving.consents(home, plan)
    before: dict[str, tuple[Mode, tuple[Acceptance, ...]]] = {}
    for given in found.given:
        approval = given.approval
        key = approval.signature.key if approval.signature is not None else ""
        mine = given.valid and found.policy.listed.get(key) == approval.who and approval.epoch == plan.epoch
        if mine and (found.spent or {}).get(approval.id) == plan.run:
            before[approval.who] = (approval.variant, approval.accepted)
    return Rights(policy=found.policy, engine=engine_fingerprints(home.folder / "keys"), before=before)


def read(ledger: Ledger, run: str) -> Iterator[tuple[str, Said | str]]:
    """All orders that were given to a run, in their order; a document that is none, in words."""
    for key in ledger.list(f"orders/{run}/"):
        yield key, _said((ledger,), key, ledger.get(key) or b"")


def _said(ledgers: Sequence[Ledger], key: str, body: bytes) -> Said | str:
    """The order, valid by a public key that any of these holds: a copy may have the one and not yet the other."""
    try:
        order = Order.model_validate_json(body)
    except ValueError:
        return f"the document {key} is no order of a known schema"
    signed = order.signature
    body = order.signed_bytes()
    return Said(order=order, valid=signed is not None and any(verified(each, body, signed) for each in ledgers))


@contextmanager
def taking(home: Home, plan: Plan, journal: Journal, *, look: Look) -> Iterator[Callable[[], None]]:
    """While the block runs, orders are watched for; the function that it gives takes those that have come into the
    run's chain. It never waits, and whoever drives the run calls it as often as it likes."""
    desk = Desk(home=home, plan=plan, journal=journal, look=look)
    desk.look_once()  # what was ordered while nobody drove the run counts before its first step
    stop = threading.Event()
    watch = threading.Thread(target=desk.watch, args=(stop,), name="orders", daemon=True)
    watch.start()
    try:
        yield desk.take_in
    finally:
        stop.set()
        watch.join(timeout=_OUTLIVES_SECONDS)


@dataclass(kw_only=True, slots=True)
class Desk:
    """Where orders of one run arrive. `look_once` reads, `take_in` judges and writes; the two may be in two threads."""

    home: Home
    plan: Plan
    journal: Journal
    look: Look
    _came: queue.SimpleQueue[tuple[str, Said | str]] = field(default_factory=queue.SimpleQueue)
    _read: set[str] = field(default_factory=set)
    _pending: dict[str, Said] = field(default_factory=dict)
    _news: bool = True
    _again_at_seconds: float = 0.0

    def watch(self, stop: threading.Event) -> None:
        """Look again and again, until told to stop."""
        while not stop.is_set():
            self.look_once()
            stop.wait(EVERY_SECONDS)

    def look_once(self) -> None:
        """Fetch and verify what has come to any copy of the ledger. One that is known to be silent is passed over until
        the run's own records have reached it again: nothing waits here for a dead site. What a copy that falls silent
        meanwhile could not tell of an order is asked at the next look."""
        ledger = self.home.ledger()
        copies: Sequence[Ledger] = getattr(ledger, "ledgers", (ledger,))
        silent = silent_of(ledger)
        asked = [each for each in copies if each.place not in silent] or copies
        for copy in asked:
            try:
                for key in copy.list(f"orders/{self.plan.run}/"):
                    if key not in self._read:
                        others = [each for each in asked if each is not copy]
                        self._came.put((key, _said((copy, *others), key, copy.get(key) or b"")))
                        self._read.add(key)
            except Failed:
                continue

    def take_in(self) -> None:
        """Judge what has come and what waited, and write it down. Raises what the journal raises."""
        self._arrive()
        if not self._pending or not self._news or time.monotonic() < self._again_at_seconds:
            return
        self._news = False
        rights = rights_of(self.home, self.plan)
        tuple(self.home.ledger().list(f"orders/{self.plan.run}/"))  # so that no copy gets the record without the order
        for name in sorted(self._pending, key=lambda each: (self._pending[each].order.made_at, each)):
            if name in self._pending:
                self._judge(name, rights)

    def _arrive(self) -> None:
        while not self._came.empty():
            key, found = self._came.get()
            if isinstance(found, str):
                if key not in orders.known(self.journal.records()):
                    self._refuse({"order": key}, NotTaken(why=found))
                continue
            if found.order.id in orders.known(self.journal.records()):
                continue
            self._pending[found.order.id] = found
            self._news = True

    def _judge(self, name: str, rights: Rights) -> None:
        said = self._pending[name]
        records = self.journal.records()
        others = [each for other, each in self._pending.items() if other != name]
        try:
            now = self.look(Mode.UNGRACEFUL) if said.order.word is Word.UNGRACEFUL else Now()
        except DrError:
            self._news, self._again_at_seconds = True, time.monotonic() + AGAIN_SECONDS  # it waits until it is seen
            return
        past, ended = history(records), outcome(records)
        match orders.decide(said, others, self.plan, past, rights, hazards=now.hazards, ended=ended):
            case Taken() as taken:
                danger: list[JsonValue] = [each.model_dump(mode="json") for each in now.hazards]
                more = {HAZARDS: danger} if said.order.word is Word.UNGRACEFUL else {}
                self._write(taken.kind, {**taken.facts, **now.facts, **more}, taken.rule)
                also = taken.facts.get("with")
                for each in (name, *(also if isinstance(also, list) else ())):
                    self._pending.pop(str(each), None)
            case NotTaken() as refusal:
                facts = {"order": name, "what": said.order.words, "who": said.order.who}
                self._refuse(facts, refusal)
                self._pending.pop(name)
            case Waiting():
                return

    def _refuse(self, facts: dict[str, str], refusal: NotTaken) -> None:
        self._write(orders.REFUSED, {**facts, "why": refusal.why}, refusal.rule)

    def _write(self, kind: str, facts: dict[str, JsonValue], rule: str) -> None:
        """With the engine's signature: whoever takes the run up knows by it which hazards were seen here."""
        at = self.home.now()
        signed = self.home.signer()(vouched_bytes(self.plan.run, kind, at, facts)).model_dump(mode="json")
        self.journal.append(kind, self.plan.service, begin=at, facts={**facts, SIGNED: signed}, rule=rule)


def fate(records: Sequence[Record], order: str) -> str | None:
    """What became of an order: `taken`, or why it was refused; None while nobody has taken it in."""
    for each in records:
        if order in orders.known([each]):
            return str(each.facts.get("why")) if each.kind == orders.REFUSED else "taken"
    return None


def run_of(home: Home, named: str) -> Plan:
    """The plan of the run whose name begins so. Raises BadInput when there is none, or more than one."""
    from tasks.engine import read_plan
    from tasks.scoring import resolve

    found = resolve(home.ledger(), named)
    if len(found) > 1:
        raise BadInput(
            f"{named} is ambiguous: {', '.join(each[:12] for each in found)}", hint="write more of its digits"
        )
    return read_plan(home.ledger(), found[0])
