"""What the verbs of this kind have in common: the site that a step names, and patience with a world that settles.

Every verb is performed at least once, also where its truth held from the start: its facts are the run's evidence.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from recovery.drive import Seen, Truth
from recovery.step import Step
from tasks.kind import Facts, Scene
from tasks.stage import Stage

PAUSE_SECONDS = 0.1
NOT_CONFIGURED: Facts = {"state": "not configured"}


def site_of(step: Step, scene: Scene, stage: Stage) -> str:
    """The site that the step names; without one the site that takes over."""
    named = scene.arguments(step).get("site")
    if named == "witness":
        return next((name for name, site in stage.home.catalog.sites.items() if site.role == "witness"), "witness")
    return str(named) if named is not None else stage.target


def scratch(step: Step, scene: Scene) -> bool:
    """Whether the step is of a copy and touches nothing that is live."""
    return scene.arguments(step).get("scratch") is True


def done(step: Step, scene: Scene) -> Facts | None:
    """The facts of the step's last end in this run; None before its first."""
    return scene.results.get(step.id)


def absent(why: str) -> Seen:
    """Not yet so."""
    return Seen(truth=Truth.ABSENT, why=why)


def holds(why: str = "") -> Seen:
    """So."""
    return Seen(truth=Truth.HOLDS, why=why)


def unknown(why: str) -> Seen:
    """It could not be seen."""
    return Seen(truth=Truth.UNKNOWN, why=why)


def twice(look: Callable[[], tuple[Truth, str]]) -> Seen:
    """Look, and once more where it does not hold: one bad answer is weather, and a truth that lapses costs a try."""
    truth, why = look()
    if truth is not Truth.HOLDS:
        time.sleep(PAUSE_SECONDS)
        truth, why = look()
    return Seen(truth=truth, why=why)


def settled(look: Callable[[], tuple[Truth, str]], step: Step, most_seconds: float) -> tuple[Truth, str]:
    """Look until it holds, for most of the step's patience and at most `most_seconds`; gives what was seen last."""
    deadline = time.monotonic() + min(step.patience_seconds * 0.8, most_seconds)
    while True:
        truth, why = look()
        if truth is Truth.HOLDS or time.monotonic() + PAUSE_SECONDS > deadline:
            return truth, why
        time.sleep(PAUSE_SECONDS)
