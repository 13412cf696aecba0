"""Another try for a step that has none left, because somebody ran its flow again. Separate from the form: no answer is
asked for, pressing Retry (or Run) is the answer, and it counts as little or as much as the form's consent would."""

from __future__ import annotations

from recovery.approval import FORM
from recovery.journal import history, outcome
from recovery.orders import Word
from recovery.plan import Plan
from tasks import orders_of_people
from tasks.home import Home
from tasks.journal import read_records

WHY = "the flow was run again in the Prefect UI"


def try_again(home: Home, plan: Plan) -> tuple[str, ...]:
    """Order another try of each step that ended without one left, as the form (the engine, where nothing live changes);
    gives those steps. A run that has not begun, that has ended or is cancelled needs none."""
    records = read_records(home.ledger(), plan.run)
    told = history(records)
    if not records or outcome(records) is not None or told.cancelled:
        return ()
    tried = [(step, told.of(step.id)) for step in plan.steps]
    spent = tuple(step.id for step, each in tried if each.failed and each.spent(step))
    for step in spent:
        orders_of_people.give(home, plan, Word.RETRY, who=FORM if plan.live else None, step=step, why=WHY)
    return spent
