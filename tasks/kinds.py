"""The kinds of resources: a new one is a folder and a line here. What their verbs need of each other meets here too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from recovery.step import Step
from tasks.kind import Verbs
from tasks.stage import Outcome, Stage


def verbs(stage: Stage) -> Verbs:
    """Every verb that a run which changes roles may name."""
    from tasks import route53, service
    from tasks.postgres import roles
    from tasks.service import probing

    def ask(site: str) -> Mapping[str, Outcome]:
        return probing.outcomes(stage.service, site)

    ground = replace(stage, ask=ask)
    return {**roles.verbs(ground), **route53.verbs(ground), **service.verbs(ground)}


def undo(stage: Stage, step: Step) -> bool:
    """Take back what a step of a cancelled run holds users up with; whether there was anything. Raises DrError."""
    from tasks.postgres.roles import demote

    return step.verb == "demote" and demote.undo(stage, step.resource)
