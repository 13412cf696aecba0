"""What the vantage points of a service say of its sites: agents, points at third places and this machine, all at once.

Separate from counting their votes (recovery/quorum.py). Nothing here raises for silence: silence is an answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Literal

import urllib3
from pydantic import BaseModel, ConfigDict, ValidationError

from recovery.catalog import Service
from recovery.observation import ProbeSeen
from recovery.quorum import Joined, Point, Vote, joined, needed, points
from recovery.value import Instant
from tasks.home import Home
from tasks.probing import Answer, Question, ask_all, at_once

PATIENCE_SECONDS = 2.0
HURRY_SECONDS = 0.5
_POINT_SECONDS = 1.5
_SILENT = Vote(outcome="silent", why="it had not answered when the votes were counted")
_MOST_BYTES = 1024 * 1024
_STALE_SECONDS = 3.0
"""An answer that is this much older than the point's own interval and patience is no answer of now."""


class _Told(BaseModel):
    """One probe as a point tells of it (tasks/prober.py). More keys may come in later versions."""

    model_config = ConfigDict(extra="ignore")
    outcome: Literal["passed", "failed", "unproven"]
    why: str = ""
    age_seconds: float | None = None
    failing_since: Instant | None = None
    failing_seconds: float = 0.0


class _Answer(BaseModel):
    model_config = ConfigDict(extra="ignore")
    every_seconds: float = 0.5
    patience_seconds: float = 1.0
    probes: dict[str, _Told]


def probes(home: Home, service: str) -> dict[str, ProbeSeen]:
    """Each probe of the service, by the quorum of its vantage points. Takes two seconds at the longest."""
    return {name: found.seen for name, found in voted(home, service).items()}


def voted(
    home: Home,
    service: str,
    *,
    site: str | None = None,
    quorum: int | None = None,
    hurry_seconds: float = HURRY_SECONDS,
) -> dict[str, Joined]:
    """Each probe (of `site`, or all) with every point's vote. `quorum` overrides the catalog's. After `hurry_seconds` a
    point that hangs is not waited for any more where a quorum sees a failure, or it could not change what the rest say.
    """
    here = home.catalog.services[service]
    if site is not None:
        here = here.but(probes={name: probe for name, probe in here.probes.items() if probe.site == site})
    there = points(home.catalog, here)

    def counted(said: Mapping[str, Mapping[str, Vote]], missing: Vote) -> dict[str, Joined]:
        found: dict[str, Joined] = {}
        for probe, asked in here.probes.items():
            votes = {name: said.get(name, {}).get(probe, missing) for name in there}
            found[probe] = joined(votes, needed(there, asked.site, quorum if quorum is not None else here.quorum))
        return found

    def enough(said: Mapping[str, Mapping[str, Vote]], seconds: float) -> bool:
        missing = len(there) - len(said)
        found = counted(said, _SILENT).values()
        return seconds >= hurry_seconds and all(each.outcome == "failed" or each.decided(missing) for each in found)

    said = at_once({name: partial(_voice, point, here) for name, point in there.items()}, PATIENCE_SECONDS, enough)
    return counted(said, _SILENT)


def _voice(point: Point, service: Service) -> dict[str, Vote]:
    """What one point says of each probe."""
    if point.url is None:
        questions = {name: Question(url=probe.url, expect=probe.expect) for name, probe in service.probes.items()}
        return {name: _own(answer) for name, answer in ask_all(questions).items()}
    try:
        answer = _fetched(f"{point.url.rstrip('/')}/probes")
    except (urllib3.exceptions.HTTPError, ValidationError, ValueError) as trouble:
        why = " ".join(str(trouble).split())[:160]
        return dict.fromkeys(service.probes, Vote(outcome="silent", why=f"{type(trouble).__name__}: {why}"))
    return {name: _of_point(answer, answer.probes.get(name)) for name in service.probes}


def _fetched(url: str) -> _Answer:
    answer = urllib3.request(
        "GET", url, timeout=urllib3.Timeout(total=_POINT_SECONDS), retries=False, preload_content=False
    )
    try:
        body = answer.read(_MOST_BYTES)
    finally:
        answer.close()
    if answer.status != 200:
        raise ValueError(f"it answered {answer.status}")
    return _Answer.model_validate_json(body)


def _own(answer: Answer) -> Vote:
    """This machine has just asked for the first time: it knows of no moment before."""
    return Vote(outcome=answer.outcome, why=answer.why)


def _of_point(answer: _Answer, told: _Told | None) -> Vote:
    if told is None:
        return Vote(outcome="silent", why="it does not ask this probe")
    if told.age_seconds is None:
        return Vote(outcome="unproven", why=told.why or "it has not asked yet")
    if told.age_seconds > answer.every_seconds + answer.patience_seconds + _STALE_SECONDS:
        return Vote(outcome="unproven", why=f"it asked {told.age_seconds:.0f} s ago and not since")
    return Vote(
        outcome=told.outcome,
        why=told.why,
        failing_seconds=max(0.0, told.failing_seconds) if told.outcome == "failed" else 0.0,
        failing_since=told.failing_since if told.outcome == "failed" else None,
    )


def words(found: Mapping[str, Joined]) -> str:
    """For people: what the points say of each probe."""
    return "; ".join(f"{name}: {each.words}" for name, each in found.items())
