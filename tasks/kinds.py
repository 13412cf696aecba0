"""The kinds of resources: a new one is a folder and a line here. What their verbs need of each other meets here too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

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
