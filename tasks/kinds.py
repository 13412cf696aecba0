"""The kinds of resources: a new one is a folder and a line here. What their verbs need of each other meets here too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from importlib import import_module

from recovery.drive import History
from recovery.step import Step
from tasks.kind import Facts, Opened, Verbs
from tasks.stage import Outcome, Stage


def verbs(stage: Stage) -> Verbs:
    """Every verb that a run which changes roles may name."""

    def ask(site: str) -> Mapping[str, Outcome]:
        from tasks.service import probing

        return probing.outcomes(stage.service, site)

    ground = replace(stage, ask=ask)
    return Opened(_places(), ground)


def load(steps: Iterable[Step]) -> None:
    """Import what the verbs of these steps are made of."""
    places = _places()
    for verb in dict.fromkeys(step.verb for step in steps):
        if verb in places:
            import_module(places[verb].partition(":")[0])


def _places() -> dict[str, str]:
    from tasks import route53, service
    from tasks.postgres import roles

    return {**roles.PLACES, **route53.PLACES, **service.PLACES}


def undo(stage: Stage, step: Step, told: History, result: Facts) -> Facts:
    """Take back what a begun step of a cancelled run holds users up with, as long as nothing was promoted. Gives what
    was done, `kept` with why where it stays, or nothing. `result`: what the step's end recorded. Raises DrError."""
    from tasks.observing import changes
    from tasks.postgres.roles import giving_back
    from tasks.service import effects, scaling

    if not stage.live:
        return {}
    match step.verb:
        case "fence" | "demote":
            changed = any(each.epoch > stage.plan.epoch for each in changes(stage.home, stage.plan.service))
            return giving_back.give_back(stage, step.resource, told, changed=changed)
        case "quarantine":
            return {} if giving_back.promoting(stage.plan, told) else effects.undo(stage, result)
        case "scale":
            return scaling.kept(result)
        case _:
            return {}
