"""Slots that slipped: found, told to people, and put on record, by whoever looks first. `dr status` only looks.

Separate from routine.py, which does what is due: this looks at what was not done, also while nothing else runs. It
needs the ledger alone, and where a tool of the estate takes backups by itself, that tool.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from pydantic import JsonValue

from recovery import planners, standing
from recovery.catalog import PostgresResource
from recovery.drive import Halt, Move, Seen, Truth
from recovery.errors import DrError, Refused
from recovery.evidence import Record
from recovery.journal import results
from recovery.past import Past, marked_at
from recovery.plan import NothingToDo, Plan
from recovery.scorecard import backups_of
from recovery.slipped import FOUND_BACK, KIND, Slipped, counted, decide, lines, on_record
from recovery.step import Step
from tasks import channels
from tasks.engine import Act, Said
from tasks.home import Home
from tasks.keeping import engine_at
from tasks.kind import Facts, Scene, Verbs
from tasks.loop import Event
from tasks.remembered import pasts_of

LOOK_SECONDS = 300.0
"""Shorter than any grace, and seldom enough for a ledger of years, whose keys are listed at each look."""
Tell = Callable[[str], None]


def find(act: Act, name: str, runs: Sequence[Past]) -> Slipped | NothingToDo:
    """What slipped of a resource and is not on record yet: people are told, and it is put there. Two who find the same
    write one run. Raises Refused while another puts something on record."""
    home = act.home
    resource = home.resource(name)
    mine = [each for each in runs if each.resource == name]
    now = home.now()
    taken = [(each.kind, each.begun_at) for each in backups_of(mine)] + _by_tool(home, name, resource)
    policy, proofs = home.catalog.backups[resource.backup], home.catalog.proofs[resource.proof]
    duties = standing.duties(policy, proofs, taken, marked_at(mine), mine, now=now, back=FOUND_BACK)
    found = decide(duties, on_record(mine), now=now)
    if isinstance(found, NothingToDo):
        return found
    return _put(act, planners.slots(service=home.service_of(name), resource=name, found=found))


def _by_tool(home: Home, name: str, resource: PostgresResource) -> list[tuple[str, datetime]]:
    """Backups that the estate's own tool keeps: they may have been taken by its own schedule."""
    if resource.engine == "native":
        return []
    sites = tuple(dict.fromkeys((*home.catalog.backups[resource.backup].copies, *resource.sites)))
    return [(each.kind, each.begun_at) for site in sites for each in engine_at(home, name, site).backups()]


def _put(act: Act, plan: Plan) -> Slipped:
    name = str(plan.arguments["resource"])
    lease = f"{name}-{KIND}"
    act.discard_unfinished(lease, plan.run, lambda old: _verbs(act.home, old))
    records = act.run(plan, _verbs(act.home, plan), lease=lease, conclude=lambda r, halt: _said(plan, r, halt))
    return Slipped.model_validate(next(each.facts for each in reversed(records) if each.kind == KIND))


def _said(plan: Plan, records: tuple[Record, ...], halt: Halt | None) -> Said:
    found = Slipped.model_validate(plan.pinned["slots"])
    told = results(records).get("tell")
    made = found.but(told="failed", why=halt.why) if halt else found.but(**(told if isinstance(told, dict) else {}))
    slipped = any(each.state != "kept" for each in found.slots)
    facts: dict[str, JsonValue] = made.model_dump(mode="json")
    return Said(kind=KIND, facts=facts, measures={}, outcome="missed" if slipped else "met")


def _verbs(home: Home, plan: Plan) -> Verbs:
    return {"tell": _Tell(home=home, plan=plan)}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Tell:
    """People were told, over every channel of the service that there is. Once on record it holds."""

    home: Home
    plan: Plan

    def observe(self, step: Step, scene: Scene) -> Seen:
        """See Verb.observe."""
        if scene.results.get(step.id) is not None:
            return Seen(truth=Truth.HOLDS)
        return Seen(truth=Truth.ABSENT, why="nobody was told yet")

    def perform(self, move: Move, scene: Scene) -> Facts:  # noqa: ARG002 -- the port's shape
        """Facts: `told` and `channels`. That a channel does not work is one, not a failure: the record comes first."""
        found = Slipped.model_validate(self.plan.pinned["slots"])
        if not found.slots:
            return {"told": "nothing to tell"}
        service = self.home.catalog.services[self.plan.service]
        title, text = message(str(self.plan.arguments["resource"]), self.plan.service, found)
        words = channels.tell(self.home, service.notify, tuple(service.notify), title=title, text=text)
        told = next((each for each in ("told", "failed") if each in words.values()), "not configured")
        return {"told": told, "channels": dict(words)}


def message(resource: str, service: str, found: Slipped) -> tuple[str, str]:
    """What people are told: a title, and a text with the slots and what to do."""
    title = f"{service}: {resource}: {counted(found.slots)}"
    hint = "'dr status' says what is due now; what is due can be done by hand ('dr backup', 'dr prove')"
    return title, "\n".join([*lines(found.slots), hint])


@dataclass(kw_only=True, slots=True)
class DeadMan:
    """Looks again and again, beside whatever else its process does, and says what it finds. It needs neither Prefect
    nor a worker: their silence is what it finds."""

    act: Act
    resources: Sequence[str]
    tell: Tell
    _said: dict[str, str] = field(default_factory=dict)

    def look(self) -> None:
        """Once, at every resource. What can't be asked is told, once, and asked again at the next look."""
        for name in self.resources:
            try:
                found = find(self.act, name, pasts_of(self.act.home).runs)
            except Refused:
                continue  # whoever holds the lease puts it on record; else the next look does
            except DrError as trouble:
                self._say(name, f"{name}: what slipped could not be put on record: {trouble.fact}; {trouble.hint}")
                continue
            if isinstance(found, Slipped) and found.slots:
                title, text = message(name, self.act.home.service_of(name), found)
                self.tell(f"{title} ({found.told})")
                for line in text.splitlines()[:-1]:
                    self.tell(f"  {line}")
            self._said.pop(name, None)

    def go_on(self, stop: threading.Event) -> None:
        """Until it is stopped, whatever happens: nothing misses a dead man's switch that has ended."""
        while not stop.is_set():
            try:
                self.look()
            except Exception as surprise:  # noqa: BLE001 -- told, and looked again
                words = f"{type(surprise).__name__}: {surprise}"
                self._say("", f"what slipped could not be looked for: unexpected {words}; it is tried again")
            stop.wait(LOOK_SECONDS)

    def _say(self, name: str, text: str) -> None:
        if self._said.get(name) != text:
            self._said[name] = text
            self.tell(text)


def noted(act: Act, *names: str) -> None:
    """What slipped of these resources is put on record beside other work. Where that cannot be, it is said, and the
    work stands."""
    runs: tuple[Past, ...] | None = None
    for name in names:
        try:
            runs = pasts_of(act.home).runs if runs is None else runs  # what one resource adds is of no other
            found = find(act, name, runs)
        except DrError as trouble:
            text = f"what slipped of {name} could not be put on record: {trouble.fact}"
            act.tell(Event(step=KIND, word="noted", text=text))
            continue
        if isinstance(found, Slipped) and found.slots:
            text = f"put on record of {name}: {counted(found.slots)} ({found.told})"
            act.tell(Event(step=KIND, word="noted", text=text))
