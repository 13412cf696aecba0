"""A run from its plan to its signed end: the plan is written down, the lease held, the loop driven, the chain closed.

Separate from the loop because a loop drives whatever it is given; here is what makes it *the plan's only run*.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from pydantic import JsonValue

from recovery.drive import Finish, Halt
from recovery.errors import Failed
from recovery.evidence import Record, manifest_key
from recovery.journal import RUN_BEGUN, outcome
from recovery.lease import Terms
from recovery.plan import Plan
from recovery.value import canonical
from tasks.home import Home
from tasks.journal import Journal, read_records
from tasks.kind import Verbs
from tasks.leases import Holding, Leases
from tasks.ledger import Ledger
from tasks.loop import Door, Event, Loop, plainly
from tasks.store import AlreadyThere

LEASE_SECONDS = 30.0
CLOCK_BOUND = timedelta(seconds=2)


@dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """What a run says of itself at its end: a record of this kind, with these facts, and the outcome as a word."""

    kind: str
    facts: Mapping[str, JsonValue]
    measures: Mapping[str, float]
    outcome: str


Conclude = Callable[[tuple[Record, ...], Halt | None], Said]


@dataclass(frozen=True, kw_only=True, slots=True)
class Act:
    """How runs are carried out here: the home, the door that moves go through, who watches."""

    home: Home
    door: Door = plainly
    tell: Callable[[Event], None] = lambda event: None  # noqa: ARG005 -- nobody watches

    def run(self, plan: Plan, verbs: Verbs, *, lease: str, conclude: Conclude) -> tuple[Record, ...]:
        """Act on the plan, or go on with it; a finished one only gives its records. Refused while another acts."""
        ledger = self.home.ledger()
        if outcome(read_records(ledger, plan.run)) is not None:
            return read_records(ledger, plan.run)
        sign = self.home.signer()
        with self.holding(lease, plan.run) as held:
            keep_plan(ledger, plan)  # under the lease: who is refused has written nothing
            journal = Journal(
                ledger, plan.run, who=self.home.who, generation=held.generation, clock=self.home.now, digest=plan.digest
            )
            if not journal.records():
                begun: dict[str, JsonValue] = {"purpose": plan.purpose, "arguments": plan.arguments, **self._here}
                journal.append(RUN_BEGUN, str(plan.arguments.get("resource", plan.service)), facts=begun)
            halt = self._drive(plan, verbs, journal, held)
            said = conclude(journal.records(), halt)
            subject = str(plan.arguments.get("resource", plan.service))
            journal.append(said.kind, subject, facts=said.facts, measures=said.measures, end=self.home.now())
            journal.end(said.outcome, sign)
            return journal.records()

    def discard_unfinished(self, lease: str, run: str, verbs_for: Callable[[Plan], Verbs]) -> str:
        """If the lease's last run never ended, cancel it and clean up after it. Gives what was done, for people."""
        ledger = self.home.ledger()
        last = self.leases().look(lease)
        if last is None or not last.run or last.run == run:
            return ""
        records = read_records(ledger, last.run)
        ended = outcome(records)
        if not records or (ended is not None and ledger.get(manifest_key(last.run)) is not None):
            return ""
        plan = read_plan(ledger, last.run)
        sign = self.home.signer()
        with self.holding(lease, last.run) as held:
            journal = Journal(
                ledger, last.run, who=self.home.who, generation=held.generation, clock=self.home.now, digest=plan.digest
            )
            if ended is None:
                journal.append("order.cancelled", plan.service, facts={"why": "a newer one was asked for"})
                self._drive(plan, verbs_for(plan), journal, held)
            journal.end(ended or "cancelled", sign)
        text = _discarded(plan, ended, records[0].facts.get("home"), self._here["home"])
        self.tell(Event(step="unfinished", word="noted", text=text))
        return text

    @property
    def _here(self) -> dict[str, JsonValue]:
        """Where this engine keeps its scratch: another home can cancel a run, but not remove what lies here."""
        return {"home": f"{socket.gethostname()}:{self.home.folder}"}

    def leases(self) -> Leases:
        """The leases at the ledger's home, in a bucket without object lock."""
        terms = Terms(seconds=LEASE_SECONDS, clock_bound=CLOCK_BOUND)
        return Leases(self.home.lease_store(), terms=terms, clock=self.home.now)

    @contextmanager
    def holding(self, lease: str, run: str) -> Iterator[Holding]:
        """Hold a lease while the block runs."""
        with self.leases().hold(lease, run) as held:
            yield held

    def _drive(self, plan: Plan, verbs: Verbs, journal: Journal, held: Holding) -> Halt | None:
        loop = Loop(
            plan=plan,
            verbs=verbs,
            journal=journal,
            now=self.home.now,
            door=self.door,
            tell=self.tell,
            may_act=held.check,
        )
        match loop.run():
            case Finish():
                return None
            case Halt() as halt:
                return halt


def _discarded(plan: Plan, ended: str | None, made_in: JsonValue, here: JsonValue) -> str:
    text = f"run {plan.run[:8]} of {plan.asked_at:%Y-%m-%d %H:%M:%S}Z "
    if ended is not None:
        return f"{text}had ended ({ended}) without its signature; it is signed now"
    elsewhere = (
        "" if made_in in (None, here) else f"; its scratch lies in {made_in}: 'dr sweep --really' there removes it"
    )
    return f"{text}was unfinished and is discarded{elsewhere}"


def plan_key(digest: str) -> str:
    """Where a plan lives in the ledger."""
    return f"plans/{digest}.json"


def keep_plan(ledger: Ledger, plan: Plan) -> None:
    """Write the plan to the ledger; the same plan again is the same bytes."""
    try:
        ledger.put(plan_key(plan.digest), canonical(plan))
    except AlreadyThere:
        return


def read_plan(ledger: Ledger, digest: str) -> Plan:
    """A stored plan. Raises Failed when it is absent or its content has another digest."""
    body = ledger.get(plan_key(digest))
    plan = Plan.model_validate_json(body) if body is not None else None
    if plan is None or plan.digest != digest:
        raise Failed(
            f"plan {digest[:12]} is {'absent' if plan is None else 'not what its name says'}",
            hint="take it from a mirror of the ledger, or make a new plan",
        )
    return plan
