"""The verb `drain`: connections that were open before a name moved leave the old site; they don't follow a name.

Separate from the name's own moving. TRUTH.md knows three ways in which they have been moved, and the facts say by which
it is known: `drained` (the old site counts none), `terminated` (what they stood on was proved stopped: its databases
are fenced, and the site does not answer), `lifetime` (the pools' lifetime has passed). A silent site alone is none.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from recovery.drive import Move, Seen, Truth
from recovery.errors import BadInput, DrError, Failed, Refused, Unproven
from recovery.objective import duration
from recovery.rules import RULES
from recovery.step import Step
from tasks.kind import Facts, Scene
from tasks.platform_door import ask
from tasks.stage import Stage

PATIENCE_SECONDS = 1.0
TELL_AGAIN_SECONDS = 20.0
"""A site that drains does so for a while only; until no old connection is left it is told again."""
_PAUSE_SECONDS = 0.2
PROVED = frozenset({"agent", "cloud", "lease"})
"""The fences that are proofs; one that was only accepted as a danger is none."""


class Connections(BaseModel):
    """What a site says of its open connections; `old` are those from before. More keys may come."""

    model_config = ConfigDict(extra="ignore")
    open: int
    old: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Drain:
    """No connection of before the redirect is left at the old site."""

    stage: Stage

    def observe(self, step: Step, scene: Scene) -> Seen:
        """Reads the facts: what was open before the redirect and has gone cannot come back. Who connects to the old
        site later (its own monitoring, say) is nobody that this step is about, and would be counted with them."""
        if step.id not in scene.results:
            return Seen(truth=Truth.ABSENT, why="nobody was told to go yet")
        return Seen(truth=Truth.HOLDS, why=f"by {scene.results[step.id].get('by')}")

    def perform(self, move: Move, scene: Scene) -> Facts:
        """Facts: `by`, `proof` (by what it is known), `open`, `old`, `seconds`. Raises Failed while old connections
        stay, Unproven when it cannot be known."""
        self._live_only(move.step)
        begin = time.monotonic()
        url, source = self._url(), self.stage.source
        why = f"the catalog names no `drain` of {source}"
        if url is not None:
            try:
                return {**self._emptied(url, move.step, scene), "seconds": round(time.monotonic() - begin, 3)}
            except _Silent as silent:
                why = silent.fact
        return {**self._without(move.step, scene, why), "seconds": round(time.monotonic() - begin, 3)}

    def _url(self) -> str | None:
        return self.stage.service.drain.get(self.stage.source)

    def _live_only(self, step: Step) -> None:
        dns = self.stage.home.catalog.dns.get(step.resource)
        if not self.stage.live or (dns is not None and dns.use != "live"):
            raise Refused(
                f"{RULES[11].cited}: to drain {self.stage.source} would close connections of users",
                hint="leave `drain` out of a rehearsal",
            )

    def _emptied(self, url: str, step: Step, scene: Scene) -> Facts:
        """Tell the site, then ask it until none is left. Raises _Silent when it does not answer at all."""
        deadline = time.monotonic() + 0.9 * step.patience_seconds
        told = float("-inf")
        while True:
            try:
                if time.monotonic() - told > TELL_AGAIN_SECONDS:
                    scene.may_act()
                    asked("POST", url, "/drain")
                    told = time.monotonic()
                found = asked("GET", url, "/connections")
            except Failed as trouble:
                raise _Silent(trouble.fact, hint=trouble.hint) from None
            if not found.old:
                proof = f"{self.stage.source} says that no old connection is left"
                return {"by": "drained", "proof": proof, "open": found.open, "old": 0}
            if time.monotonic() + _PAUSE_SECONDS > deadline:
                raise Failed(
                    f"{found.old} old connections stay at {self.stage.source}",
                    hint="see who holds them there; end them, or wait for their pools' lifetime",
                )
            scene.say(f"{found.old} old connections at {self.stage.source}", None)
            time.sleep(_PAUSE_SECONDS)

    def _without(self, step: Step, scene: Scene, why: str) -> Facts:
        """The site can't be asked: by what else it is known."""
        fences = _fences(scene)
        if fences and all(by in PROVED for by in fences.values()):
            told = ", ".join(f"{name} by {by}" for name, by in fences.items())
            return {
                "by": "terminated",
                "proof": f"what they stood on is fenced ({told}): nothing there can serve or write; {why}",
                "old": "unproven",
            }
        lifetime = scene.arguments(step).get("patience")
        if lifetime is None:
            raise Unproven(
                f"whether old connections to {self.stage.source} are left is not known: {why}, and no fence is proved",
                hint="write their pools' lifetime as `patience`, or look yourself and skip the step",
            )
        return self._lifetime(lifetime, step, scene, why)

    def _lifetime(self, lifetime: JsonValue, step: Step, scene: Scene, why: str) -> Facts:
        try:
            life = duration(str(lifetime))
        except ValueError:
            raise BadInput(f"the patience {lifetime!r} is no duration", hint="write it like `10 min`") from None
        since = _moved_at(scene, step) or scene.now()
        left = (since + life - scene.now()).total_seconds()
        if left > 0.9 * step.patience_seconds:
            raise BadInput(
                f"pools live for {lifetime}, longer than the step's patience", hint="give the step more patience"
            )
        scene.say(f"waiting until the pools' lifetime of {lifetime} has passed", None)
        time.sleep(max(0.0, left))
        return {"by": "lifetime", "proof": f"{lifetime} have passed since the redirect; {why}", "old": "unproven"}


class _Silent(DrError):
    """The old site could not be asked."""


def asked(method: str, url: str, path: str) -> Connections:
    """Raises Failed when the site is silent or says what can't be read."""
    body = ask(method, url.rstrip("/") + path, what="its connections", patience_seconds=PATIENCE_SECONDS, keep=False)
    if method == "POST":
        return Connections(open=0, old=0)
    try:
        return Connections.model_validate_json(body)
    except ValidationError:
        raise Failed(
            "its connections answered what can't be read", hint='it has to say {"open": …, "old": …}'
        ) from None


def _fences(scene: Scene) -> dict[str, str]:
    """Database → by what its fence is proved, for all fences of the plan that this variant has."""
    return {
        step.resource: str(scene.results.get(step.id, {}).get("by", "nothing"))
        for step in scene.plan.steps
        if step.verb == "fence" and not step.omitted_in(scene.mode)
    }


def _moved_at(scene: Scene, step: Step) -> datetime | None:
    for each in scene.plan.order:
        at = scene.results.get(each.id, {}).get("at") if each.verb == "redirect" else None
        if each.resource == step.resource and isinstance(at, str):
            return datetime.fromisoformat(at)
    return None
