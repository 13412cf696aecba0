"""What the records of a run say that people ordered, held against the orders that people signed. Pure.

Separate from orders.py, which decides whether an order counts when it comes: whoever can write to the ledger's bucket
can write such a record behind a true beginning, so none is believed when a run is taken up. Each order is decided once
more in the place where it stands, by its document and by what was on record before it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

from pydantic import JsonValue

from recovery.approval import Approval, ConsentPolicy
from recovery.begun import SIGNED
from recovery.drive import History
from recovery.errors import Refused
from recovery.evidence import Record
from recovery.hazard import Acceptance, Hazard, within
from recovery.journal import RUN_BEGUN, history
from recovery.orders import KINDS, REFUSED, NotTaken, Rights, Said, Taken, decide, known
from recovery.plan import Plan
from recovery.step import Mode
from recovery.value import canonical, rfc3339

HAZARDS = "hazards"
ABSENT: Final = "names an order that nobody put into the ledger"
_SAME = ("who", "step", "tries", "asked_at")
_ORDER = "order."


def unfounded(
    plan: Plan,
    records: Sequence[Record],
    found: Mapping[str, Said],
    rights: Rights,
    *,
    hazards: Sequence[Hazard] = (),
    vouched: Collection[int] = (),
) -> str:
    """The first record of an order that no signed order says, and why; nothing where all are founded.

    `found`: the documents of orders by their ids. `vouched`: the places of records that an engine which is known here
    has signed: the hazards of a switch to ungraceful were those that it tells; of others they are `hazards`, those now.
    """
    past, done = History(), 0
    before: set[str] = set()
    for place, record in enumerate(records):
        if place and record.kind == RUN_BEGUN:
            return f"record {record.sequence} is a second beginning of the run"
        if not record.kind.startswith(_ORDER):
            continue
        past, done = history(records[done:place], past), place
        signed = place in vouched
        danger = told_hazards(record) if signed else hazards
        if why := _unfounded(plan, record, past, found, rights, danger, before=before, vouched=signed):
            return f"record {record.sequence} ({record.kind}) {why}"
        before |= known([record])
    return ""


def _unfounded(
    plan: Plan,
    record: Record,
    past: History,
    found: Mapping[str, Said],
    rights: Rights,
    hazards: Sequence[Hazard] | None,
    *,
    before: Collection[str],
    vouched: bool,
) -> str:
    names = _names(record)
    named = [found[each] for each in names if each in found]
    if record.kind not in (REFUSED, *KINDS.values()) or hazards is None:
        return "is of no known form"
    if record.kind == REFUSED:
        return _not_refused(plan, record, past, named, rights, hazards, vouched=vouched)
    if len(named) < len(names):
        return ABSENT
    if any(each in before for each in names):
        return "names an order that is on record before it"
    answer = decide(named[0], named[1:], plan, past, rights, hazards=hazards)
    return _beyond(record, answer) if isinstance(answer, Taken) else f"does not count: {answer.why}"


def _not_refused(
    plan: Plan,
    record: Record,
    past: History,
    named: Sequence[Said],
    rights: Rights,
    hazards: Sequence[Hazard],
    *,
    vouched: bool,
) -> str:
    """Whoever writes that an order was refused keeps the engine from ever hearing it."""
    if "accepted" in record.facts:
        return "accepts hazards, which no refusal does"
    if vouched or not named:
        return ""
    counts = not isinstance(decide(named[0], (), plan, past, rights, hazards=hazards), NotTaken)
    return f"is signed by no engine that is known here, and '{named[0].order.words}' counts" if counts else ""


def _beyond(record: Record, taken: Taken) -> str:
    """What the record says beyond the order that it names."""
    facts = record.facts
    if record.kind != taken.kind:
        return f"names an order that says something else ({taken.kind})"
    if other := [name for name in _SAME if facts.get(name) != taken.facts.get(name)]:
        return f"says another {', '.join(other)} than the order that it names"
    if strangers := sorted(set(_texts(facts.get("by"))) - set(_texts(taken.facts.get("by")))):
        return f"says that {', '.join(strangers)} consented, who signed nothing of it"
    claimed, given = _acceptances(facts.get("accepted")), _acceptances(taken.facts.get("accepted")) or ()
    if claimed is None:
        return "accepts hazards in no known form"
    beyond = [each for each in claimed if not any(within(each, one) for one in given)]
    return f"accepts {', '.join(each.klass for each in beyond)} further than people did" if beyond else ""


def by_id(found: Iterable[Said | str]) -> dict[str, Said]:
    """Orders by their ids; a copy whose signature is broken does not stand for one that is whole."""
    named: dict[str, Said] = {}
    for said in found:
        if not isinstance(said, str) and (said.valid or said.order.id not in named):
            named[said.order.id] = said
    return named


def rights_of_signers(found: Iterable[Said], approvals: Iterable[Approval]) -> Rights:
    """For whoever verifies a ledger without its catalog: whoever signed may order and did consent, each in their own
    name. `approvals`: those of the plan whose signatures are true."""
    signed = [each.order.signature for each in found if each.valid and each.order.signature is not None]
    before: dict[str, tuple[Mode, tuple[Acceptance, ...]]] = {}
    for each in approvals:  # whoever signed twice consented to both; which of the two was spent is of no matter here
        variant, accepted = before.get(each.who, (each.variant, ()))
        worse = Mode.UNGRACEFUL if Mode.UNGRACEFUL in (variant, each.variant) else variant
        before[each.who] = (worse, (*accepted, *each.accepted))
    policy = ConsentPolicy(n_of_m=1, listed={each.key: each.who for each in signed})
    return Rights(policy=policy, before=before)


def refuse_unfounded(plan: Plan, why: str, silent: Mapping[str, str]) -> None:
    """Raises Refused with what no signed order says. `silent`: copies of the ledger that do not answer, and why: the
    order may lie there alone."""
    short = plan.run[:12]
    first = f"once {', '.join(sorted(silent))} answers, act again. " if silent else ""
    raise Refused(
        f"run {short} is not gone on with: what it has on record is not what people ordered: {why}{unheard(silent)}",
        hint=f"nothing was touched; {first}See 'dr evidence verify --run {short}'. Where people did order it, bring"
        " what they signed to the ledger ('dr evidence sync'), and the public keys of your other engines into HOME/keys"
        " (engine-NAME.pub); else somebody wrote into the ledger: make a new plan with 'dr plan'",
    )


def unheard(silent: Mapping[str, str]) -> str:
    """Behind what nobody signed: the copies of the ledger that do not answer, and may hold it."""
    where = ", ".join(sorted(silent))
    return f"; the copy of the ledger at {where} does not answer, and may hold what people signed" if silent else ""


def vouched_bytes(run: str, kind: str, at: datetime, facts: Mapping[str, JsonValue]) -> bytes:
    """What an engine signs of an order's record: the run, the instant, and all that it says."""
    said = {name: each for name, each in facts.items() if name != SIGNED}
    return canonical({"run": run, "kind": kind, "begin": rfc3339(at), "facts": said})


def told_hazards(record: Record) -> tuple[Hazard, ...] | None:
    """The hazards that a switch of variants had to accept, as its record tells them; None in no known form."""
    told = record.facts.get(HAZARDS, [])
    try:
        return tuple(Hazard.model_validate(each) for each in told) if isinstance(told, list) else None
    except ValueError:
        return None


def _names(record: Record) -> tuple[str, ...]:
    """The orders that a record names, the one that it is of first."""
    return (str(record.facts.get("order")), *_texts(record.facts.get("with")))


def _texts(told: JsonValue) -> tuple[str, ...]:
    return tuple(str(each) for each in told) if isinstance(told, list) else ()


def _acceptances(told: JsonValue) -> tuple[Acceptance, ...] | None:
    if told is None:
        return ()
    try:
        return tuple(Acceptance.model_validate(each) for each in told) if isinstance(told, list) else None
    except ValueError:
        return None
