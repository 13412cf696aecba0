"""Changing the roles of a service: plan, admit, act, and what came of it. `dr`, Prefect and break glass come this way.

Separate from the kinds' verbs and from deciding: here a stored plan meets a fresh look at the world, the consent of
people and the lease, and only then the loop.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from pydantic import JsonValue

from recovery.admission import Consents, Report, Resume, RunState, Start, admit
from recovery.drive import Finish, Halt
from recovery.epoch import CHANGED, Change, change_key, facts_of_change
from recovery.errors import BadInput, DrError, Refused
from recovery.evidence import Record
from recovery.failover import Asked, Proposal, asked_of, lease_of, make, propose, rpo_seconds
from recovery.hazard import Acceptance, Hazard
from recovery.hazards import DEGRADED, hazards
from recovery.journal import ENDED, RUN_BEGUN, generation, history, outcome
from recovery.objective import Objective
from recovery.outcome import Changed, changed, step_seconds
from recovery.plan import NothingToDo, Plan
from recovery.runbook import Runbook
from recovery.step import Mode
from recovery.value import canonical, rfc3339
from tasks import approving, kinds, runbook_file
from tasks.engine import Act, keep_plan, plan_key, read_plan
from tasks.home import Home
from tasks.journal import Journal, read_records
from tasks.lease_places import Holdings
from tasks.loop import Loop
from tasks.observing import changes, observe
from tasks.orders_of_people import taking
from tasks.stage import Consented, Stage
from tasks.store import AlreadyThere

RUN_HALTED, RUN_OUTCOME = "run.halted", "run.outcome"
SHORTEST_PREFIX = 8


def plan(
    home: Home,
    runbook_name: str,
    *,
    service: str | None = None,
    to: str | None = None,
    max_loss: str | None = None,
    target: str | None = None,
) -> Proposal | NothingToDo:
    """Look, decide, and write the plan with what was seen beside it; nothing live is touched. Raises BadInput, Refused
    (a rule, a limit) or Unproven (nothing there to promote)."""
    from recovery.binding import ends

    book = _book(home, runbook_name)
    by = ends(home.catalog, book, service=service, to=to)
    asked = Asked(service=by.service, to=by.target, asked_at=home.now(), max_loss=max_loss, target=target)
    seen = observe(home, by.service, target=by.target)
    past = [each.steps for each in changes(home, by.service) if each.runbook == runbook_name]
    made = propose(asked, book, home.catalog, seen, past=past)
    if isinstance(made, Proposal):
        keep_plan(home.ledger(), made.plan)
        with suppress(AlreadyThere):
            home.ledger().put(f"proposals/{made.plan.digest}.json", canonical(made.document()))
    return made


def proposal(home: Home, digest: str) -> dict[str, JsonValue] | None:
    """What was shown with a plan when it was made: hazards, groups, forecast."""
    body = home.ledger().get(f"proposals/{digest}.json")
    found: dict[str, JsonValue] | None = None if body is None else json.loads(body)
    return found


def find(home: Home, prefix: str) -> Plan:
    """A stored plan by its digest or the beginning of it. Raises BadInput when none or several begin so."""
    wanted = prefix.lower()
    if len(wanted) < SHORTEST_PREFIX or not all(each in "0123456789abcdef" for each in wanted):
        raise BadInput(
            f"{prefix!r} is no digest", hint=f"write at least {SHORTEST_PREFIX} digits of it, as 'dr plan' showed them"
        )
    if len(wanted) == len("0" * 64) and home.ledger().get(plan_key(wanted)) is not None:
        return read_plan(home.ledger(), wanted)
    found = [key for key in home.ledger().list("plans/") if key.removeprefix("plans/").startswith(wanted)]
    if len(found) != 1:
        fact = f"several plans begin with {wanted}" if found else f"no plan begins with {wanted}"
        raise BadInput(
            fact, hint="write more digits" if found else "make one with 'dr plan'; 'dr runs' lists those that ran"
        )
    return read_plan(home.ledger(), found[0].removeprefix("plans/").removesuffix(".json"))


def act(act: Act, stored: Plan, *, outage_since: datetime | None = None) -> Changed:
    """Start the plan's only run, take it up again, or report it. Raises Refused with nothing touched, and leaves the
    refusal on record."""
    return _Run(act=act, plan=stored, outage_since=outage_since).go()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Run:
    act: Act
    plan: Plan
    outage_since: datetime | None

    @property
    def home(self) -> Home:
        return self.act.home

    def go(self) -> Changed:
        """Under the lease from the first look to the last record; an ended run is only reported."""
        records = read_records(self.home.ledger(), self.plan.run)
        if outcome(records) is not None:
            return self.told(records, None)
        try:
            silent_home = self.accepted_silence()
            least = generation(records) + 1
            with self.act.holding(lease_of(self.plan), self.plan.run, least=least, need_home=not silent_home) as held:
                return self.under(held)
        except Refused as refusal:
            self.leave(refusal)
            raise

    def accepted_silence(self) -> bool:
        """Whether people accepted that the ledger's home is silent: only then may the lease live elsewhere alone."""
        given = approving.consents(self.home, self.plan)
        everything = [
            *(each.approval.accepted for each in given.given if each.valid),
            *(each.approval.accepted for each in given.standing if all(each.valid)),
        ]
        return any(one.klass == DEGRADED for accepted in everything for one in accepted) or not _live(self.plan)

    def under(self, held: Holdings) -> Changed:
        """Under the lease: admitted or refused before the first record."""
        home, ledger = self.home, self.home.ledger()
        records = read_records(ledger, self.plan.run)
        facts = self.admitted(records)
        if facts is None:
            return self.told(records, None)
        keep_plan(ledger, self.plan)
        journal = Journal(
            ledger, self.plan.run, who=home.who, generation=held.generation, clock=home.now, digest=self.plan.digest
        )
        if not journal.records():
            journal.append(RUN_BEGUN, self.plan.service, facts=facts)
        halt = self.drive(journal, held)
        return self.conclude(journal, halt)

    def admitted(self, records: tuple[Record, ...]) -> Mapping[str, JsonValue] | None:
        """The facts of the run's first record; None for a run that has ended meanwhile. Raises Refused."""
        home, stored = self.home, self.plan
        seen = observe(home, stored.service, target=str(stored.pinned["to"]), run=stored.run)
        begun = bool(records)
        derived = None if begun else make(asked_of(stored), self.book, home.catalog, seen)
        found = hazards(stored, seen, rpo_seconds=rpo_seconds(home.catalog))
        consents = approving.consents(home, stored)
        state = RunState(begun=begun, outcome=outcome(records))
        match admit(stored, derived, seen, found, state=state, consents=consents, now=home.now()):
            case Start() as start:
                approving.spend(home, stored, start.spends)
                accepted: list[JsonValue] = [each.model_dump(mode="json") for each in _accepted(start, consents)]
                consent: dict[str, JsonValue] = {
                    "by": list(start.by),
                    "spends": list(start.spends),
                    "standing": start.standing,
                    "accepted": accepted,
                }
                since = {"outage_since": rfc3339(self.outage_since)} if self.outage_since else {}
                shown: list[JsonValue] = [each.words for each in found]
                return {
                    "purpose": stored.purpose,
                    "arguments": stored.arguments,
                    "consent": consent,
                    "hazards": shown,
                    **since,
                }
            case Resume():
                return {}
            case Report():
                return None

    @property
    def book(self) -> Runbook:
        return _book(self.home, self.plan.runbook)

    def drive(self, journal: Journal, held: Holdings) -> Halt | None:
        stage = Stage(
            home=self.home,
            plan=self.plan,
            sign=self.home.signer(),
            generation=lambda: held.generation,
            consented=lambda: _consented(journal.records()),
        )
        with taking(self.home, self.plan, journal, hazards=self.hazards_now) as take_in:
            loop = Loop(
                plan=self.plan,
                verbs=kinds.verbs(stage),
                journal=journal,
                now=self.home.now,
                door=self.act.door,
                tell=self.act.tell,
                may_act=held.check,
                take_in=take_in,
            )
            match loop.run():
                case Finish():
                    return None
                case Halt() as halt:
                    return halt

    def hazards_now(self, mode: Mode) -> tuple[Hazard, ...]:
        """The hazards of a variant as the world is now: what a switch to it in mid-run has to accept."""
        seen = observe(self.home, self.plan.service, target=str(self.plan.pinned["to"]), run=self.plan.run)
        return hazards(self.plan, seen, rpo_seconds=rpo_seconds(self.home.catalog), mode=mode)

    def conclude(self, journal: Journal, halt: Halt | None) -> Changed:
        """Say what came of it. A run that stands still is not ended: people may order it on, or anybody resume it."""
        self.change_of_roles(journal)
        document = self.told(journal.records(), halt)
        facts: dict[str, JsonValue] = document.model_dump(mode="json")
        measures = {
            name: each
            for name, each in (("rto_seconds", document.rto_seconds), ("rpo_seconds", document.rpo_seconds))
            if each is not None
        }
        over = halt is None or bool(history(journal.records()).cancelled)
        kind = RUN_OUTCOME if over else RUN_HALTED
        journal.append(kind, self.plan.service, facts=facts, measures=measures, end=self.home.now())
        if over:
            journal.end(document.outcome, self.home.signer())
        return document

    def change_of_roles(self, journal: Journal) -> None:
        """Once every database is promoted the epoch has changed, whatever becomes of the steps behind it."""
        records = journal.records()
        ended = {str(each.facts.get("step")) for each in records if each.kind == ENDED}
        wanted = [step for step in self.plan.steps if step.verb == "promote"]
        if not _live(self.plan) or not wanted or not ended.issuperset(step.id for step in wanted):
            return
        if any(each.kind == CHANGED for each in records):
            return
        document = self.told(records, None)
        change = Change(
            service=self.plan.service,
            epoch=self.plan.epoch + 1,
            primary=document.target,
            run=self.plan.run,
            runbook=self.plan.runbook,
            at=self.home.now(),
            databases={
                each.database: {"system_id": each.system_id, "timeline": each.timeline, "lsn": each.lsn}
                for each in document.databases
            },
            steps=step_seconds(records),
        )
        with suppress(AlreadyThere):
            self.home.ledger().put(change_key(change.service, change.epoch), canonical(change))
        facts = facts_of_change(self.plan.epoch, primary=change.primary, databases={**change.databases})
        journal.append(CHANGED, self.plan.service, facts=facts, end=self.home.now())

    def told(self, records: tuple[Record, ...], halt: Halt | None) -> Changed:
        catalog = self.home.catalog
        mine: dict[str, Objective] = {
            name: catalog.objectives[resource.objective]
            for name, resource in catalog.resources.items()
            if name in catalog.services[self.plan.service].resources
        }
        return changed(self.plan, records, mine, halt)

    def leave(self, refusal: Refused) -> None:
        """A refusal is evidence. When even that cannot be written the refusal itself still reaches whoever asked."""
        try:
            approving.refused(self.home, self.plan.digest, [refusal.fact], subject=self.plan.service)
        except DrError as trouble:
            refusal.add_note(f"the refusal could not be left on record: {trouble.fact}")


