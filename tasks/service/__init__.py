"""The kind `service`: what users need as a whole; its probes, its vantage points, its side effects, its people.

The verbs are imported when they are asked for: a vantage point is a process of this folder and must stay light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasks.kind import Verb
    from tasks.stage import Stage


def verbs(stage: Stage) -> dict[str, Verb]:
    """The verbs that act on a service, on that stage."""
    from tasks.service import disaster, effects, people, running, validating, watching

    return {
        "probe": disaster.Probe(stage=stage),
        "declare": disaster.Declare(stage=stage),
        "approve": disaster.Approve(stage=stage),
        "quarantine": effects.Park(stage=stage, parked=True),
        "release": effects.Park(stage=stage, parked=False),
        "validate": validating.Validate(stage=stage),
        "notify": people.Notify(stage=stage),
        "person": people.Person(stage=stage),
        "run": running.Run(stage=stage),
        "bake": watching.Bake(stage=stage),
        "scale": watching.Scale(stage=stage),
    }
