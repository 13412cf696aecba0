"""The verb `run`: a command on a site's machine. An argument list, never a shell's line; what it says is bounded.

Separate because it is the one door through which a runbook does what no verb knows. It is done once per run: its end is
on record, and a mark beside this home closes the gap between the end and the record, on this machine.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from recovery.drive import Move, Seen
from recovery.errors import BadInput, Failed
from recovery.step import Step
from recovery.value import canonical
from tasks.host import host_of
from tasks.kind import Facts, Scene
from tasks.service.said import absent, done, holds, site_of
from tasks.stage import Stage

MOST_CHARACTERS = 4000
_SECRET = re.compile(
    r"((?:password|passwd|secret|token|api[_-]?key|access[_-]?key)[\"']?\s*[=:]\s*)(\"[^\"]*\"|'[^']*'|\S+)"
    r"|(://[^/\s:@]*:)[^@\s/]+(?=@)|\b(?:AKIA|ASIA)[A-Z0-9]{12,}",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """The command has ended with 0 in this run."""

    stage: Stage

    def observe(self, step: Step, scene: Scene) -> Seen:
        """Reads the record, and the mark."""
        if done(step, scene) is not None:
            return holds("it ran")
        return absent("it did not run yet")

    def perform(self, move: Move, scene: Scene) -> Facts:
        """Facts: `code`, `out`, `err` (their ends, without what looks like a secret). Raises Failed for any code but 0,
        BadInput for a command that is no list of words."""
        argv = scene.arguments(move.step).get("command")
        if not isinstance(argv, list) or not argv or not all(isinstance(word, str) for word in argv):
            raise BadInput(
                "the command is no list of words", hint="write command: [PROGRAM, ARGUMENT, …]; no shell is used"
            )
        mark = self._mark(move.step)
        if mark.exists():
            found: Facts = json.loads(mark.read_text())
            return found
        words = [str(word) for word in argv]
        site = site_of(move.step, scene, self.stage)
        ran = host_of(self._machine(move.step, site)).run(words, patience_seconds=move.step.patience_seconds)
        facts: Facts = {"site": site, "code": ran.code, "out": shown(ran.out), "err": shown(ran.err)}
        if ran.code:
            last = (shown(ran.err) or shown(ran.out)).strip().splitlines()[-1:] or ["it said nothing"]
            raise Failed(f"{Path(words[0]).name} ended with {ran.code}: {last[0]}", hint="mend that, then try again")
        mark.parent.mkdir(parents=True, exist_ok=True)
        fresh = mark.with_suffix(".new")
        fresh.write_bytes(canonical(facts))
        fresh.replace(mark)
        return facts

    def _mark(self, step: Step) -> Path:
        """One for each plan and step: a plan has only one run."""
        return self.stage.home.folder / "commands" / f"{self.stage.plan.digest[:16]}-{step.id}.json"

    def _machine(self, step: Step, site: str) -> str:
        """The machine of the step's database, or of the service's first one, at the site."""
        named = [step.resource] if step.resource in self.stage.home.catalog.resources else self.stage.service.resources
        for name in named:
            for _, member in self.stage.members(name, site):
                return member.host
        raise BadInput(f"no machine is known at {site}", hint="name a database that has a member there")


def shown(text: str) -> str:
    """The end of what a program said, without what looks like a secret: also one that the cut would part from its
    name."""
    return _SECRET.sub(lambda found: f"{found[1] or found[3] or ''}***", text)[-MOST_CHARACTERS:]
