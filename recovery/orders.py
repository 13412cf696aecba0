"""Orders of people to a run that is underway: which count, and what they need. Pure; see PLAN.md.

Separate from approvals, which start runs: an order changes one. Pausing, cancelling and another try need one listed
person (the engine's own key may pause and cancel: whoever holds it can stop the engine anyway). Skipping a step that
guards something and switching to the ungraceful variant need what starting needs: enough persons, each of whom accepts
every hazard of it, beforehand in the approval that started the run or now in the order.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, JsonValue

from recovery.approval import FORM, ConsentPolicy
from recovery.drive import History
from recovery.evidence import Record, Signature
from recovery.guards import NEVER, rule_of_skip, skip_hazards
from recovery.hazard import Acceptance, Hazard, agreed, uncovered
from recovery.plan import Plan
from recovery.rules import RULES
from recovery.step import Mode, Name, Step
from recovery.value import Instant, Value, canonical, rfc3339, sha256_of


class Word(StrEnum):
    """What may be ordered."""

    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"
    SKIP = "skip"
    RETRY = "retry"
    UNGRACEFUL = "ungraceful"
    CONFIRM = "confirm"


KINDS = {
    Word.PAUSE: "order.paused",
    Word.RESUME: "order.resumed",
    Word.CANCEL: "order.cancelled",
    Word.SKIP: "order.skipped",
    Word.RETRY: "order.retried",
    Word.UNGRACEFUL: "order.ungraceful",
    Word.CONFIRM: "order.confirmed",
}
REFUSED = "order.refused"
OF_A_STEP = frozenset({Word.SKIP, Word.RETRY, Word.CONFIRM})
BY_THE_ENGINE = frozenset({Word.PAUSE, Word.CANCEL})
MOST_TRIES = 20


class Order(Value):
    """One person's order to one run. `step` for skip, retry and confirm; `tries` for retry."""

    schema_version: Literal[1] = 1
    run: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    word: Word
    step: Name | None = None
    tries: Annotated[int, Field(ge=1, le=MOST_TRIES)] = 1
    accepted: tuple[Acceptance, ...] = ()
    why: Annotated[str, Field(max_length=500)] = ""
    who: Annotated[str, Field(min_length=1)]
    made_at: Instant
    signature: Signature | None = None

    def signed_bytes(self) -> bytes:
        """What the signature covers."""
        return canonical(self.model_copy(update={"signature": None}))

    @property
    def id(self) -> str:
        """Names the order, whatever its signature: 64 hexadecimal digits."""
        return sha256_of(self.model_copy(update={"signature": None}))

    @property
    def words(self) -> str:
        """For people: `skip fence`."""
        return f"{self.word} {self.step}" if self.step else str(self.word)


def order_key(order: Order) -> str:
    """Where an order lives in a ledger: in the order of their instants, whoever gave them."""
    return f"orders/{order.run}/{order.made_at:%Y%m%dT%H%M%S.%fZ}-{order.id[:16]}.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """An order as it was found, and whether its signature is truly of it by the key that it names."""

    order: Order
    valid: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Rights:
    """Who may order: listed people, the engine's own keys, and what was accepted by whom before the run began
    (person → acceptances, and whether the ungraceful variant was allowed)."""

    policy: ConsentPolicy
    engine: Collection[str] = ()
    before: Mapping[str, tuple[Mode, tuple[Acceptance, ...]]] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Taken:
    """The order counts: what goes on record."""

    kind: str
    facts: Mapping[str, JsonValue]
    rule: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class NotTaken:
    """The order counts for nothing, for ever: why, for the record."""

    why: str
    rule: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiting:
    """Good as far as it goes: other persons have to give the same order."""

    why: str


Answer = Taken | NotTaken | Waiting


def decide(
    said: Said,
    others: Sequence[Said],
    plan: Plan,
    past: History,
    rights: Rights,
    *,
    hazards: Sequence[Hazard] = (),
    ended: str | None = None,
) -> Answer:
    """Whether an order counts now. `others`: the pending orders of the same run, for those that need several persons.
    `hazards`: those of the ungraceful variant now, for that order. `ended`: the run's outcome, when it has one."""
    order = said.order
    if (trouble := _trouble(said, plan, past, rights, ended)) is not None:
        return trouble
    found = _hazards(order, plan, past, hazards)
    guarded = _guarded(order, plan, past)
    if not guarded:
        if order.accepted:  # else one person's pause would be consent that needs as many as a start
            return NotTaken(why=f"{order.words} has no hazard to accept")
        return _taken(order, (order.who,))
    same = [each for each in (said, *others) if (each.order.word, each.order.step) == (order.word, order.step)]
    good = [each.order for each in same if _trouble(each, plan, past, rights, ended) is None]
    persons = _consenting(good, found, rights)
    wanted = max(1, rights.policy.n_of_m)
    counted = [who for who in persons if who != FORM or wanted == 1]
    if len(counted) >= wanted:
        also = tuple(each.id for each in good if each.id != order.id)
        accepted = agreed([persons[who] for who in counted], wanted)
        return _taken(order, tuple(sorted(persons)), rule=_rule(order, plan), also=also, accepted=accepted)
    if order.who not in persons:
        left = ", ".join(each.words for each in uncovered(found, order.accepted))
        return NotTaken(why=f"{order.words} needs its hazards accepted: {left}", rule=_rule(order, plan))
    return Waiting(why=f"{order.words} has the consent of {len(counted)} of {wanted} persons")


