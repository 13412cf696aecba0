"""Which of the numbered rules have a say in a plan: shown with it, so that nobody consents without them. Pure.

Separate from rules.py (the law) and breach.py (who breaks it): here a plan that breaks none is told what held it.
"""

from __future__ import annotations

from recovery.plan import Plan
from recovery.rules import ORDERS, RULES, Rule
from recovery.step import OMITTED, Step

_OF_VERB = {"redirect": (6,), "restore": (7,), "promote": (9,), "fence": (1,), "approve": (14,)}


def rules_of(plan: Plan) -> tuple[Rule, ...]:
    """The rules that judge this plan, by number."""
    live = plan.live
    found = {4, 8} | ({5} if live else {11})
    for step in _done(plan):
        found.update(_OF_VERB.get(step.verb, ()))
        found.update(order.rule for order in ORDERS if order.then == step.verb and plan.mode in order.modes)
    return tuple(RULES[number] for number in sorted(found))


def _done(plan: Plan) -> list[Step]:
    return [step for step in plan.steps if OMITTED not in step.arguments_in(plan.mode)]
