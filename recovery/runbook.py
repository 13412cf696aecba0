"""A runbook: steps with needs, never conditions; and what is wrong with one. Pure.

Separate from plans: a runbook speaks of roles (the database, the site that takes over), a plan of this catalog's names.
A step's resource is a role (`service`, `database`, `dns`, `rehearsal`) or the exact name of a resource.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, JsonValue

from recovery.argument import too_long, trouble
from recovery.objective import Duration
from recovery.step import OMITTED, Mode, Name
from recovery.value import Value
from recovery.verb import VERBS, Verb

ROLES = {"service": "service", "database": "database", "dns": "dns", "rehearsal": "dns"}
"""Role → what a verb acts on (`Verb.on`)."""
_THINGS = {"service": "service", "database": "database", "dns": "DNS name"}
MOST_STEPS = 2000


class RunbookStep(Value):
    """One step. `manual` is what a person does instead: lines of text, and commands that begin with `$ `."""

    id: Name
    verb: str
    resource: Name = "service"
    arguments: dict[str, JsonValue] = {}
    graceful: dict[str, JsonValue] = {}
    ungraceful: dict[str, JsonValue] = {}
    needs: tuple[Name, ...] = ()
    until: Name | None = None
    patience: Duration = timedelta(minutes=10)
    tries: Annotated[int, Field(ge=1, le=20)] = 3
    always: bool = False
    manual: str = ""

    def arguments_in(self, mode: Mode) -> dict[str, JsonValue]:
        """The arguments of one variant."""
        return {**self.arguments, **(self.graceful if mode is Mode.GRACEFUL else self.ungraceful)}

    def omitted(self, mode: Mode) -> bool:
        """Whether the variant leaves the step out."""
        return OMITTED in self.arguments_in(mode)

    @property
    def live(self) -> bool:
        """Whether it changes what users live on."""
        scratch = self.arguments.get("scratch") is True
        return self.verb in VERBS and VERBS[self.verb].live and not scratch and self.resource != "rehearsal"


class Head(Value):
    """What a runbook says of itself. `toward` is the role of the site that it goes to. `variants`: those that it has;
    without the ungraceful one it can't be switched to it in mid-run. `live: false`: it changes nothing that is live."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    name: Name
    version: str
    title: str
    purpose: str
    mode: Mode = Mode.GRACEFUL
    variants: tuple[Mode, ...] = (Mode.GRACEFUL, Mode.UNGRACEFUL)
    toward: Literal["primary", "recovery"] = "recovery"
    live: bool = True


class Runbook(Head):
    """A whole runbook. Its steps may still be wrong: `troubles` says all of it."""

    steps: tuple[RunbookStep, ...] = Field(min_length=1, max_length=MOST_STEPS)

    def step(self, step_id: str) -> RunbookStep:
        """The step of that id. Raises KeyError when there is none."""
        for step in self.steps:
            if step.id == step_id:
                return step
        raise KeyError(step_id)


class Trouble(NamedTuple):
    """Something wrong: where in the document, the fact, what to do."""

    path: tuple[str | int, ...]
    fact: str
    hint: str


def troubles(runbook: Head, steps: Sequence[tuple[int, RunbookStep]], ids: Sequence[str]) -> Iterator[Trouble]:
    """All that is wrong with a runbook by itself. `steps` are those that could be read, with their place in the file;
    `ids` those of all steps, so that a step that could not be read is not also called unknown."""
    if runbook.mode not in runbook.variants:
        hint = "add it, or plan another variant"
        yield Trouble(("mode",), f"its mode {runbook.mode.value} is none of its variants", hint)
    first: dict[str, int] = {}
    for at, step in steps:
        if first.setdefault(step.id, at) != at:
            yield Trouble(("steps", at, "id"), f"a second step `{step.id}`", "give each step an id of its own")
        yield from _verb_troubles(at, step)
        for place, need in enumerate(step.needs):
            if need not in ids:
                yield Trouble(("steps", at, "needs", place), f"there is no step `{need}`", _near(ids))
        if step.until is not None and step.until not in ids:
            yield Trouble(("steps", at, "until"), f"there is no step `{step.until}`", _near(ids))
        if all(step.omitted(mode) for mode in runbook.variants):
            fact = f"`{step.id}` is left out in every variant and can never be reached"
            yield Trouble(("steps", at), fact, "remove the step, or perform it in one of them")
    yield from _shape(steps, ids)


def _near(known: Sequence[str]) -> str:
    return f"the steps are {', '.join(known)}"


def _shape(steps: Sequence[tuple[int, RunbookStep]], ids: Sequence[str]) -> Iterator[Trouble]:
    """Cycles, and what stands behind a cycle or behind a step that doesn't exist: it could never be reached."""
    known = {step.id: step for _, step in steps}
    passed = set(ids) - set(known)
    while fresh := {name for name, step in known.items() if name not in passed and passed.issuperset(step.needs)}:
        passed |= fresh
    missing = {name for name, step in known.items() if not set(ids).issuperset(step.needs)}
    circles = _on_circles({name: step.needs for name, step in known.items() if name not in passed})
    told: set[str] = set()
    for at, step in steps:
        if step.id in passed | missing | told:
            continue
        if step.id in circles:
            circle = circles[step.id]
            told |= set(circle)
            fact = f"steps need each other in a circle: {' → '.join((*circle, circle[0]))}"
            yield Trouble(("steps", at, "needs"), fact, "take one of these needs away")
        else:
            blocked = sorted(need for need in step.needs if need not in passed)
            fact = f"`{step.id}` can never be reached: it waits for {', '.join(blocked)}"
            yield Trouble(("steps", at, "needs"), fact, "mend what it waits for, or take the need away")