def _trouble(said: Said, plan: Plan, past: History, rights: Rights, ended: str | None) -> NotTaken | None:
    order = said.order
    key = order.signature.key if order.signature is not None else ""
    if not said.valid:
        return NotTaken(why="it carries no valid signature")
    if order.run != plan.run:
        return NotTaken(why=f"it is for another run ({order.run[:12]})")
    if (stranger := _stranger(order, key, plan, rights)) is not None:
        return NotTaken(why=stranger)
    if ended is not None:
        return NotTaken(why=f"the run has ended ({ended})")
    return _senseless(order, plan, past)


def _stranger(order: Order, key: str, plan: Plan, rights: Rights) -> str | None:
    """Why this person may not give this order."""
    if key in rights.engine:
        # Scratch was admitted by policy, without any person: the engine's key orders it about as it likes.
        if order.word in BY_THE_ENGINE or not changes_live(plan):
            return None
        return f"{order.word} needs the signature of a person, and this is the engine's"
    if key not in rights.policy.listed:
        return f"it is signed with a key that is not listed ({key[:16] or 'none'})"
    if rights.policy.listed[key] != order.who:
        return "it is signed with somebody else's key"
    return None


def changes_live(plan: Plan) -> bool:
    """Whether the plan changes what users live on; proofs, backups, marks and drills do not."""
    return plan.pinned.get("live") is True


def _senseless(order: Order, plan: Plan, past: History) -> NotTaken | None:
    """What cannot be ordered of this plan."""
    if order.word in OF_A_STEP:
        step = next((each for each in plan.steps if each.id == order.step), None)
        if step is None:
            return NotTaken(why=f"the plan has no step {order.step or '(none was named)'}")
        if order.word is Word.SKIP and (kept := _unskippable(step, plan, past.mode(plan.mode))) is not None:
            return kept
        if order.word is Word.CONFIRM and step.verb != "person":
            return NotTaken(why=f"{step.id} is no step of a person: its postcondition is looked up in the world")
    if order.word is Word.UNGRACEFUL:
        if past.mode(plan.mode) is Mode.UNGRACEFUL:
            return NotTaken(why="the run is ungraceful already")
        if not any(step.ungraceful for step in plan.steps):
            return NotTaken(why="the plan has no ungraceful variant")
    return None


def _unskippable(step: Step, plan: Plan, mode: Mode) -> NotTaken | None:
    if step.omitted_in(mode):
        # Its hazard is that of the other variant, to which the run may yet be switched: nobody accepts it here.
        return NotTaken(why=f"{step.id} is left out of the {mode} variant: there is nothing to skip")
    if changes_live(plan) and step.verb in NEVER:
        number = NEVER[step.verb]
        return NotTaken(why=f"{step.id} cannot be skipped: {RULES[number].law}", rule=RULES[number].cited)
    return None


def _guarded(order: Order, plan: Plan, past: History) -> bool:
    """Whether it needs as many persons as a start."""
    if not changes_live(plan):
        return False
    if order.word is Word.UNGRACEFUL:
        return True
    return order.word is Word.SKIP and bool(_hazards(order, plan, past, ()))


def _hazards(order: Order, plan: Plan, past: History, hazards: Sequence[Hazard]) -> tuple[Hazard, ...]:
    match order.word:
        case Word.UNGRACEFUL:
            return tuple(hazards)
        case Word.SKIP if order.step is not None:
            return skip_hazards(plan.step(order.step), past.mode(plan.mode))
        case _:
            return ()


def _consenting(orders: Sequence[Order], found: Sequence[Hazard], rights: Rights) -> dict[str, tuple[Acceptance, ...]]:
    """The persons who accept every hazard of it, with all that they accept: by their order, or beforehand with the
    variant allowed."""
    accepted: dict[str, tuple[Acceptance, ...]] = {}
    for order in orders:
        accepted[order.who] = (*accepted.get(order.who, ()), *order.accepted)
    for who, (variant, before) in (rights.before or {}).items():
        if who in accepted or variant is Mode.UNGRACEFUL:
            accepted[who] = (*accepted.get(who, ()), *before)
    return {who: given for who, given in accepted.items() if not uncovered(found, given)}


def _rule(order: Order, plan: Plan) -> str:
    return rule_of_skip(plan.step(order.step)) if order.word is Word.SKIP and order.step is not None else ""


def _taken(
    order: Order,
    by: tuple[str, ...],
    rule: str = "",
    also: tuple[str, ...] = (),
    accepted: tuple[Acceptance, ...] = (),
) -> Taken:
    facts: dict[str, JsonValue] = {"order": order.id, "who": order.who, "by": list(by)}
    if also:
        facts["with"] = list(also)
    if accepted:
        facts["accepted"] = [each.model_dump(mode="json") for each in accepted]
    if order.word in (Word.PAUSE, Word.CANCEL) or order.why:
        facts["why"] = order.why or f"by {order.who}"
    if order.word in OF_A_STEP:
        facts["step"] = order.step
    if order.word is Word.RETRY:
        facts["tries"] = order.tries
    if order.word is Word.UNGRACEFUL:
        facts["asked_at"] = rfc3339(order.made_at)
    return Taken(kind=KINDS[order.word], facts=facts, rule=rule)


def known(records: Iterable[Record]) -> frozenset[str]:
    """The ids of the orders that the run has on record: taken, taken with another of the same words, or refused."""
    found: set[str] = set()
    for each in records:
        if each.kind.startswith("order."):
            also = each.facts.get("with")
            found.update(str(name) for name in (each.facts.get("order"), *(also if isinstance(also, list) else ())))
    return frozenset(found)
