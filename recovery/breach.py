"""Which rules a runbook breaks, by which step, and what to do. Pure; judged long before anything runs.

Separate from rules.py, which is the law's text: here is how the law is read. A runbook is judged with its nested ones
opened, in each variant that it has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from recovery.rules import ORDERS, RULES, UNFENCED, Order, Rule
from recovery.runbook import Runbook, RunbookStep
from recovery.step import Mode
from recovery.verb import GLOBAL, VERBS, Calls, Place, Plane, calls, ways


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


def breaches(
    runbook: Runbook, moved_by: Mapping[str, Sequence[str]] | None = None, sources: Sequence[str] = ()
) -> tuple[Breach, ...]:
    """All rules that a runbook breaks (nested ones already opened). `moved_by`: how each DNS name, or the role `dns`,
    is moved by the catalog, for redirects that don't say; `sources`: folders that hold live data. Raises ValueError
    when it has a cycle or an unknown need."""
    before = _before(runbook)
    found = [breach for order in ORDERS for breach in _order(order, runbook, before)]
    found += _protected(runbook, before)
    found += _unstable(runbook, moved_by or {})
    for step in runbook.steps:
        if step.verb == "restore" and any(_over(step, mode, sources) for mode in runbook.variants):
            found.append(_breach(7, step.id, f"`{step.id}` restores over its source", "write `into: fresh`"))
        if step.live and not runbook.live:
            fact = f"`{step.id}` changes what users live on"
            found.append(_breach(11, step.id, fact, "give it `scratch: true` or the rehearsal's name, or remove it"))
        if step.live and runbook.live and not _always_has(runbook, before[step.id], "approve"):
            found.append(
                _breach(14, step.id, f"`{step.id}` comes before the approval", "let it need an `approve` step")
            )
    place = {step.id: at for at, step in enumerate(runbook.steps)}
    return tuple(sorted(found, key=lambda each: (place[each.step], each.rule.number, each.fact)))


def _over(step: RunbookStep, mode: Mode, sources: Sequence[str]) -> bool:
    """Whether a restore goes to its source: by a word, or by a folder that is, holds or lies in live data."""
    into = str(step.arguments_in(mode).get("into"))
    if into in ("source", "in-place"):
        return True
    folder = f"{into.rstrip('/')}/"
    others = [f"{source.rstrip('/')}/" for source in sources]
    return into.startswith("/") and any(folder.startswith(other) or other.startswith(folder) for other in others)


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


def _always_has(runbook: Runbook, ids: frozenset[str], verb: str) -> bool:
    """Whether one of those steps is of that verb, and performed in every variant."""
    those = [step for step in runbook.steps if step.id in ids and step.verb == verb]
    return any(not any(step.omitted(mode) for mode in runbook.variants) for step in those)


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
            after = frozenset(
                other.id for other in runbook.steps if step.id in before[other.id] and other.resource == step.resource
            )
            if not _always_has(runbook, after, "protect"):
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
            yield _breach(5, step.id, f"`{step.id}`{way} needs {' or '.join(dict.fromkeys(trouble))}", hint)


def _trouble(called: Calls) -> str:
    """What a call must not need on the failover path, or nothing."""
    found = ["the impaired site"] if Place.FROM in called.places else []
    found += [
        plane.value for plane in Plane if plane in called.planes and plane in GLOBAL | {Plane.OF_FROM, Plane.PREFECT}
    ]
    return ", ".join(found)