def _on_circles(needs: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """For each step that lies on a circle, one circle that it lies on, beginning with the step first in the file."""
    found: dict[str, tuple[str, ...]] = {}
    for start in needs:
        if start in found:
            continue
        stack: list[tuple[str, tuple[str, ...]]] = [(start, (start,))]
        seen: set[str] = set()
        while stack:
            here, path = stack.pop()
            if start in needs[here]:
                found |= dict.fromkeys(path, path)
                break
            for need in needs[here]:
                if need in needs and need not in seen:
                    seen.add(need)
                    stack.append((need, (*path, need)))
    return found


def _verb_troubles(at: int, step: RunbookStep) -> Iterator[Trouble]:
    verb = VERBS.get(step.verb)
    if verb is None:
        yield Trouble(("steps", at, "verb"), f"there is no verb `{step.verb}`", f"the verbs are {', '.join(VERBS)}")
        return
    role = ROLES.get(step.resource)
    if role is not None and verb.on not in ("any", role):
        fact = f"`{step.verb}` acts on a {_THINGS[verb.on]}, not on a {_THINGS[role]}"
        yield Trouble(("steps", at, "resource" if step.resource != "service" else "verb"), fact, _on(verb))
    for section, given in (("arguments", step.arguments), ("graceful", step.graceful), ("ungraceful", step.ungraceful)):
        for name, value in given.items():
            path = ("steps", at, section, name)
            yield from _argument(verb, step.verb, path, value)
            for wrong in (trouble(step.verb, name, value), too_long(step.verb, name, value, step.patience)):
                if wrong is not None:
                    yield Trouble(path, *wrong)
    every = [{**step.arguments_in(mode)} for mode in Mode if not step.omitted(mode)]
    for name in verb.required:
        if any(name not in arguments for arguments in every):
            allowed = " or ".join(verb.arguments[name]) or "it"
            yield Trouble(("steps", at), f"`{step.verb}` needs the argument `{name}`", f"add `{name}`: {allowed}")


def _on(verb: Verb) -> str:
    return f"write `resource: {verb.on}`, or the name of one"


def _argument(verb: Verb, named: str, path: tuple[str | int, ...], value: JsonValue) -> Iterator[Trouble]:
    name = str(path[-1])
    if name == OMITTED and path[2] != "arguments":
        if not (isinstance(value, str) and value):
            yield Trouble(path, "a step is left out without a reason", "write why, in words")
        return
    if name not in verb.arguments:
        known = ", ".join(verb.arguments) or "nothing"
        yield Trouble(path, f"`{named}` has no argument `{name}`", f"it takes {known}")
        return
    allowed = verb.arguments[name]
    for each in value if isinstance(value, list) else [value]:
        word = str(each).lower() if isinstance(each, bool) else str(each)
        if allowed and word not in allowed:
            yield Trouble(path, f"`{name}` is {word}", f"write {' or '.join(allowed)}")
    if value == []:
        yield Trouble(path, f"`{name}` is empty", "name at least one, or leave it away")


def nested(runbook: Runbook | None) -> tuple[str, ...]:
    """The names of the runbooks that stand directly in a runbook."""
    steps = runbook.steps if runbook is not None else ()
    return tuple(str(step.arguments.get("runbook")) for step in steps if step.verb == "runbook")


def flat(runbook: Runbook, others: Mapping[str, Runbook], known: Sequence[str] = ()) -> Runbook:
    """The runbook with every nested one in its place. Nested ids are `outer-inner`; what needed the outer step needs
    all ends of the inner one, and what was true until the outer step is true until the first inner one. Raises
    ValueError when a nested one is missing (of those that are `known`), wrong, or comes round in a circle."""
    return runbook.but(steps=tuple(_opened(runbook, others, (runbook.name,), known)))


def _opened(
    runbook: Runbook, others: Mapping[str, Runbook], within: tuple[str, ...], known: Sequence[str]
) -> list[RunbookStep]:
    found: list[RunbookStep] = []
    ends: dict[str, tuple[str, ...]] = {}
    begins: dict[str, str] = {}
    for step in runbook.steps:
        if step.verb != "runbook":
            found.append(step)
            continue
        named = str(step.arguments.get("runbook"))
        if named in within:
            raise ValueError(f"runbooks contain each other in a circle: {' → '.join((*within, named))}")
        if named not in others:
            if named in known:
                raise ValueError(f"the runbook `{named}` within it is wrong; mend that one first")
            raise ValueError(f"there is no runbook `{named}`; the runbooks are {', '.join(known or sorted(others))}")
        inner = _opened(others[named], others, (*within, named), known)
        needed = {need for each in inner for need in each.needs}
        ends[step.id] = tuple(f"{step.id}-{each.id}" for each in inner if each.id not in needed)
        begins[step.id] = f"{step.id}-{inner[0].id}"
        found += [_moved(each, step) for each in inner]
    return [
        step.but(needs=_through(step.needs, ends), until=begins.get(step.until or "", step.until)) for step in found
    ]


def _moved(inner: RunbookStep, outer: RunbookStep) -> RunbookStep:
    return inner.but(
        id=f"{outer.id}-{inner.id}",
        needs=tuple(f"{outer.id}-{need}" for need in inner.needs) or outer.needs,
        until=f"{outer.id}-{inner.until}" if inner.until else None,
    )


def _through(needs: Sequence[str], ends: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(name for need in needs for name in ends.get(need, (need,)))
