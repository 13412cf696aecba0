"""The verbs that need people: `person` waits until somebody says that it was done, `notify` tells them.

Separate because neither can be looked up in the world: the one is a signed word of a person, the other a message that
was handed over.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import JsonValue

from recovery.drive import Move, Seen, Truth
from recovery.errors import Failed
from recovery.step import Step
from tasks.channels import tell
from tasks.kind import Facts, Scene
from tasks.service.said import NOT_CONFIGURED, absent, done, holds
from tasks.stage import Stage


@dataclass(frozen=True, kw_only=True, slots=True)
class Person:
    """Somebody has confirmed, signed, that the step's manual part is done. It is asked for once per try; in between the
    step is underway, as long as its patience lasts."""

    stage: Stage

    def observe(self, step: Step, scene: Scene) -> Seen:
        """Reads the run's records."""
        if who := scene.confirmed.get(step.id):
            return holds(f"confirmed by {who}")
        if done(step, scene) is None:
            return absent("nobody was asked yet")
        return Seen(truth=Truth.UNDERWAY, why=f"a person has to do it and say so with {_how(step)}")

    def perform(self, move: Move, scene: Scene) -> Facts:
        """Asks. Facts: `asked` (what has to be done) and `confirm` (how to say that it is)."""
        asked = scene.arguments(move.step).get("ask") or move.step.manual or move.step.id
        scene.say(f"{asked} — then {_how(move.step)}", None)
        return {"asked": str(asked), "confirm": _how(move.step)}


def _how(step: Step) -> str:
    return f"'dr run confirm RUN {step.id}'"


@dataclass(frozen=True, kw_only=True, slots=True)
class Notify:
    """The message was handed to at least one channel of each run; without a channel that is written down and holds."""

    stage: Stage

    def observe(self, step: Step, scene: Scene) -> Seen:
        """Reads the run's records: a message that was sent can't be looked up."""
        said = done(step, scene)
        return absent("nobody was told yet") if said is None else holds(str(said.get("state", "told")))

    def perform(self, move: Move, scene: Scene) -> Facts:
        """Facts: `channels` (whom → told, failed or not configured), no URL. Raises Failed when nobody was told."""
        channels = self.stage.service.notify
        whom = scene.arguments(move.step).get("whom") or list(channels)
        wanted = [str(each) for each in (whom if isinstance(whom, list) else [whom])]
        title, text = self._message()
        told = tell(self.stage.home, channels, wanted, title=title, text=text)
        words: dict[str, JsonValue] = dict(told)
        failed = [name for name, became in told.items() if became == "failed"]
        if "told" in told.values():
            return {"channels": words}
        if not failed:
            why = "the service has no channel to tell people by: add `notify` to it in the catalog"
            return {**NOT_CONFIGURED, "channels": words, "why": why}
        hint = "see whether the channels' URLs are right and reachable from here; tell them yourself meanwhile"
        raise Failed(f"nobody could be told: {', '.join(failed)}", hint=hint)

    def _message(self) -> tuple[str, str]:
        plan, service = self.stage.plan, self.stage.plan.service
        title = f"{service}: {plan.purpose} from {self.stage.source} to {self.stage.target}"
        if not self.stage.live:
            title = f"Drill, nothing live was changed. {title}"
        return title, f"{title}. Plan {plan.digest[:8]}, owner {self.stage.service.owner}; 'dr runs' has its course."
