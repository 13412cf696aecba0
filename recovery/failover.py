"""Plans that change roles: a runbook, a catalog and what is seen become a plan, or nothing to do. Pure.

Separate from binding (names) and from admission (may it run): here is what is pinned. The plan holds what will be done
and the limits within which it may be done; what is seen now, like a lag, is left to the hazards beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from math import ceil

from pydantic import JsonValue

from recovery.binding import Ends, bind, data_dirs, ends, groups, live_ids, moved_by, resources
from recovery.breach import breaches
from recovery.catalog import Catalog
from recovery.errors import BadInput, Refused, Unproven
from recovery.forecast import Forecast, forecast
from recovery.hazard import Hazard
from recovery.hazards import hazards, loss_seconds
from recovery.objective import duration
from recovery.observation import Observation
from recovery.plan import NothingToDo, Plan
from recovery.rules import RULES
from recovery.runbook import Runbook
from recovery.step import Step
from recovery.value import Instant, Value, in_utc, rfc3339

SLACK_MINUTES = 15
"""What a proposed limit of loss leaves for people to agree and act, while a silent primary's figure grows."""


class Asked(Value):
    """What a person asked for. `max_loss` (a duration, like `30 s`) is the limit of loss; default: the objective's RPO.
    `target` (a restore's moment): an instant, or how long ago."""

    service: str
    to: str | None = None
    asked_at: Instant
    max_loss: str | None = None
    target: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Proposal:
    """A plan with all that a person should see before consenting to it."""

    plan: Plan
    hazards: tuple[Hazard, ...]
    groups: tuple[tuple[str, ...], ...]
    live: frozenset[str]
    forecast: Forecast
    seen: Observation | None = None
    unwell: Mapping[str, float] = field(default_factory=dict)
    """Probe of the site that takes over → seconds for which it has failed: no user is sent there before it passes."""

    def document(self) -> dict[str, JsonValue]:
        """As `dr plan --json` shows it."""
        return {
            "digest": self.plan.digest,
            "epoch": self.plan.epoch,
            "steps": [
                {**step.model_dump(mode="json"), "changes": "live" if step.id in self.live else "nothing live"}
                for step in self.plan.steps
            ],
            "groups": [list(group) for group in self.groups],
            "hazards": [{**hazard.model_dump(mode="json"), "words": hazard.words} for hazard in self.hazards],
            "unwell": [self._told(name, seconds) for name, seconds in self.unwell.items()],
            "forecast": {**self.forecast.model_dump(mode="json"), "words": self.forecast.words},
        }

    def _told(self, probe: str, seconds: float) -> dict[str, JsonValue]:
        site = self.plan.pinned["to"]
        words = f"{probe} fails at {site}, for {seconds:.0f} s: no user is sent there before it passes"
        return {"probe": probe, "site": site, "failing_seconds": seconds, "words": words}


def propose(
    asked: Asked,
    runbook: Runbook,
    catalog: Catalog,
    seen: Observation,
    *,
    past: Sequence[Mapping[str, float]] = (),
) -> Proposal | NothingToDo:
    """A plan with its hazards and forecast. Raises Refused when a rule forbids it or the loss is above the limit."""
    plan = make(asked, runbook, catalog, seen)
    if isinstance(plan, NothingToDo):
        return plan
    by = ends(catalog, runbook, service=plan.service, to=str(plan.pinned["to"]))
    found = hazards(plan, seen, rpo_seconds=rpo_seconds(catalog))
    refuse_beyond_limits(plan, found)
    served = [step.id for step in plan.steps if step.verb == "converge"]
    return Proposal(
        plan=plan,
        seen=seen,
        hazards=found,
        groups=groups(plan.steps),
        live=live_ids(runbook, catalog, by),
        forecast=forecast(plan.steps, past, until=served[-1] if served else None, mode=plan.mode),
        unwell=_unwell(plan, catalog, seen),
    )


def _unwell(plan: Plan, catalog: Catalog, seen: Observation) -> dict[str, float]:
    """The failing probes of the site to which a live plan sends users. No hazard: many a platform answers only once its
    database is the primary, and rule 3 keeps users away meanwhile; yet people should know before they promote."""
    there = (name for name, probe in catalog.services[plan.service].probes.items() if probe.site == plan.pinned["to"])
    failing = seen.failing() if plan.live else {}
    return {name: failing[name] for name in there if name in failing}


