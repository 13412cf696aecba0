"""An order of a verb to the agent at a member's home, and what its silence means here: nothing was proved, try again.

Separate so that every verb of roles orders by the same words: the attempt's name, the run's term, and the rest of its
patience.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import JsonValue

from recovery.catalog import Member
from recovery.drive import Move
from recovery.errors import BadInput, Failed
from tasks.kind import Facts, Scene
from tasks.postgres.order_client import Agent, Done, Silent
from tasks.postgres.reading import Deadline
from tasks.stage import Stage


class Send(Protocol):
    """Order something of the agent that serves a member; gives its facts."""

    def __call__(
        self,
        member: Member,
        what: str,
        move: Move,
        scene: Scene,
        arguments: Mapping[str, JsonValue],
        deadline: Deadline,
    ) -> Facts:
        """Raises Failed when it is silent or failed, Refused or BadInput as the agent does."""
        ...  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class ByAgent:
    """The one that is meant: by HTTP, signed. An order that no agent has taken is not sent again once its step is not
    wanted any more; one that was taken is waited for, since what it does would go on."""

    stage: Stage
    site: str

    def __call__(
        self, member: Member, what: str, move: Move, scene: Scene, arguments: Mapping[str, JsonValue],
        deadline: Deadline,
    ) -> Facts:  # fmt: skip
        """See Send."""
        said = self._agent(member, scene).order(
            f"{scene.name(move.step, move.attempt)}-{what}",
            what,
            resource=move.step.resource,
            site=self.site,
            generation=self.stage.term,
            run=scene.plan.run,
            arguments=arguments,
            patience_seconds=deadline.left_seconds,
            say=scene.say,
            until=lambda: not scene.wanted(),
            to_the_end=True,
        )
        match said:
            case Done(facts=facts):
                return facts
            case Silent(why=why):
                raise Failed(
                    f"the order `{what}` has no answer: {why}",
                    hint=f"see whether the agent at {self.site} runs ('dr agent run'); the step orders again",
                )

    def status(self, member: Member, scene: Scene, *, patience_seconds: float) -> Mapping[str, Any] | None:
        """What the agent says of itself, or None when it is silent."""
        said = self._agent(member, scene).get("/status", patience_seconds=patience_seconds)
        return None if isinstance(said, Silent) or not isinstance(said, dict) else said

    def _agent(self, member: Member, scene: Scene) -> Agent:
        if member.agent is None:
            raise BadInput(
                f"no agent serves the server at {self.site}",
                hint="name its URL in the catalog: members: {…: {agent: …}}",
            )
        return Agent(url=member.agent, sign=self.stage.sign, now=scene.now, under=self.stage.under)