def _accepted(start: Start, consents: Consents) -> list[Acceptance]:
    """What those who admitted the run accepted."""
    given = [each.approval.accepted for each in consents.given if each.approval.id in start.spends]
    standing = [each.approval.accepted for each in consents.standing if each.approval.id == start.standing]
    return list(dict.fromkeys(one for accepted in (*given, *standing) for one in accepted))


def _consented(records: tuple[Record, ...]) -> Consented:
    """Who consented, and to what: the run's first record, and what people ordered in mid-run."""
    by: tuple[str, ...] = ()
    standing = ""
    accepted: list[Acceptance] = []
    for record in records:
        if record.kind == RUN_BEGUN and isinstance(consent := record.facts.get("consent"), dict):
            names = consent.get("by")
            by = tuple(str(each) for each in names) if isinstance(names, list) else ()
            standing = str(consent.get("standing") or "")
            accepted += _acceptances(consent.get("accepted"))
        elif record.kind.startswith("order."):
            accepted += _acceptances(record.facts.get("accepted"))
    return Consented(by=by, accepted=tuple(accepted), standing=standing)


def _acceptances(found: JsonValue) -> list[Acceptance]:
    return [Acceptance.model_validate(each) for each in found] if isinstance(found, list) else []


def _book(home: Home, name: str) -> Runbook:
    return runbook_file.load(name, runbook_file.library(home.folder), home.catalog)


def _live(plan: Plan) -> bool:
    return plan.pinned.get("live") is not False
