"""The hazards of a plan, computed from the plan and what is seen now: each with an id, a class and a figure. Pure.

Separate from hazard.py (what a hazard and its acceptance are): here is where dangers come from. What has a size says
it; what should have one and could not be measured is a class of its own, so that no accepted figure ever covers it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import ceil

from recovery.compute import hazards_of
from recovery.hazard import Hazard
from recovery.observation import DnsSeen, FenceSeen, Observation
from recovery.plan import Plan
from recovery.rules import UNFENCED
from recovery.step import OMITTED, Mode, Step
from recovery.verb import GLOBAL, MOVES, VERBS, ways

DEGRADED = "ledger-degraded"
UNFINISHED = "unfinished-run"
LONGEST_TTL_SECONDS = 60.0
"""Rule 6."""


def hazards(
    plan: Plan, seen: Observation, *, rpo_seconds: Mapping[str, float], mode: Mode | None = None
) -> tuple[Hazard, ...]:
    """All hazards of the plan in a variant (default: the planned one). `rpo_seconds`: each database's objective."""
    variant = mode or plan.mode
    found = [*_ledger(seen), *_unfinished(plan, seen)]
    for step in plan.steps:
        arguments = step.arguments_in(variant)
        if OMITTED in arguments or arguments.get("scratch") is True:
            continue
        match step.verb:
            case "promote":
                found += _loss(plan, step, seen, rpo_seconds, variant)
                found += _unfenced(step, arguments.get(UNFENCED))
            case "fence":
                found += _split_brain(
                    step, seen.fences.get(step.resource, FenceSeen()), ways(VERBS["fence"], arguments)
                )
            case "redirect":
                found += _doors(step, seen.dns.get(step.resource, DnsSeen()), ways(VERBS["redirect"], arguments))
            case "scale":
                found += hazards_of(arguments, seen, (str(plan.pinned.get("from")), str(plan.pinned.get("to"))))
            case _:
                pass
    return tuple(dict.fromkeys(found))


def _ledger(seen: Observation) -> Iterator[Hazard]:
    if seen.ledger.home == "silent":
        where = f"records go to {', '.join(seen.ledger.mirrors)}" if seen.ledger.mirrors else "no mirror answers either"
        yield Hazard(id=DEGRADED, klass=DEGRADED, text=f"the ledger's home does not answer; {where}")


def _unfinished(plan: Plan, seen: Observation) -> Iterator[Hazard]:
    """Another run has left the service half changed. People may have to begin a new one all the same, knowingly."""
    left = seen.unfinished
    if left is None or not plan.live:
        return
    named = left.run[:12]
    text = (
        f"run {named} ({left.runbook}) of {plan.service} is unfinished: go on with 'dr resume {named}', or end it with"
        f" 'dr run cancel {named} --as NAME' and then 'dr resume {named}'"
    )
    yield Hazard(id=UNFINISHED, klass=UNFINISHED, text=text)


def _loss(
    plan: Plan, step: Step, seen: Observation, rpo_seconds: Mapping[str, float], variant: Mode
) -> Iterator[Hazard]:
    """A graceful promotion waits for an equal LSN and loses nothing; an ungraceful one loses what is not there yet."""
    if variant is Mode.GRACEFUL:
        return
    resource = step.resource
    best = seen.best(resource, str(plan.pinned.get("to")))
    if best is None or best.behind_seconds is None:
        text = f"it is not known how many commits of {resource} would be lost"
        yield Hazard(id=f"data-loss-unknown-{resource}"[:63], klass="data-loss-unknown", text=text)
        return
    objective = rpo_seconds.get(resource)
    promised = "" if objective is None else f"; objective {objective:g} s"
    seconds = ceil(best.behind_seconds * 10) / 10  # for people, and never less than it is
    text = f"may lose up to {seconds:g} s of commits of {resource}{promised}{_growing(plan, resource, seen)}"
    yield Hazard(id=f"data-loss-{resource}"[:63], klass="data-loss", figure=seconds, unit="s", text=text)


def _growing(plan: Plan, resource: str, seen: Observation) -> str:
    """Where the primary is silent the figure is no measure of what is lost, and will be greater at the act."""
    source = str(plan.pinned.get("from"))
    there = [each for each in seen.members.get(resource, ()) if each.site == source]
    if any(each.role != "silent" for each in there):
        return ""
    return f"; {source} is silent: counted since the last commit known to have arrived, it grows with the outage"


def _unfenced(step: Step, why: object) -> Iterator[Hazard]:
    if why:
        text = f"{step.resource} is promoted without a fence ({why}): two primaries are possible"
        yield Hazard(id=f"split-brain-{step.resource}"[:63], klass="split-brain", text=text)


def _split_brain(step: Step, seen: FenceSeen, named: tuple[str, ...]) -> Iterator[Hazard]:
    if seen.provable(named):
        return
    text = (
        f"the old primary of {step.resource} cannot be reached, its fence cannot be proved: two primaries are possible"
    )
    yield Hazard(id=f"split-brain-{step.resource}"[:63], klass="split-brain", text=text)


def _doors(step: Step, seen: DnsSeen, named: tuple[str, ...]) -> Iterator[Hazard]:
    name, site = step.resource, str(step.arguments.get("site"))
    if seen.ttl_seconds is None:
        yield Hazard(id=f"dns-unseen-{name}"[:63], klass="dns-unseen", text=f"the zone of {name} could not be asked")
    elif seen.ttl_seconds > LONGEST_TTL_SECONDS:
        text = f"resolvers keep the old answer of {name} for up to {seen.ttl_seconds:g} s"
        yield Hazard(id=f"ttl-{name}"[:63], klass="ttl", figure=seen.ttl_seconds, unit="s", text=text)
    for check, state in sorted(seen.checks.items()):
        if state == "disabled":
            text = f"the health check {check} of {name} is disabled, which counts as healthy"
            yield Hazard(id=f"disabled-check-{check}"[:63], klass="disabled-health-check", text=text)
    if seen.sites is not None and site not in seen.sites:
        text = f"{name} has no record for {site}: users cannot be sent there"
        yield Hazard(id=f"no-record-{name}"[:63], klass="no-record", text=text)
    if named and all(MOVES[way].planes & GLOBAL for way in named):
        text = f"{name} is moved by editing records, which needs Route53's control plane in us-east-1"
        yield Hazard(id=f"control-plane-{name}"[:63], klass="control-plane", text=text)


def loss_seconds(found: tuple[Hazard, ...]) -> float | None:
    """The greatest loss among hazards, in seconds; None when one is unknown, 0 when nothing is lost."""
    if any(hazard.klass == "data-loss-unknown" for hazard in found):
        return None
    return max((hazard.figure or 0.0 for hazard in found if hazard.klass == "data-loss"), default=0.0)


def words(found: tuple[Hazard, ...]) -> str:
    """All hazards in one line."""
    return ", ".join(hazard.words for hazard in found) or "none"
