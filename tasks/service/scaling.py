"""The verb `scale`: before all users come to a site, it has the instances that carry them, in service.

Separate from the doors (instances.py) and from how many that is (recovery/compute.py). It needs the site that it scales
and nothing else: the other one is asked once what it carries, for a second, and may be silent. It never
makes anything smaller, and what it raised stays: making fewer of them again is no matter of the day.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from pydantic import JsonValue

from recovery import compute
from recovery.compute import Ask
from recovery.drive import Move, Seen
from recovery.errors import Failed, Refused
from recovery.observation import CapacitySeen
from recovery.step import Step
from tasks.kind import Facts, Scene
from tasks.service import instances
from tasks.service.instances import Door
from tasks.service.said import NOT_CONFIGURED, absent, done, holds, site_of
from tasks.stage import Stage

SILENT_SECONDS = 30.0
"""A control plane that has not answered for so long fails the attempt; instances may take the step's whole patience."""
LEFT_SECONDS = 1.0
"""For so long the other site may take to say what it carries: what it says can only add."""
PAUSE_FIRST_SECONDS, PAUSE_MOST_SECONDS = 0.2, 5.0
_SKIP = "bring the site to its capacity yourself, then skip the step, signed, with 'dr run skip'"


@dataclass(frozen=True, kw_only=True, slots=True)
class Scale:
    """Each component of the service has the instances at the site that carry all users, and they serve. A service
    without compute in the catalog has nothing that could be scaled: that is written down and holds."""

    stage: Stage

    def observe(self, step: Step, scene: Scene) -> Seen:
        """Counts what was asked for. A control plane that went silent since then takes no instance away: whether the
        site serves is asked again by the probes before users are sent there."""
        said = done(step, scene)
        if said is None:
            return absent("no instance was asked for yet")
        asked = said.get("components")
        if not isinstance(asked, dict) or not asked:
            return holds("not configured")
        site = site_of(step, scene, self.stage)
        seen = instances.look(self.stage.home.catalog, self.stage.service, [site], asked)
        lacking = []
        for name, each in asked.items():
            here = seen.get(name, {}).get(site, CapacitySeen())
            wanted = each.get("asked_for") if isinstance(each, dict) else None
            if here.answer == "answers" and isinstance(wanted, int) and here.in_service < wanted:
                lacking.append(f"{here.in_service} of {wanted} instances of {name} are in service")
        return absent("; ".join(lacking)) if lacking else holds(f"{', '.join(asked)} at {site}")

    def perform(self, move: Move, scene: Scene) -> Facts:
        """Facts: `site`, `state` (already, scaled, short or not configured), `components` (each with `before`,
        `carried` by the other site, `wanted`, `asked_for`, `in_service`, `at_most`, `short`, `seconds`). Raises Refused
        where a limit leaves less than what carries all users and nobody accepted that, Failed past the patience."""
        site = site_of(move.step, scene, self.stage)
        asked = compute.pinned(scene.arguments(move.step))
        doors = {name: instances.door(self.stage.home.catalog, self.stage.service, name, site) for name in asked}
        there = {name: each for name, each in doors.items() if each is not None}
        if not there:
            why = f"the catalog has no compute of this service at {site}: nothing was scaled"
            if scene.arguments(move.step).get("required") is True:
                raise Refused(why, hint=_SKIP)
            return {**NOT_CONFIGURED, "site": site, "why": why}
        left = self._left(site, there)
        deadline = time.monotonic() + 0.9 * move.step.patience_seconds
        with ThreadPoolExecutor(max_workers=len(there), thread_name_prefix="scale") as hands:
            each = {
                name: hands.submit(
                    _Growing(stage=self.stage, scene=scene, site=site, name=name, ask=asked[name], door=door).until,
                    left.get(name),
                    deadline,
                )
                for name, door in there.items()
            }
        components: dict[str, JsonValue] = {name: future.result() for name, future in each.items()}
        states = {str(told["state"]) for told in components.values() if isinstance(told, dict)}
        state = next(word for word in ("short", "scaled", "already") if word in states)
        return {"site": site, "state": state, "components": components}

    def _left(self, site: str, there: Mapping[str, Door]) -> dict[str, CapacitySeen]:
        """What the other site has, as far as it says so now."""
        other = self.stage.source if site != self.stage.source else self.stage.target
        catalog, service = self.stage.home.catalog, self.stage.service
        seen = instances.look(catalog, service, [other], there, patience_seconds=LEFT_SECONDS)
        return {name: each[other] for name, each in seen.items()}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Growing:
    """One component on its way."""

    stage: Stage
    scene: Scene
    site: str
    name: str
    ask: Ask
    door: Door

    def until(self, left: CapacitySeen | None, deadline: float) -> Facts:
        """Look, ask for what lacks, and look again until all serve."""
        begin = time.monotonic()
        heard, pause, why = begin, PAUSE_FIRST_SECONDS, ""
        wanted, before = compute.goal(self.ask, left), None
        while True:
            here = self.door.look()
            now = time.monotonic()
            if here.answer == "answers":
                heard, before = now, before or here
                target = wanted - self._short(wanted, here)
                if here.in_service >= target and here.at_least >= target:
                    return self._told(before, here, left, wanted, target, now - begin)
                why = self._asked_for(here, target)
                self.scene.say(why, here.in_service / target)
            else:
                why = here.why
            if now + pause > min(deadline, heard + SILENT_SECONDS) or not self.scene.wanted():
                said = self.door.trouble() if here.answer == "answers" else ""
                hint = f"see its scaling activities (quotas, images, subnets) at {self.site}; or {_SKIP}"
                raise Failed(f"{self.site}: {why}{f'; {said}' if said else ''}", hint=hint)
            time.sleep(pause)
            pause = min(1.5 * pause, PAUSE_MOST_SECONDS)

    def _short(self, wanted: int, here: CapacitySeen) -> int:
        """How many are lacking by the limit. Raises Refused where the rest can't carry all users and nobody agreed."""
        lacking = compute.short(wanted, here)
        if wanted - lacking < self.ask.least and not self.stage.accepted(compute.LIMITED):
            fact = compute.allowed(self.name, wanted, here, self.site)
            raise Refused(fact, hint=f"raise that limit and order 'dr run retry'; or {_SKIP}")
        return lacking

    def _asked_for(self, here: CapacitySeen, target: int) -> str:
        """Ask where it was not asked for yet; gives what is awaited."""
        if here.at_least < target:
            try:
                self.door.raise_to(target)
            except Failed as trouble:
                return trouble.fact  # another activity is underway, or throttling: the next look asks again
        return f"{here.in_service} of {target} instances of {self.name} are in service"

    def _told(
        self, before: CapacitySeen, here: CapacitySeen, left: CapacitySeen | None, wanted: int, target: int, took: float
    ) -> Facts:
        plain = partial(CapacitySeen.model_dump, include={"at_least", "desired", "in_service"})
        changed = before.at_least < target or before.in_service < target
        return {
            "state": "short" if target < wanted else "scaled" if changed else "already",
            "before": plain(before),
            "carried": left.desired if left is not None and left.answer == "answers" else "unknown",
            "wanted": wanted,
            "asked_for": target,
            "short": wanted - target,
            "in_service": here.in_service,
            "at_most": here.at_most,
            "seconds": round(took, 3),
        }


def kept(result: Facts) -> Facts:
    """What a cancelled run leaves: instances that it asked for stay, since who made them fewer could be wrong."""
    components, site = result.get("components"), result.get("site")
    grown = [
        f"{name} {each.get('asked_for')}"
        for name, each in (components if isinstance(components, dict) else {}).items()
        if isinstance(each, dict) and each.get("state") != "already"
    ]
    return {"kept": f"{site} keeps the instances that it was given ({', '.join(grown)})"} if grown else {}
