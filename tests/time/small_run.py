"""A tiny run in a home with a directory ledger: what is behind the door is made up, the engine around it is real."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from deployments.schedules import lab_catalog
from recovery.catalog import LedgerPlace
from recovery.drive import Halt, Move, Seen, Truth
from recovery.errors import BadInput, Failed
from recovery.evidence import Record
from recovery.plan import Plan
from recovery.step import Step
from tasks.engine import Act, Said
from tasks.home import Home
from tasks.keys import ENGINE, make
from tasks.kind import Facts, Scene
from tasks.pages import Page, Told

WRONG = Failed("the index pg_class_oid_index does not match its table", hint="rebuild it with reindex")


NO_HOME = BadInput("there is no such home", hint="name one that is there")


def refuse() -> Home:
    """A place in which a run cannot even begin."""
    raise NO_HOME


def fail() -> Facts:
    """A check that finds something."""
    raise WRONG


@dataclass
class Verb:
    """Holds once it was performed; `body` is what performing does."""

    body: Callable[[], Facts]

    def observe(self, step: Step, scene: Scene) -> Seen:
        """As recorded."""
        return Seen(truth=Truth.HOLDS if step.id in scene.results else Truth.ABSENT)

    def perform(self, move: Move, scene: Scene) -> Facts:
        """Say something, then do it."""
        scene.say("halfway", 0.5)
        return self.body()


def small_home(folder: Path) -> Home:
    """A home that needs no server."""
    make(folder / "keys", ENGINE, role="engine")
    catalog = lab_catalog().but(ledger=LedgerPlace(home="directory:ledger"))
    return Home(folder=folder, catalog=catalog)


def small_plan(at: datetime) -> Plan:
    """fetch, check after it, discard whatever happened."""
    return Plan(
        purpose="prove",
        runbook="prove",
        runbook_version="1",
        service="platform",
        epoch=0,
        asked_at=at,
        arguments={"resource": "orders-db"},
        pinned={},
        steps=(
            Step(id="fetch", verb="fetch", resource="orders-db", tries=1),
            Step(id="check", verb="check", resource="orders-db", needs=("fetch",), tries=1),
            Step(id="discard", verb="discard", resource="orders-db", needs=("check",), always=True, tries=1),
        ),
    )


def small_run(act: Act, check: Callable[[], Facts]) -> Told:
    """Run it; told as a proof would be."""
    ended: list[Halt | None] = []

    def conclude(records: tuple[Record, ...], halt: Halt | None) -> Said:
        ended.append(halt)
        return Said(kind="proof", facts={}, measures={}, outcome="missed" if halt else "met")

    verbs = {
        "fetch": Verb(lambda: {"size_bytes": 7, "folder": "a"}),
        "check": Verb(check),
        "discard": Verb(lambda: {"leftovers": []}),
    }
    act.run(small_plan(act.home.now()), verbs, lease="orders-db-small", conclude=conclude)
    halt = ended[0]
    text = "orders-db · small · met" if halt is None else f"orders-db · small · missed; {halt.why}"
    return Told(
        held=halt is None,
        text=text,
        pages=(
            Page(key="proof-small", title=text, markdown=f"## {text}"),
            Page(key="proof-small-checks", title=text, rows=({"check": "one", "outcome": "passed"},)),
        ),
        documents=({"verdict": "met" if halt is None else "missed"},),
    )
