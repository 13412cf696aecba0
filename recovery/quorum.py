"""Whether a site fails, from what several vantage points say: who may vote, how many must agree, and since when. Pure.

Separate from asking them (tasks/service/look.py) and from consent (approval.py): a network that is broken at one place
must not look like a disaster, and a point that could not ask must not look like a point that saw a failure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field

from recovery.catalog import Catalog, Service
from recovery.observation import ProbeSeen
from recovery.step import Name
from recovery.value import Instant, Value

MACHINE = "machine"
"""The machine that the engine runs on is a vantage point too."""


class Point(Value):
    """A vantage point: where it stands (None: at none of the sites) and where it is asked (None: this machine)."""

    site: Name | None = None
    url: str | None = None


class Vote(Value):
    """What one point says of one probe. `silent`: it could not be asked; `unproven`: it could not ask the site. Neither
    is a vote. `failing_seconds`: for how long each of its answers was a failure, by its own monotonic clock.
    `failing_since`: the instant of the last answer that passed before, by its wall clock; None: it knows of none."""

    outcome: Literal["passed", "failed", "unproven", "silent"]
    failing_seconds: Annotated[float, Field(ge=0)] = 0.0
    failing_since: Instant | None = None
    why: str = ""


class Joined(Value):
    """What the points say together of one probe, with each one's vote."""

    outcome: Literal["passed", "failed", "unproven"]
    needed: int
    fails: int
    passes: int
    failing_seconds: Annotated[float, Field(ge=0)] = 0.0
    failing_since: Instant | None = None
    votes: dict[str, Vote] = {}

    @property
    def seen(self) -> ProbeSeen:
        """As observations have it."""
        return ProbeSeen(outcome=self.outcome, failing_seconds=self.failing_seconds, failing_since=self.failing_since)

    def decided(self, missing: int) -> bool:
        """Whether `missing` more votes, whatever they say, would leave it as it is."""
        return self.outcome != "unproven" and abs(self.fails - self.passes) > missing

    @property
    def words(self) -> str:
        """For people: `3 of 4 vantage points say failed (2 needed); no answer: east`."""
        said = [f"{self.fails} of {len(self.votes)} vantage points say failed ({self.needed} needed)"]
        for word, outcome in (("passed", "passed"), ("cannot ask", "unproven"), ("no answer", "silent")):
            names = sorted(name for name, vote in self.votes.items() if vote.outcome == outcome)
            if names:
                said.append(f"{word}: {', '.join(names)}")
        return "; ".join(said)


def agents(catalog: Catalog, service: Service) -> dict[str, Point]:
    """An agent of each site that has one, by the site's name."""
    found: dict[str, Point] = {}
    for name in service.resources:
        resource = catalog.resources.get(name)
        for named, member in resource.members.items() if resource is not None else ():
            if member.agent is not None:
                site = member.site or named
                found.setdefault(site, Point(site=site, url=member.agent))
    return found


def points(catalog: Catalog, service: Service) -> dict[str, Point]:
    """All vantage points of a service by name: the agents, the named ones (one with a site's name stands there), and
    this machine."""
    named = {
        name: Point(site=name if name in catalog.sites else None, url=url) for name, url in service.vantage.items()
    }
    return {**named, **agents(catalog, service), MACHINE: Point()}


def needed(there: Mapping[str, Point], site: str, asked: int | None = None) -> int:
    """How many must agree that `site` fails: as many as are asked for, else most of those that don't stand there. Who
    stands there may be lost with the site; its word counts when it can be had."""
    if asked is not None:
        return asked
    outside = sum(1 for point in there.values() if point.site != site)
    return outside // 2 + 1


def joined(votes: Mapping[str, Vote], need: int) -> Joined:
    """`failed`: at least `need` points say so, and more than say the contrary. `passed`: more say so than deny it; an
    answer that was right is a fact, from wherever it was seen. Else `unproven`.

    The failing time is the longest that `need` points all know of. The outage's beginning is the earliest instant since
    when `need` points have seen no pass; where fewer remember one, the latest that is remembered."""
    failing = [vote for vote in votes.values() if vote.outcome == "failed"]
    passes = sum(1 for vote in votes.values() if vote.outcome == "passed")
    base = Joined(outcome="unproven", needed=need, fails=len(failing), passes=passes, votes=dict(votes))
    if len(failing) >= need and len(failing) > passes:
        lasting = sorted((vote.failing_seconds for vote in failing), reverse=True)
        since = sorted(vote.failing_since for vote in failing if vote.failing_since is not None)
        begin = since[min(need, len(since)) - 1] if since else None
        return base.but(outcome="failed", failing_seconds=lasting[need - 1], failing_since=begin)
    return base.but(outcome="passed") if passes > len(failing) else base


def failed(probes: Mapping[str, Joined], names: Iterable[str]) -> Sequence[str]:
    """Of those probes, the ones that fail by the quorum."""
    return [name for name in names if name in probes and probes[name].outcome == "failed"]
