"""The safety rules, numbered: what no runbook, plan or run may break. Pure; events and refusals cite the number.

Separate as a table so that it can be dumped, drawn and argued with. Rules of order are data (`ORDERS`): the diagram and
the check come from the same lines.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Literal

from recovery.errors import Refused
from recovery.runbook import Runbook, RunbookStep
from recovery.step import Mode
from recovery.verb import GLOBAL, VERBS, Calls, Place, Plane, calls, ways


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Breach:
    """A rule that is broken, by which step, the fact, what to do."""

    rule: Rule
    step: str
    fact: str
    hint: str

    @property
    def words(self) -> str:
        """The breach with its rule's number."""
        return f"{self.rule.cited}: {self.fact}"


def breaches(runbook: Runbook, moved_by: Mapping[str, Sequence[str]] | None = None) -> tuple[Breach, ...]:
    """All rules that a runbook breaks (nested ones already opened). `moved_by`: how each DNS name, or the role `dns`,
    is moved by the catalog, for redirects that don't say. Raises ValueError when it has a cycle or an unknown need."""
    before = _before(runbook)
    found = [breach for order in ORDERS for breach in _order(order, runbook, before)]
    found += _protected(runbook, before)
    found += _unstable(runbook, moved_by or {})
    for step in runbook.steps:
        if step.verb == "restore" and str(step.arguments_in(runbook.mode).get("into")) in ("source", "in-place"):
            found.append(_breach(7, step.id, f"`{step.id}` restores over its source", "write `into: fresh`"))
        if step.live and not runbook.live:
            fact = f"`{step.id}` changes what users live on"
            found.append(_breach(11, step.id, fact, "give it `scratch: true` or the rehearsal's name, or remove it"))
        if step.live and runbook.live and not _has(runbook, before[step.id], ("approve",)):
            found.append(
                _breach(14, step.id, f"`{step.id}` comes before the approval", "let it need an `approve` step")
            )
    place = {step.id: at for at, step in enumerate(runbook.steps)}
    return tuple(sorted(found, key=lambda each: (place[each.step], each.rule.number, each.fact)))


def _breach(number: int, step: str, fact: str, hint: str) -> Breach:
    return Breach(rule=RULES[number], step=step, fact=fact, hint=hint)


def _before(runbook: Runbook) -> dict[str, frozenset[str]]:
    """For each step all that must hold before it, near and far."""
    found: dict[str, frozenset[str]] = {}
    left = {step.id: step for step in runbook.steps}
    while left:
        ready = [step for step in left.values() if all(need in found for need in step.needs)]
        if not ready:
            raise ValueError(f"steps that can never be reached: {', '.join(left)}")
        for step in ready:
            found[step.id] = frozenset(step.needs).union(*(found[need] for need in step.needs))
            del left[step.id]
    return found


def _has(runbook: Runbook, ids: frozenset[str], verbs: Sequence[str]) -> bool:
    return any(step.id in ids and step.verb in verbs for step in runbook.steps)


def _order(order: Order, runbook: Runbook, before: Mapping[str, frozenset[str]]) -> Iterator[Breach]:
    for step in runbook.steps:
        if step.verb != order.then or not step.live:
            continue
        lacking = [
            mode
            for mode in order.modes
            if mode in runbook.variants
            and not step.omitted(mode)
            and _applies(order, step, mode)
            and not any(_precedes(order, other, step, mode) for other in runbook.steps if other.id in before[step.id])
        ]
        if lacking:
            which = f" in the {lacking[0].value} variant" if len(lacking) == 1 and len(runbook.variants) > 1 else ""
            what = " or ".join(f"`{each}`" for each in order.first)
            fact = f"nothing before `{step.id}` does {what}{which}"
            yield _breach(order.rule, step.id, fact, order.hint.format(step=step.id))


def _applies(order: Order, step: RunbookStep, mode: Mode) -> bool:
    arguments = step.arguments_in(mode)
    if order.rule == 1 and arguments.get(UNFENCED):
        return False  # the runbook declares it: every plan of it carries the split-brain hazard
    return all(arguments.get(name) == value for name, value in (order.of or {}).items())


def _precedes(order: Order, other: RunbookStep, step: RunbookStep, mode: Mode) -> bool:
    if other.verb not in order.first or other.omitted(mode):
        return False
    if order.same and other.resource != step.resource:
        return False
    at, goes = other.arguments_in(mode).get("site"), step.arguments_in(mode).get("site")
    return order.rule != 3 or at == goes


def _protected(runbook: Runbook, before: Mapping[str, frozenset[str]]) -> Iterator[Breach]:
    for step in runbook.steps:
        if step.verb == "promote" and step.live:
            after = [other for other in runbook.steps if step.id in before[other.id] and other.verb == "protect"]
            if not any(other.resource == step.resource for other in after):
                yield _breach(9, step.id, f"nothing protects what `{step.id}` makes", "add a `protect` that needs it")


def failover_path(runbook: Runbook) -> frozenset[str]:
    """The steps that stand between the disaster and users being served again: all live promotions and redirects, their
    convergence and validation, and everything before these. Empty for a runbook that changes no roles."""
    if not any(step.live and step.verb in ("promote", "redirect") for step in runbook.steps):
        return frozenset()
    before = _before(runbook)
    ends = [step.id for step in runbook.steps if step.verb in ("promote", "redirect", "converge", "validate")]
    return frozenset(ends).union(*(before[end] for end in ends))


def _unstable(runbook: Runbook, moved_by: Mapping[str, Sequence[str]]) -> Iterator[Breach]:
    """Rule 5. Of several ways one that is stable is enough; a runbook without the ungraceful variant is no failover."""
    if Mode.UNGRACEFUL not in runbook.variants:
        return
    path = failover_path(runbook)
    for step in runbook.steps:
        if step.id not in path or step.omitted(Mode.UNGRACEFUL):
            continue
        arguments = step.arguments_in(Mode.UNGRACEFUL)
        verb = VERBS[step.verb]
        named: Sequence[str | None] = ways(verb, arguments) or (verb.ways and moved_by.get(step.resource)) or (None,)
        trouble = [_trouble(calls(verb, arguments, ungraceful=True, way=way)) for way in named]
        if all(trouble):
            way = f" by {', '.join(str(each) for each in named)}" if named[0] else ""
            hint = "leave it out of the ungraceful variant, or go a way that needs neither"
            yield _breach(5, step.id, f"`{step.id}`{way} needs {trouble[0]}", hint)


def _trouble(called: Calls) -> str:
    """What a call must not need on the failover path, or nothing."""
    found = ["the impaired site"] if Place.FROM in called.places else []
    found += [
        plane.value for plane in Plane if plane in called.planes and plane in GLOBAL | {Plane.OF_FROM, Plane.PREFECT}
    ]
    return ", ".join(found)


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
            hint=f"make {site} serve, or stay where the service is; see its probes with 'dr status'",
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
