"""The verbs that say how the sites are, and that people agree: probe, declare, approve.

Separate because they come before anything is changed: what they find is what everything after rests on.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import JsonValue

from recovery.drive import Move, Seen, Truth
from recovery.errors import BadInput, Failed, Refused, Unproven
from recovery.quorum import Joined, failed
from recovery.step import Step
from recovery.value import rfc3339
from tasks.kind import Facts, Scene
from tasks.probing import Answer
from tasks.service import look, probing
from tasks.service.said import NOT_CONFIGURED, absent, done, holds, settled, site_of, twice
from tasks.stage import Stage

MOST_SECONDS = 20.0
QUORUM_SECONDS = 5.0
"""How long a probe, and a quorum, may take to settle in one attempt."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Probe:
    """All probes of a site pass."""

    stage: Stage

    def observe(self, step: Step, scene: Scene) -> Seen:
        """Asks them."""
        if done(step, scene) is None:
            return absent("the site was not probed yet")
        site = site_of(step, scene, self.stage)
        return twice(lambda: probing.judged(probing.asked(self.stage.service, site)))

    def perform(self, move: Move, scene: Scene) -> Facts:
        """Asks until they pass. Raises Failed with those that don't, Unproven where they can't be asked."""
        site = site_of(move.step, scene, self.stage)
        last: dict[str, Answer] = {}

        def asked() -> tuple[Truth, str]:
            last.update(probing.asked(self.stage.service, site))
            return probing.judged(last)

        truth, why = settled(asked, move.step, MOST_SECONDS)
        if not last:
            return {**NOT_CONFIGURED, "site": site, "why": probing.NONE}
        if truth is Truth.ABSENT:
            raise Failed(f"{site} fails its probes; {why}", hint=f"mend {site} first; nothing was changed")
        if truth is Truth.UNKNOWN:
            raise Unproven(f"{site} cannot be probed from here; {why}", hint="see this machine's network and resolver")
        return {"site": site, "probes": probing.told(last)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Declare:
    """A quorum of vantage points says that the site that is left fails. In a run that changes nothing live (a drill) it
    only looks, and writes down what both sites say."""

    stage: Stage

    def observe(self, step: Step, scene: Scene) -> Seen:
        """Asks every point once: a disaster that has passed must not be acted upon."""
        first = done(step, scene) is None
        if not self.stage.live:
            return absent("the sites were not looked at yet") if first else holds("a drill: both sites were looked at")
        if not self._probed():
            return absent("nobody can be asked")
        truth, why = self._judged(self._votes(step, scene, hurry_seconds=0.0))
        if first and truth is Truth.HOLDS:
            return absent(f"it is not written down yet; {why}")
        return Seen(truth=truth, why=why)

    def perform(self, move: Move, scene: Scene) -> Facts:
        """Asks until a quorum agrees. Facts: `votes` by probe and point, `failing`, `failing_since` (the outage's
        beginning by the last pass that was seen; null when nobody saw one), `failed_by` (by the first question that
        failed), `failing_seconds`, `needed`."""
        source = self.stage.source
        if not self.stage.live:
            found = look.voted(self.stage.home, self.stage.plan.service)
            return {"drill": True, "votes": _votes(found), "asked_at": rfc3339(scene.now())}
        if not self._probed():
            hint = "add probes of it to the catalog; a person who knows may skip the step, signed, with 'dr run skip'"
            raise Unproven(f"nothing can say that {source} fails: the catalog has no probe of it", hint=hint)
        last: dict[str, Joined] = {}

        def asked() -> tuple[Truth, str]:
            last.update(self._votes(move.step, scene))
            scene.say(look.words(last), None)
            return self._judged(last)

        truth, why = settled(asked, move.step, QUORUM_SECONDS)
        if truth is Truth.ABSENT:
            hint = "a site that serves is left by a switchover; nothing was changed"
            raise Failed(f"{source} does not fail by the quorum; {why}", hint=hint)
        if truth is Truth.UNKNOWN:
            hint = "see why the points that are silent can't be asked; one that can't be asked is no vote"
            raise Unproven(f"no quorum says that {source} fails; {why}", hint=hint)
        now = scene.now()
        return {**_outage(last, now), "site": source, "asked_at": rfc3339(now)}

    def _probed(self) -> bool:
        return any(probe.site == self.stage.source for probe in self.stage.service.probes.values())

    def _votes(self, step: Step, scene: Scene, hurry_seconds: float = look.HURRY_SECONDS) -> dict[str, Joined]:
        """What the points say of the source's probes."""
        quorum = scene.arguments(step).get("quorum")
        if quorum is not None and (not isinstance(quorum, int) or isinstance(quorum, bool) or quorum < 1):
            raise BadInput(f"the quorum is {quorum!r}", hint="write how many points must agree, or leave it away")
        home, service = self.stage.home, self.stage.plan.service
        return look.voted(home, service, site=self.stage.source, quorum=quorum, hurry_seconds=hurry_seconds)

    def _judged(self, votes: dict[str, Joined]) -> tuple[Truth, str]:
        why = look.words(votes)
        if failed(votes, votes):
            return Truth.HOLDS, why
        well = all(each.outcome == "passed" for each in votes.values())
        return (Truth.ABSENT if well else Truth.UNKNOWN), why


def _votes(found: dict[str, Joined]) -> dict[str, JsonValue]:
    return {
        probe: {name: vote.model_dump(mode="json", exclude_defaults=True) for name, vote in each.votes.items()}
        for probe, each in found.items()
    }


def _outage(found: dict[str, Joined], now: datetime) -> Facts:
    """The outage by its probes: it began with the first of those that fail by the quorum, between the last pass that
    was seen and the first question that failed."""
    failing = failed(found, found)
    lasting = max((found[name].failing_seconds for name in failing), default=0.0)
    since = [begin for name in failing if (begin := found[name].failing_since) is not None]
    return {
        "votes": _votes(found),
        "failing": list(failing),
        "failing_since": rfc3339(min(since)) if since else None,
        "failed_by": rfc3339(now - timedelta(seconds=lasting)),
        "failing_seconds": lasting,
        "needed": max((found[name].needed for name in failing), default=0),
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class Approve:
    """The run has the consent that its admission asked for: who consented, and to which hazards, is in its records.
    What a switch to ungraceful needs beyond that is asked where it is ordered."""

    stage: Stage

    def observe(self, step: Step, scene: Scene) -> Seen:
        """Reads the run's consent."""
        if done(step, scene) is None:
            return absent("the consent was not read yet")
        by = self.stage.consented().by
        return holds(f"by {', '.join(by)}") if by else absent("nobody consented to this run")

    def perform(self, move: Move, scene: Scene) -> Facts:  # noqa: ARG002 -- the verb's shape
        """Facts: `by`, `accepted`, `standing`. Raises Refused when nobody consented."""
        given = self.stage.consented()
        if not given.by:
            digest = self.stage.plan.digest
            hint = f"approve it with 'dr approve {digest} --as NAME'"
            raise Refused("nobody consented to this run", hint=hint)
        accepted: list[JsonValue] = [each.model_dump(mode="json") for each in given.accepted]
        return {"by": list(given.by), "accepted": accepted, "standing": given.standing}
