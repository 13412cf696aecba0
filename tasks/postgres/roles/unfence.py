"""The verb `unfence`: a site that was fenced may serve again, as a standby or as the primary that the term names.

Separate from the fence: it takes an order back and proves nothing. Whether the server may run is still its leash's
decision; this only ends the order that kept it stopped.
"""

from __future__ import annotations

from dataclasses import dataclass

from recovery.drive import Move, Seen, Truth
from recovery.step import Step
from tasks.kind import Facts, Scene
from tasks.postgres.reading import Deadline
from tasks.postgres.roles import servers
from tasks.postgres.roles.ordering import ByAgent
from tasks.stage import Stage


@dataclass(frozen=True, kw_only=True, slots=True)
class Unfence:
    """See the module."""

    stage: Stage

    def observe(self, step: Step, scene: Scene) -> Seen:
        """See Verb.observe: every server of the site answers."""
        site = str(scene.arguments(step).get("site", self.stage.source))
        said = servers.ask_all(self.stage.members(step.resource, site))
        silent = [name for name, each in said.items() if isinstance(each, servers.Silent)]
        if silent:
            return Seen(truth=Truth.ABSENT, why=f"{', '.join(silent)} does not answer")
        return Seen(truth=Truth.HOLDS)

    def perform(self, move: Move, scene: Scene) -> Facts:
        """See Verb.perform."""
        site = str(scene.arguments(move.step).get("site", self.stage.source))
        deadline = Deadline(move.step.patience_seconds)
        send = ByAgent(stage=self.stage, site=site)
        started: Facts = {}
        for name, member in self.stage.members(move.step.resource, site):
            patience = {"patience_seconds": deadline.left_seconds}
            started[name] = send(member, "start", move, scene, patience, deadline)
        return {"site": site, "started": started}
