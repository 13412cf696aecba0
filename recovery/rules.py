"""The safety rules, numbered: what no runbook, plan or run may break. Pure; events and refusals cite the number.

Separate as a table so that it can be dumped, drawn and argued with. Rules of order are data (`ORDERS`): the diagram and
the check (breach.py) come from the same lines.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Literal

from recovery.errors import Refused
from recovery.step import Mode


class When(StrEnum):
    """What a rule judges."""

    RUNBOOK = "runbook"
    PLAN = "plan"
    RUN = "run"


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """One rule: `number` for ever, `name` for people, the law in one sentence, why it exists, and what it judges."""

    number: int
    name: str
    law: str
    why: str
    judges: tuple[When, ...]

    @property
    def cited(self) -> str:
        """As events and refusals name it."""
        return f"rule {self.number} ({self.name})"


_RUNBOOK, _PLAN, _RUN = (When.RUNBOOK,), (When.PLAN,), (When.RUN,)
RULES: dict[int, Rule] = {
    each.number: each
    for each in (
        Rule(
            number=1,
            name="fence before promote",
            law="A database is promoted only after its old primary is fenced, or with the split-brain hazard signed.",
            why="Two primaries that both take writes can never be made one again.",
            judges=(When.RUNBOOK, When.PLAN),
        ),
        Rule(
            number=2,
            name="promote before redirect",
            law="A live name is moved to another site only after the databases there are promoted.",
            why="Users would be sent to a site that can only read.",
            judges=_RUNBOOK,
        ),
        Rule(
            number=3,
            name="never to a failing site",
            law="A live name is moved only after the site that it goes to was probed, and never while a probe fails.",
            why="An outage of one site must not become an outage of both.",
            judges=(When.RUNBOOK, When.RUN),
        ),
        Rule(
            number=4,
            name="one run per service",
            law="One run at a time drives a service: it holds the lease, and a stale owner cannot act.",
            why="Two plans that are each safe are not safe together.",
            judges=_RUN,
        ),
        Rule(
            number=5,
            name="static stability",
            law="Nothing on the failover path may need the impaired site, a global control plane or Prefect.",
            why="What is needed on the day must not be what has failed on the day.",
            judges=(When.RUNBOOK, When.PLAN),
        ),
        Rule(
            number=6,
            name="doors that close",
            law="A TTL over 60 s and a disabled health check are hazards of every plan that moves a name.",
            why="Resolvers keep the old answer for the TTL; a disabled health check counts as healthy.",
            judges=_PLAN,
        ),
        Rule(
            number=7,
            name="beside the source",
            law="A restore goes into a new home, never over its source.",
            why="The damaged data is evidence, and may be the last copy of something.",
            judges=(When.RUNBOOK, When.PLAN),
        ),
        Rule(
            number=8,
            name="this epoch's plan",
            law="A plan made in another epoch of its service is refused.",
            why="Its roles have changed since: it would fail over to where the service came from.",
            judges=_RUN,
        ),
        Rule(
            number=9,
            name="protect what was promoted",
            law="Every promotion is followed by protecting the new primary.",
            why="Otherwise the next failure finds no backup and no archive of the new timeline.",
            judges=_RUNBOOK,
        ),
        Rule(
            number=10,
            name="side effects parked",
            law="Side effects are parked before a live promotion, and released only after validation.",
            why="A recovered platform must not send yesterday's mail again.",
            judges=_RUNBOOK,
        ),
        Rule(
            number=11,
            name="rehearsals touch nothing live",
            law="A runbook that says it is not live holds no step that changes what users live on.",
            why="A drill that causes an outage is the last drill that anybody allows.",
            judges=_RUNBOOK,
        ),
        Rule(
            number=12,
            name="losses before rebuild",
            law="Old data is rebuilt only after the commits that it alone holds were listed and exported.",
            why="A rebuild destroys the only copy of what a failover gave up.",
            judges=_RUNBOOK,
        ),
        Rule(
            number=13,
            name="graceful loses nothing",
            law="In the graceful variant the old primary is demoted at an equal LSN before the new one is promoted.",
            why="Graceful is a promise of zero loss.",
            judges=_RUNBOOK,
        ),
        Rule(
            number=14,
            name="consent first",
            law="Every live step comes after the approval.",
            why="Live things change only with the consent of people, now or in a standing approval.",
            judges=_RUNBOOK,
        ),
    )
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """`first` has to come before each live `then`, in these variants, on the same resource where `same` says so."""

    rule: int
    first: tuple[str, ...]
    then: str
    modes: tuple[Mode, ...] = (Mode.GRACEFUL, Mode.UNGRACEFUL)
    same: bool = False
    of: Mapping[str, str] | None = None
    """Only for a `then` step with these arguments."""
    hint: str = ""


ORDERS: tuple[Order, ...] = (
    Order(rule=1, first=("fence",), then="promote", same=True, hint="add a `fence` step and let `{step}` need it"),
    Order(rule=2, first=("promote",), then="redirect", of={"site": "to"}, hint="let `{step}` need the promotion"),
    Order(rule=3, first=("validate", "probe"), then="redirect", hint="let `{step}` need a `validate` of that site"),
    Order(rule=10, first=("quarantine",), then="promote", hint="let `{step}` need a `quarantine`"),
    Order(rule=10, first=("validate",), then="release", hint="let `{step}` need a `validate`"),
    Order(
        rule=12, first=("losses",), then="sync", of={"how": "rebuild"}, same=True, hint="let `{step}` need a `losses`"
    ),
    Order(
        rule=13,
        first=("demote",),
        then="promote",
        modes=(Mode.GRACEFUL,),
        same=True,
        hint="let `{step}` need a `demote`, or leave the graceful variant away",
    ),
)


UNFENCED = "unfenced"
"""The argument by which a runbook says that it promotes without a fence, and why: rule 1's hazard is then certain."""


def one_run(running: str | None, digest: str) -> None:
    """Rule 4. Raises Refused while another run drives the service."""
    if running is not None and running != digest:
        raise Refused(
            f"{RULES[4].cited}: run {running[:12]} drives the service",
            hint=f"see it with 'dr show {running[:12]}'; wait for it, or cancel it there",
        )


def may_redirect(site: str, probes: Mapping[str, Literal["passed", "failed", "unproven"]]) -> None:
    """Rule 3 at the act. Raises Refused unless there are probes of the site and every one of them passed."""
    bad = [f"{name} {word}" for name, word in sorted(probes.items()) if word != "passed"]
    if bad or not probes:
        why = ", ".join(bad) or "it has no probe"
        raise Refused(
            f"{RULES[3].cited}: {site} is not well: {why}",
            hint=f"make {site} serve, or stay where the service is; see its probes with 'dr watch --once'",
        )


@cache
def dump() -> str:
    """The table of all rules as Markdown: a golden file, read like code."""
    lines = ["| rule | name | law | why | judged |", "| --- | --- | --- | --- | --- |"]
    for rule in RULES.values():
        judged = ", ".join(rule.judges)
        lines.append(f"| {rule.number} | {rule.name} | {rule.law} | {rule.why} | {judged} |")
    return "\n".join(lines) + "\n"


@cache
def diagram() -> str:
    """The rules of order as a Mermaid graph: what has to come before what, by which rule."""
    lines = ["flowchart LR"]
    for order in ORDERS:
        only = " graceful" if order.modes == (Mode.GRACEFUL,) else ""
        lines += [f"  {first} -->|{order.rule}{only}| {order.then}" for first in order.first]
    lines += ["  promote -->|9| protect", "  approve -->|14| live[every live step]"]
    return "\n".join(lines) + "\n"
