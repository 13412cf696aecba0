"""Steps that guard something: what it means to go on without one of them, by the rule that asks for it. Pure.

Separate from orders.py, which asks whether an order counts: here is what it endangers.
"""

from __future__ import annotations

from recovery import compute
from recovery.hazard import Hazard
from recovery.rules import RULES
from recovery.step import OMITTED, Mode, Step

GUARDS: dict[str, tuple[str, int, str]] = {
    "fence": ("split-brain", 1, "the old primary is not fenced: two primaries are possible"),
    "demote": ("data-loss-unknown", 13, "the old primary is not demoted at an equal LSN: commits may be lost"),
    "scale": ("undersized", 3, "nothing proves that the site has the instances that carry all users"),
    "validate": ("unvalidated", 3, "nothing proves that the recovered service works"),
    "probe": ("unvalidated", 3, "nothing proves that the site serves"),
    "quarantine": ("side-effects", 10, "side effects are not parked: mail and jobs may go out twice"),
    "protect": ("unprotected", 9, "the new primary is neither archived nor backed up"),
    "losses": ("losses-unlisted", 12, "the commits that the old data alone holds are not exported"),
    "declare": ("undeclared", 14, "no quorum confirms the disaster"),
}
"""Verb → the hazard of skipping it: class, rule, and what it means."""
NEVER = {"approve": 14, "promote": 2}
"""Verbs that nobody may skip, by rule."""


def skip_hazards(step: Step, mode: Mode) -> tuple[Hazard, ...]:
    """The hazards of skipping that step in that variant. Scratch guards nothing, nor does a scaling of no instances."""
    arguments = step.arguments_in(mode)
    if step.verb not in GUARDS or arguments.get("scratch") is True or OMITTED in arguments:
        return ()
    if step.verb == "scale" and not compute.pinned(arguments):
        return ()
    klass, number, text = GUARDS[step.verb]
    words = f"{step.id} is skipped ({RULES[number].cited}): {text}"
    return (Hazard(id=f"{klass}-{step.id}"[:63], klass=klass, text=words),)


def rule_of_skip(step: Step) -> str:
    """The rule that asks for the step, as records cite it; empty for one that guards nothing."""
    guard = GUARDS.get(step.verb)
    return RULES[guard[1]].cited if guard is not None else ""
