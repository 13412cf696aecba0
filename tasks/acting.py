"""One run that changes roles: admitted under the lease, driven, and what came of it written down.

Separate from changing.py, which makes and finds plans: here a stored plan meets a fresh look at the world, the consent
of people and the lease, and only then the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import JsonValue

from recovery import outage
from recovery.admission import Consents, Report, Resume, RunState, Start, accepts, admit
from recovery.drive import Finish, Halt
from recovery.errors import DrError, Refused
from recovery.evidence import Record
from recovery.failover import asked_of, lease_of, make, rpo_seconds
from recovery.hazards import DEGRADED, hazards
from recovery.journal import RUN_BEGUN, STEP_KEPT, STEP_UNDONE, generation, history, outcome, results
from recovery.objective import Objective
from recovery.observation import Observation
from recovery.outcome import Changed, changed
from recovery.plan import NothingToDo, Plan
from recovery.runbook import Runbook
from recovery.step import Mode
from tasks import approving, beginning, kinds, ordered, outlived, runbook_file
from tasks.beginning import Beginning
from tasks.engine import Act, keep_plan
from tasks.home import Home, ledger_seen
from tasks.journal import Journal, read_records
from tasks.lease_places import Holdings
from tasks.loop import Loop
from tasks.observing import changes, observe
from tasks.orders_of_people import Now, taking
from tasks.role_change import keep_change
from tasks.run_consent import consented
from tasks.stage import Stage

FRESH = timedelta(seconds=3)
"""The age of a look, from its beginning to the moment when the lease was taken. With a silent site it takes two seconds
itself, and making the plan and taking the lease come on top: less than this, and each such failover looks twice."""
FIRST_STEPS = 4
"""Of a plan: what their verbs need is loaded while the look goes on."""
RUN_HALTED, RUN_OUTCOME, RUN_RESUMED = "run.halted", "run.outcome", "run.resumed"


@dataclass(frozen=True, kw_only=True, slots=True)
class Running:
    """A run of a stored plan, from here. `outage_since`: since when users are not served, where a person knows it.
    `seen`: what the plan's making saw a moment ago."""

    act: Act
    plan: Plan
    outage_since: datetime | None
    seen: Observation | None = None

    @property
    def home(self) -> Home:
        return self.act.home

    def go(self) -> Changed:
        """Under the lease from what decides to the last record; an ended run is only reported."""
        eyes = ThreadPoolExecutor(max_workers=4, thread_name_prefix="look")
        try:
            # Looking takes longest: it goes on while the records are read and the lease is taken. What else is asked
            # before the lease needs no answer of another question either.
            look = eyes.submit(self.look) if self.seen is None else None
            heard, before = eyes.submit(self.heard), eyes.submit(self.before)
            records = read_records(self.home.ledger(), self.plan.run)
            if outcome(records) is not None:
                return self.told(records, None)
            return self.holding(records, heard, before, look, eyes)
        finally:
            eyes.shutdown(wait=False)

    def heard(self) -> None:
        """Ask the ledger's home where it must answer: once heard, it need not rest for an old silence."""
        if self.plan.live:
            ledger_seen(self.home, mirrors_seconds=0.0)

    def before(self) -> dict[str, JsonValue]:
        """See Act.before."""
        return self.act.before(lease_of(self.plan), self.plan.run)

    def holding(
        self,
        records: tuple[Record, ...],
        heard: Future[None],
        before: Future[dict[str, JsonValue]],
        look: Future[Observation] | None,
        eyes: ThreadPoolExecutor,
    ) -> Changed:
        """Take the lease, and act under it."""
        try:
            heard.result()
            least = generation(records) + 1
            last = {} if records else before.result()
            lease, run = lease_of(self.plan), self.plan.run
            with self.act.holding(lease, run, least=least, need_home=self.needs_home) as held:
                return self.under(held, last, look, eyes)
        except Refused as refusal:
            self.leave(refusal)
            raise

    def needs_home(self) -> bool:
        """Whether the lease may not live elsewhere alone, since those who may start the run, or did, have not accepted
        that the ledger's home is silent."""
        home, plan = self.home, self.plan
        before = consented(read_records(home.ledger(), plan.run)).accepted
        if not plan.live or any(each.klass == DEGRADED for each in before):
            return False
        return not accepts(plan, approving.consents(home, plan), DEGRADED, home.now())

    def look(self) -> Observation:
        """The world now."""
        return observe(self.home, self.plan.service, target=str(self.plan.pinned["to"]), run=self.plan.run)

    def epoch(self) -> int:
        """The epoch now, this run's own change of roles not counted."""
        others = [each for each in changes(self.home, self.plan.service) if each.run != self.plan.run]
        return others[-1].epoch if others else 0

    def under(
        self,
        held: Holdings,
        before: Mapping[str, JsonValue],
        look: Future[Observation] | None,
        eyes: ThreadPoolExecutor,
    ) -> Changed:
        """Under the lease: admitted or refused before the first record. `look`: begun before it was taken."""
        home, ledger, held_at = self.home, self.home.ledger(), self.home.now()
        epoch, consents = eyes.submit(self.epoch), eyes.submit(approving.consents, home, self.plan)
        journal = Journal(
            ledger, self.plan.run, who=home.who, generation=held.generation, clock=home.now, digest=self.plan.digest
        )
        kinds.load(self.plan.steps[:FIRST_STEPS])
        seen = self.seen
        with suppress(DrError):  # it is asked again below, and then raised
            seen = look.result() if look is not None else seen
        if seen is None or not still(seen, held_at, epoch.result()):
            seen = self.look()
        outlived_it = bool(journal.records()) and seen.epoch != self.plan.epoch
        if outlived_it:
            outlived.hear(home, self.plan, journal, self.look_again)
        known = journal.records()
        first = self.admitted(known, seen, consents.result())
        if first is None:
            return self.told(journal.records(), None)
        keep_plan(ledger, self.plan)
        if not known:
            facts = {**first.facts, **before, "door": self.act.via}
            journal.append(RUN_BEGUN, self.plan.service, facts=facts, begin=first.at)
        else:
            journal.append(RUN_RESUMED, self.plan.service, facts={"door": self.act.via})
        journal.alone()
        if not outlived_it and len(journal.records()) > len(known) + 1:  # an older engine's last word, or nobody's
            ordered.hold(home, self.plan, journal.records(), seen)
        if outlived_it:
            outlived.keep(self.plan, journal, seen.epoch)
        return self.conclude(journal, None if outlived_it else self.drive(journal, held))

    def admitted(self, records: tuple[Record, ...], seen: Observation, consents: Consents) -> Beginning | None:
        """The run's first record; None for a run that has ended meanwhile. Raises Refused."""
        home, stored, now = self.home, self.plan, self.home.now()
        found = hazards(stored, seen, rpo_seconds=rpo_seconds(home.catalog))
        claim = beginning.claim(home, stored, records[0]) if records else None
        state = RunState(begun=claim, outcome=outcome(records), cancelled=bool(history(records).cancelled))
        derived: Plan | NothingToDo | None = None
        if claim is None:
            derived = self.again(seen)
        elif not claim.vouched:
            with suppress(DrError):  # half a change is no world in which it could be made
                derived = self.again(seen)
        if claim is not None:
            consents = beginning.heard_by(home, consents)
        match admit(stored, derived, seen, found, state=state, consents=consents, now=now):
            case Start() as start:
                approving.spend(home, stored, start.spends)
                since = self.outage_since
                facts = beginning.facts(home, stored, start, consents, found, at=now, outage_since=since)
                return Beginning(at=now, facts=facts)
            case Resume(spends=spends):
                if seen.epoch == stored.epoch:  # in another one nothing is done but its end put on record
                    ordered.hold(home, stored, records, seen)
                approving.spend(home, stored, spends)
                return Beginning(at=now, facts={})
            case Report():
                return None

    def again(self, seen: Observation) -> Plan | NothingToDo:
        """The plan, made again from what was asked and what is seen now."""
        return make(asked_of(self.plan), book(self.home, self.plan.runbook), self.home.catalog, seen)

    def drive(self, journal: Journal, held: Holdings) -> Halt | None:
        stage = Stage(
            home=self.home,
            plan=self.plan,
            sign=self.home.signer(),
            generation=lambda: held.generation,
            consented=lambda: consented(journal.records()),
        )
        with taking(self.home, self.plan, journal, look=self.look_again) as take_in:
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
            ended = loop.run()
        if history(journal.records()).cancelled:
            self.give_back(stage, journal, held.check)
        match ended:
            case Finish():
                return None
            case Halt() as halt:
                return halt

    def give_back(self, stage: Stage, journal: Journal, may_act: Callable[[], None]) -> None:
        """A cancelled run leaves users served as before it, where that can be; each thing undone or kept is on record.
        Raises Failed where it could not be done yet: the run is open until acting again has done it; Refused where the
        lease is lost."""
        told, found = history(journal.records()), results(journal.records())
        troubles: list[DrError] = []
        for step in reversed([each for each in self.plan.steps if told.of(each.id).begun]):
            result = found.get(step.id)
            may_act()
            try:
                facts = kinds.undo(stage, step, told, result if isinstance(result, dict) else {})
            except DrError as trouble:
                troubles.append(trouble)
                continue
            if facts:
                kind = STEP_KEPT if "kept" in facts else STEP_UNDONE
                journal.append(kind, step.resource, facts={"step": step.id, **facts}, end=self.home.now())
        if troubles:
            raise troubles[-1]  # the earliest step's: the fence before the side effects

    def look_again(self, mode: Mode) -> Now:
        """A switch of variants in mid-run: the hazards that it has to accept, and since when the old site fails."""
        plan, catalog = self.plan, self.home.catalog
        seen = self.look()
        found = hazards(plan, seen, rpo_seconds=rpo_seconds(catalog), mode=mode)
        probes = catalog.services[plan.service].probes
        left = [name for name, probe in probes.items() if probe.site == plan.pinned["from"]]
        return Now(hazards=found, facts={outage.SEEN: outage.evidence(seen, left)})

    def conclude(self, journal: Journal, halt: Halt | None) -> Changed:
        """Say what came of it. A run that stands still is not ended: people may order it on, or anybody resume it."""
        keep_change(self.home, self.plan, journal, lambda: self.told(journal.records(), None))
        document = self.told(journal.records(), halt)
        facts: dict[str, JsonValue] = document.but(timeline=None).model_dump(mode="json")  # the chain is its timeline
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


def still(seen: Observation, held_at: datetime, epoch: int) -> bool:
    """Whether what was seen just before the lease was taken may be acted on under it: it was seen a moment ago, and no
    run of another engine has changed the roles and gone since (`epoch`: as it is under the lease)."""
    return held_at - seen.at <= FRESH and seen.epoch == epoch


def book(home: Home, name: str) -> Runbook:
    """A runbook of the installation or the home, opened. Raises what is wrong with it."""
    return runbook_file.load(name, runbook_file.library(home.folder), home.catalog)
