"""Changing the roles of a service: plan, find, act. `dr`, Prefect and break glass come this way.

Separate from acting.py, which drives one run: here a runbook meets a look at the world and becomes a stored plan.
"""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import datetime

from pydantic import JsonValue

from recovery.binding import ends
from recovery.errors import BadInput
from recovery.failover import Asked, Proposal, propose
from recovery.observation import Observation
from recovery.outcome import Changed
from recovery.plan import NothingToDo, Plan
from recovery.value import canonical
from tasks.acting import Running, book
from tasks.engine import Act, keep_plan, plan_key, plan_of, read_plan
from tasks.home import Home
from tasks.observing import changes, left_open, observe
from tasks.store import AlreadyThere

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
    chosen = book(home, runbook_name)
    by = ends(home.catalog, chosen, service=service, to=to)
    asked = Asked(service=by.service, to=by.target, asked_at=home.now(), max_loss=max_loss, target=target)
    seen = observe(home, by.service, target=by.target)
    past = [each.steps for each in changes(home, by.service) if each.runbook == runbook_name]
    made = propose(asked, chosen, home.catalog, seen, past=past)
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
    if len(wanted) == len("0" * 64) and (body := home.ledger().get(plan_key(wanted))) is not None:
        return plan_of(wanted, body)
    found = [key for key in home.ledger().list("plans/") if key.removeprefix("plans/").startswith(wanted)]
    if len(found) != 1:
        fact = f"several plans begin with {wanted}" if found else f"no plan begins with {wanted}"
        raise BadInput(
            fact, hint="write more digits" if found else "make one with 'dr plan'; 'dr runs' lists those that ran"
        )
    return read_plan(home.ledger(), found[0].removeprefix("plans/").removesuffix(".json"))


def unfinished(home: Home, runbook_name: str, *, service: str | None = None, to: str | None = None) -> Plan | None:
    """The plan of the last run under the lease, where it is of that runbook and target, has begun and not ended, and
    its epoch still stands: the one to go on with before another is made. Raises BadInput as `plan` does."""
    chosen = book(home, runbook_name)
    by = ends(home.catalog, chosen, service=service, to=to)
    last = Act(home=home).leases().look(by.service if chosen.live else f"{by.service}-{runbook_name}")
    if last is None or left_open(home, last) is None:
        return None
    found = read_plan(home.ledger(), last.run)
    epoch = max((each.epoch for each in changes(home, by.service) if each.run != found.run), default=0)
    same = (found.runbook, found.pinned.get("to"), found.epoch) == (runbook_name, by.target, epoch)
    return found if same else None


def act(act: Act, stored: Plan, *, outage_since: datetime | None = None, seen: Observation | None = None) -> Changed:
    """Start the plan's only run, take it up again, or report it. `seen`: what its making saw a moment ago. Raises
    Refused with nothing touched, and leaves the refusal on record."""
    return Running(act=act, plan=stored, outage_since=outage_since, seen=seen).go()