def make(asked: Asked, runbook: Runbook, catalog: Catalog, seen: Observation) -> Plan | NothingToDo:
    """The plan of a runbook (nested ones opened) in the epoch that is seen. It depends on what is seen only through
    what it pins: the roles of the sites, system and timeline. Raises BadInput, Refused (a rule), Unproven."""
    broken = breaches(runbook, moved_by(catalog), data_dirs(catalog))
    if broken:
        first = broken[0]
        raise Refused(f"{runbook.name} is refused by {first.words}", hint=first.hint)
    by = ends(catalog, runbook, service=asked.service, to=asked.to)
    changes_roles = any(step.verb == "promote" and step.live for step in runbook.steps)
    if changes_roles:
        if seen.primary == by.target:
            _refuse_hearsay(catalog, seen, by)
            return NothingToDo(why=f"{by.target} is the primary of {by.service} already")
        by = Ends(service=by.service, source=seen.primary, target=by.target)
    limit = max_loss_seconds(asked, catalog, by.service)
    pinned: dict[str, JsonValue] = {
        "from": by.source,
        "to": by.target,
        "live": runbook.live,
        "roles": {name: "primary" if name == seen.primary else site.role for name, site in catalog.sites.items()},
        "choose": "most-advanced",
        "limits": {"data_loss_seconds": limit},
    }
    if changes_roles:
        pinned["databases"] = _databases(catalog, by, seen, rebuilt=_rebuilds(runbook))
    extra: dict[str, JsonValue] = {}
    if any(step.verb == "restore" for step in runbook.steps):
        pinned["target"] = extra["restore.target"] = _target(asked, runbook)
    steps = bind(runbook, catalog, by, extra)
    if changes_roles:
        _refuse_half(steps, catalog, by)
    return Plan(
        purpose=runbook.name,
        runbook=runbook.name,
        runbook_version=runbook.version,
        service=by.service,
        epoch=seen.epoch,
        asked_at=asked.asked_at,
        arguments={"to": by.target, "max_loss": asked.max_loss, "target": asked.target},
        pinned=pinned,
        mode=runbook.mode,
        steps=steps,
    )


def _refuse_hearsay(catalog: Catalog, seen: Observation, by: Ends) -> None:
    """A change of roles is in the ledger's home, or in a mirror while that was silent. Where both kinds are silent and
    no server says that it is the primary there, the copies that are left may not know of it. Raises Unproven."""
    silent = [each for each in catalog.ledger.mirrors if each not in seen.ledger.mirrors]
    said = [each.role for members in seen.members.values() for each in members if each.site == by.target]
    if seen.ledger.home == "answers" or not silent or "primary" in said:
        return
    raise Unproven(
        f"{by.target} is the primary of {by.service} by the copies of the ledger that answer; its home and"
        f" {', '.join(silent)} are silent, and no server there says so: a newer change of roles may stand there alone",
        hint="see the servers with 'dr status'; plan again once the ledger's home or every mirror answers",
    )


def _refuse_half(steps: Sequence[Step], catalog: Catalog, by: Ends) -> None:
    """Rule 2 on the bound plan: where a name is moved, every database of the service is promoted, not only one."""
    promoted = {step.resource for step in steps if step.verb == "promote"}
    left = [name for name in resources(catalog, by.service, "database") if name not in promoted]
    if left and any(step.verb == "redirect" for step in steps):
        raise Refused(
            f"{RULES[2].cited}: users would be sent to {by.target}, where {', '.join(left)} is not promoted",
            hint="let the runbook promote `database`, which stands for all databases of the service",
        )


def asked_of(plan: Plan) -> Asked:
    """What was asked for, from a stored plan: derived again, it must give the same digest."""
    said = {name: value for name, value in plan.arguments.items() if value is not None}
    return Asked(
        service=plan.service,
        asked_at=plan.asked_at,
        to=str(said["to"]),
        max_loss=str(said["max_loss"]) if "max_loss" in said else None,
        target=str(said["target"]) if "target" in said else None,
    )


