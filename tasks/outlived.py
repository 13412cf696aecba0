"""A run that was left open while the roles of its service changed without it: it can only be ended.

Separate from acting.py, which drives runs: nothing of this one is performed or taken back any more, since what it began
was begun in another world. Without an end it would be told of as unfinished, and be unproven, for ever.
"""

from __future__ import annotations

from recovery.journal import STEP_KEPT, history
from recovery.plan import Plan
from tasks.home import Home
from tasks.journal import Journal
from tasks.orders_of_people import Desk, Look


def hear(home: Home, plan: Plan, journal: Journal, look: Look) -> None:
    """Take in what was ordered since somebody drove it last: its end may be among that."""
    desk = Desk(home=home, plan=plan, journal=journal, look=look)
    desk.look_once()
    desk.take_in()


def keep(plan: Plan, journal: Journal, epoch: int) -> None:
    """On record: what it did stays as it is. `epoch`: the service's now. It halts nothing and is driven no more."""
    told = history(journal.records())
    step = next((step for step in plan.steps if told.of(step.id).begun), plan.steps[0])
    why = (
        f"the roles of {plan.service} have changed since (epoch {epoch}): nothing more was done and nothing taken back"
    )
    journal.append(STEP_KEPT, plan.service, facts={"step": step.id, "kept": why})
