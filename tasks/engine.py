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
from recovery.evidence import Manifest, Record, manifest_key, read_manifest
from recovery.journal import RUN_BEGUN, generation, outcome
from recovery.lease import Terms
from recovery.plan import Plan
from recovery.value import canonical
from recovery.verification import AFTER
from tasks.home import Home
from tasks.journal import Damaged, Journal, read_records
from tasks.kind import Verbs
from tasks.lease_places import Holdings, PlacedLeases, leases_of
from tasks.ledger import Ledger
from tasks.ledger_mirrored import MirroredLedger
from tasks.loop import Door, Event, Loop, plainly
from tasks.store import AlreadyThere

LEASE_SECONDS = 30.0
CLOCK_BOUND = timedelta(seconds=2)
SETTLE_SECONDS = 3.0


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
    via: str = "dr"
    """The door's name, for the record: dr, glass, prefect."""

    def run(self, plan: Plan, verbs: Verbs, *, lease: str, conclude: Conclude) -> tuple[Record, ...]:
        """Act on the plan, or go on with it; a finished one only gives its records. Refused while another acts."""
        ledger = self.home.ledger()
        known = read_records(ledger, plan.run)
        if outcome(known) is not None:
            return known
        sign = self.home.signer()
        before = self.before(lease, plan.run)
        with self.holding(lease, plan.run, least=generation(known) + 1) as held:
            keep_plan(ledger, plan)  # under the lease: who is refused has written nothing
            journal = Journal(
                ledger, plan.run, who=self.home.who, generation=held.generation, clock=self.home.now, digest=plan.digest
            )
            if not journal.records():
                begun: dict[str, JsonValue] = {
                    "purpose": plan.purpose,
                    "arguments": plan.arguments,
                    **self._here,
                    **before,
                }
                journal.append(RUN_BEGUN, str(plan.arguments.get("resource", plan.service)), facts=begun)
            halt = self._drive(plan, verbs, journal, held)
            said = conclude(journal.records(), halt)
            subject = str(plan.arguments.get("resource", plan.service))
            journal.append(said.kind, subject, facts=said.facts, measures=said.measures, end=self.home.now())
            journal.end(said.outcome, sign)
        self._settle(ledger)
        return journal.records()

    def discard_unfinished(self, lease: str, run: str, verbs_for: Callable[[Plan], Verbs]) -> str:
        """Cancel what never ended under the lease, and clean up after it: its last run, and the one before that where
        it was left so. Gives what was done, for people."""
        texts = [self._discard(old, lease, verbs_for) for old in reversed(tuple(self._unclosed(lease, run)))]
        return "; ".join(texts)

    def _unclosed(self, lease: str, run: str) -> Iterator[str]:
        """The runs under the lease without a signed end, newest first, as far back as one began behind another."""
        ledger = self.home.ledger()
        last = self.leases().look(lease)
        old = last.run if last is not None else ""
        while old not in ("", run):
            try:
                records = read_records(ledger, old)
            except Damaged:
                yield old
                return
            if not records:
                return
            if outcome(records) is None or ledger.get(manifest_key(old)) is None:
                yield old
            before = records[0].facts.get(AFTER)
            old = str(before["run"]) if isinstance(before, dict) and "head" not in before else ""

    def _discard(self, old: str, lease: str, verbs_for: Callable[[Plan], Verbs]) -> str:
        ledger = self.home.ledger()
        if isinstance(ledger, MirroredLedger) and (silent := ledger.ask_again()):
            # Its newest records may lie where nobody answers now; what is written here would then be a second chain.
            why = f"it is left so, since {', '.join(silent)} does not answer"
            return self._noted(f"run {old[:8]} is unfinished; {why}")
        sign = self.home.signer()
        try:
            plan, records = read_plan(ledger, old), read_records(ledger, old)
        except Damaged as damage:  # nobody can end it any more; what it keeps from being begun would never begin again
            return self._noted(f"run {old[:8]} is left as it is: {damage.fact} ({damage.hint})")
        ended = outcome(records)
        with self.holding(lease, old, least=generation(records) + 1) as held:
            journal = Journal(
                ledger, old, who=self.home.who, generation=held.generation, clock=self.home.now, digest=plan.digest
            )
            if ended is None:
                journal.append("order.cancelled", plan.service, facts={"why": "a newer one was asked for"})
                self._drive(plan, verbs_for(plan), journal, held)
            journal.end(ended or "cancelled", sign)
        return self._noted(_discarded(plan, ended, records[0].facts.get("home"), self._here["home"]))

    def _noted(self, text: str) -> str:
        self.tell(Event(step="unfinished", word="noted", text=text))
        return text

    def before(self, lease: str, run: str) -> dict[str, JsonValue]:
        """The fact of a run's first record that names the last run under this lease and its head, so that a run that is
        removed whole is missed. Empty when there was none, or it never wrote anything."""
        ledger = self.home.ledger()
        last = self.leases().look(lease)
        if last is None or last.run in ("", run):
            return {}
        closed = read_manifest(last.run, ledger.get(manifest_key(last.run)) or b"")
        if isinstance(closed, Manifest):
            return {AFTER: {"run": last.run, "head": closed.head}}
        return {AFTER: {"run": last.run}} if next(ledger.list(f"runs/{last.run}/"), None) is not None else {}

    def _settle(self, ledger: Ledger) -> None:
        """Give the copies of the ledger a moment, and say which place has not got the run's records."""
        behind = ledger.settle(SETTLE_SECONDS) if isinstance(ledger, MirroredLedger) else {}
        for place, keys in behind.items():
            text = f"{len(keys)} records are not at {place} yet: 'dr evidence sync' or the next sweep carries them"
            self.tell(Event(step="ledger", word="noted", text=text))

    @property
    def _here(self) -> dict[str, JsonValue]:
        """Where this engine keeps its scratch: another home can cancel a run, but not remove what lies here."""
        return {"home": f"{socket.gethostname()}:{self.home.folder}"}

    def leases(self, *, need_home: Callable[[], bool] = lambda: False) -> PlacedLeases:
        """The leases at the ledger's home and, for when that is silent, at the recovery site; see PlacedLeases.

        `need_home`: for live changes, unless the hazard `ledger-degraded` is accepted.
        """
        terms = Terms(seconds=LEASE_SECONDS, clock_bound=CLOCK_BOUND)
        return leases_of(self.home, terms, need_home=need_home)

    @contextmanager
    def holding(
        self, lease: str, run: str, *, least: int = 0, need_home: Callable[[], bool] = lambda: False
    ) -> Iterator[Holdings]:
        """Hold a lease while the block runs, in generation `least` or a newer one."""
        with self.leases(need_home=need_home).hold(lease, run, least=least) as held:
            if held.silent:
                self.tell(Event(step="lease", word="noted", text=f"held at the recovery site: {held.silent}"))
            yield held

    def _drive(self, plan: Plan, verbs: Verbs, journal: Journal, held: Holdings) -> Halt | None:
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
    """A stored plan. Raises Damaged when it is absent or its content has another digest."""
    return plan_of(digest, ledger.get(plan_key(digest)))


def plan_of(digest: str, body: bytes | None) -> Plan:
    """The plan that a stored document is; raises as `read_plan` does."""
    plan = Plan.model_validate_json(body) if body is not None else None
    if plan is None or plan.digest != digest:
        raise Damaged(
            f"plan {digest[:12]} is {'absent' if plan is None else 'not what its name says'}",
            hint="take it from a mirror of the ledger, or make a new plan",
        )
    return plan
