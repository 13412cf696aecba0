"""The verb that takes time for safety: `bake` watches that a site stays well.

Separate because a step that waits on purpose must say so, and must not be mistaken for one that hangs.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from recovery.check import Outcome
from recovery.drive import Move, Seen
from recovery.errors import BadInput, Failed, Unproven
from recovery.objective import duration, duration_text
from recovery.step import Step
from tasks import serving
from tasks.kind import Facts, Scene
from tasks.service import probing
from tasks.service.said import absent, done, holds, site_of
from tasks.stage import Stage

EVERY_SECONDS = 1.0
LONGEST_SECONDS = 5.0
"""One bad answer is weather; a check that fails, or can't be made, for longer than this ends the watch."""
LAG_SECONDS = 1.0
_SEE = "see the site and mend it, then run the command again; where it can't be mended, 'dr plan' shows the ways back"
_UNSEEN = "see this machine's network, then run the command again"


@dataclass(kw_only=True, slots=True)
class _Streak:
    """Since when each check is in one bad state without a break and why, and the longest of all."""

    stands: dict[str, tuple[float, str]] = field(default_factory=dict)
    longest_seconds: float = 0.0

    def put(self, check: str, why: str, now: float, *, bad: bool) -> float:
        if not bad:
            self.stands.pop(check, None)
            return 0.0
        begun, _ = self.stands.get(check, (now, ""))
        self.stands[check] = begun, why
        self.longest_seconds = max(self.longest_seconds, now - begun)
        return now - begun

    def told(self, site: str, what: str) -> str:
        """What stands, for people; empty when nothing does."""
        return next((f"{check} at {site} {what} {why}" for check, (_, why) in self.stands.items()), "")


@dataclass(frozen=True, kw_only=True, slots=True)
class Bake:
    """The site's probes passed, and its standbys followed, for the whole time that was asked for. What is shorter
    than `LONGEST_SECONDS` does not count. No watch ends on a bad answer, or a short one could never fail: it goes on
    for up to as long again, and what is not well by then has failed."""

    stage: Stage

    def observe(self, step: Step, scene: Scene) -> Seen:
        """Reads the record: a time that has passed can't be looked at."""
        said = done(step, scene)
        return (
            absent("it was not watched yet") if said is None else holds(f"watched for {said.get('watched_seconds')} s")
        )

    def perform(self, move: Move, scene: Scene) -> Facts:
        """Watches. Facts: `site`, `watched_seconds`, `asked` (how often), `longest_failure_seconds`,
        `longest_unseen_seconds`. Raises Failed for what failed too long, Unproven for what could not be seen."""
        site = site_of(move.step, scene, self.stage)
        seconds = self._seconds(move.step, scene)
        failing, unseen, asked = _Streak(), _Streak(), 0
        begin = time.monotonic()
        while True:
            scene.say(f"watching {site}", min(1.0, (time.monotonic() - begin) / seconds) if seconds else 1.0)
            for check, (outcome, why) in self._look(site).items():
                now = time.monotonic()
                longer = f"for more than {LONGEST_SECONDS:g} s:"
                if failing.put(check, why, now, bad=outcome == "failed") > LONGEST_SECONDS:
                    raise Failed(failing.told(site, f"failed {longer}"), hint=_SEE)
                if unseen.put(check, why, now, bad=outcome == "unproven") > LONGEST_SECONDS:
                    raise Unproven(unseen.told(site, f"could not be asked {longer}"), hint=_UNSEEN)
            asked += 1
            left = begin + seconds - time.monotonic()
            if left <= (-LONGEST_SECONDS if failing.stands or unseen.stands else 0):
                break
            time.sleep(min(EVERY_SECONDS, left) if left > 0 else EVERY_SECONDS)
        if fact := failing.told(site, "fails when the watch is over:"):
            raise Failed(fact, hint=_SEE)
        if fact := unseen.told(site, "could not be asked when the watch was over:"):
            raise Unproven(fact, hint=_UNSEEN)
        return {
            "site": site,
            "watched_seconds": round(time.monotonic() - begin, 3),
            "asked": asked,
            "longest_failure_seconds": round(failing.longest_seconds, 3),
            "longest_unseen_seconds": round(unseen.longest_seconds, 3),
        }

    def _look(self, site: str) -> dict[str, tuple[str, str]]:
        answers = probing.asked(self.stage.service, site)
        found: dict[str, tuple[str, str]] = {
            f"probe {name}": (each.outcome, each.why) for name, each in answers.items()
        }
        for each in serving.following(self.stage.home, self.stage.plan.service, site, lag_seconds=LAG_SECONDS):
            outcome = {Outcome.PASSED: "passed", Outcome.FAILED: "failed"}.get(each.outcome, "unproven")
            found[each.name] = outcome, each.fact
        return found

    def _seconds(self, step: Step, scene: Scene) -> float:
        """As the step says; else as the service's `bake`. Raises BadInput where the patience does not reach."""
        said = scene.arguments(step).get("for")
        try:
            span = self.stage.service.bake if said is None else duration(said)
        except ValueError as error:
            raise BadInput(f"`for` is wrong: {error}", hint="write it like 5 min") from None
        if span.total_seconds() >= step.patience_seconds:
            fact = f"it is to be watched for {duration_text(span)}, but the step's patience is shorter"
            raise BadInput(fact, hint="give the step more patience, or watch for less")
        return span.total_seconds()