def rpo_seconds(catalog: Catalog) -> dict[str, float]:
    """Each database's promised RPO."""
    return {
        name: catalog.objectives[resource.objective].rpo.total_seconds() for name, resource in catalog.resources.items()
    }


def max_loss_seconds(asked: Asked, catalog: Catalog, service: str) -> float:
    """The limit of loss: what was asked for, or the tightest objective among the service's databases."""
    if asked.max_loss is not None:
        try:
            return duration(asked.max_loss).total_seconds()
        except ValueError as error:
            raise BadInput(f"the limit of loss: {error}", hint="write it like '30 s' or '20 min'") from None
    promised = rpo_seconds(catalog)
    return min((promised[name] for name in resources(catalog, service, "database")), default=0.0)


def refuse_beyond_limits(plan: Plan, found: tuple[Hazard, ...]) -> None:
    """Raises Refused when more would be lost than the plan allows. An unknown loss has no figure to compare: it is a
    hazard of a class of its own, which people accept or not."""
    limits = plan.pinned.get("limits")
    limit = limits.get("data_loss_seconds") if isinstance(limits, dict) else None
    loss = loss_seconds(found)
    if isinstance(limit, int | float) and loss is not None and loss > limit:
        enough = f"{ceil(loss / 60) + SLACK_MINUTES} min"
        raise Refused(
            f"up to {loss:g} s of commits may be lost, above the plan's limit of {limit:g} s",
            hint=f"allow more, and have that plan approved: dr plan {plan.runbook} --to {plan.pinned['to']} --max-loss"
            f" '{enough}' (the figure grows while the primary is silent: this leaves {SLACK_MINUTES} minutes to act)",
        )


def lease_of(plan: Plan) -> str:
    """The lease that a run of the plan takes: a drill has its own, so that it never stands in a failover's way."""
    return plan.service if plan.live else f"{plan.service}-{plan.purpose}"


def _rebuilds(runbook: Runbook) -> bool:
    """Whether the runbook itself makes the standby that it promotes."""
    return any(step.verb == "sync" and step.arguments.get("site") == "to" for step in runbook.steps)


def _databases(catalog: Catalog, by: Ends, seen: Observation, *, rebuilt: bool) -> dict[str, JsonValue]:
    """What is pinned of each database. Where the standby is `rebuilt` first, it will be of its primary's line. Raises
    Unproven where the site that takes over has no standby, or the primary that it is rebuilt from, to be seen."""
    found: dict[str, JsonValue] = {}
    for name in resources(catalog, by.service, "database"):
        primaries = [each for each in seen.members.get(name, ()) if each.site == by.source and each.role == "primary"]
        best = next(iter(primaries), None) if rebuilt else seen.best(name, by.target)
        if best is None and rebuilt:
            raise Unproven(
                f"the primary of {name} at {by.source}, which the standby is rebuilt from, is not seen",
                hint="see 'dr status': a failback needs both sites",
            )
        if best is None:
            raise Unproven(
                f"no standby of {name} is seen at {by.target}",
                hint=f"nothing there can be promoted: see 'dr status', or restore {name} at {by.target}",
            )
        candidates: list[JsonValue] = [by.target]
        found[name] = {"system_id": best.system_id, "timeline": best.timeline, "candidates": candidates}
    return found


def _target(asked: Asked, runbook: Runbook) -> str:
    """The restore's moment, absolute: relative ones are resolved here, once (PLAN.md). `latest` stays that."""
    written = next((step.arguments.get("target") for step in runbook.steps if step.verb == "restore"), None)
    text = asked.target or str(written or "latest")
    if text == "latest":
        return text
    if text.endswith(" ago"):
        try:
            return rfc3339(asked.asked_at - duration(text.removesuffix(" ago")))
        except ValueError as error:
            raise BadInput(f"the target: {error}", hint="write it like '15 min ago'") from None
    try:
        moment = in_utc(datetime.fromisoformat(text))
    except ValueError:
        raise BadInput(f"{text!r} is no moment", hint="write 2026-11-24T03:00:00Z, '15 min ago' or latest") from None
    if moment > asked.asked_at:
        raise BadInput(f"{text} lies ahead", hint="name a moment before now")
    return rfc3339(moment)
