"""Side effects of a site: parked before a recovered service may act, and let go after it was validated.

The service itself keeps them parked (catalog, `side_effects`); here it is told to, and asked whether it does.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, ValidationError

from recovery.drive import Move, Seen
from recovery.errors import Failed
from recovery.step import Step
from recovery.value import canonical
from tasks.kind import Facts, Scene
from tasks.platform_door import ask
from tasks.service.said import NOT_CONFIGURED, absent, done, holds, scratch, site_of, unknown
from tasks.stage import Stage

PATIENCE_SECONDS = 2.0


class SideEffects(BaseModel):
    """What a site says of its side effects; more keys may come."""

    model_config = ConfigDict(extra="ignore")
    parked: bool
    waiting: int | None = None
    sent: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Park:
    """The site's side effects are parked (quarantine), or not (release). A scratch copy has no way out, and a site
    without the URL has nothing that could be asked: both are written down and hold."""

    stage: Stage
    parked: bool

    def observe(self, step: Step, scene: Scene) -> Seen:
        """Asks the site once."""
        site = site_of(step, scene, self.stage)
        url = self.stage.service.side_effects.get(site)
        if scratch(step, scene) or url is None:
            if done(step, scene) is None:
                return absent("it is not written down yet")
            return holds("the copy has no way out" if scratch(step, scene) else f"not configured for {site}")
        try:
            found = _asked("GET", url)
        except Failed as trouble:
            return unknown(f"{site}: {trouble.fact}")
        if done(step, scene) is None:
            return absent("it was not asked for yet")
        return holds(_words(found)) if found.parked is self.parked else absent(_words(found))

    def perform(self, move: Move, scene: Scene) -> Facts:
        """Tells the site, and asks it again. Facts: `site`, `before` (parked before), `parked`, `waiting`, `sent`."""
        site = site_of(move.step, scene, self.stage)
        if scratch(move.step, scene):
            return {"scratch": True, "why": "the copy has no network and no archive: nothing of it can go out"}
        url = self.stage.service.side_effects.get(site)
        if url is None:
            return {**NOT_CONFIGURED, "site": site, "why": f"the catalog names no side_effects of {site}"}
        before = _asked("GET", url)
        _asked("PUT", url, {"parked": self.parked})
        found = _asked("GET", url)
        if found.parked is not self.parked:
            hint = "see the log of what sends mail, webhooks and jobs there"
            raise Failed(f"{site} was told, but its side effects are {_words(found)}", hint=hint)
        return {"site": site, "before": before.parked, **found.model_dump(mode="json", exclude_none=True)}


def quarantine(stage: Stage) -> Park:
    """The verb that parks."""
    return Park(stage=stage, parked=True)


def release(stage: Stage) -> Park:
    """The verb that lets go."""
    return Park(stage=stage, parked=False)


def undo(stage: Stage, result: Facts) -> Facts:
    """Side effects of a site that this run parked, and that never took over, go out again; those that were parked
    before it stay so. Raises Failed when the site is silent."""
    site = str(result.get("site", ""))
    url = stage.service.side_effects.get(site)
    if url is None or result.get("before") is not False or result.get("parked") is not True:
        return {}
    _asked("PUT", url, {"parked": False})
    return {"site": site, "parked": False, "why": f"side effects of {site} go out again, as before the run"}


def _words(found: SideEffects) -> str:
    waiting = "" if found.waiting is None else f", {found.waiting} wait"
    return f"{'parked' if found.parked else 'going out'}{waiting}"


def _asked(method: str, url: str, told: dict[str, bool] | None = None) -> SideEffects:
    """Raises Failed when the site is silent or says what can't be read."""
    sent = None if told is None else canonical({**told})
    body = ask(method, url, what="its side effects", patience_seconds=PATIENCE_SECONDS, body=sent)
    if told is not None:
        return SideEffects(parked=told["parked"])
    try:
        return SideEffects.model_validate_json(body)
    except ValidationError:
        raise Failed("its side effects answered what can't be read", hint='it has to say {"parked": …}') from None
