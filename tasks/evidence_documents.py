"""Verification of what lies beside the chains: plans, approvals, orders, changes of roles. It lets nothing pass.

Separate from evidence.py, which walks the chains. A plan is its own digest; what people signed is checked by the public
keys of the ledger; a change of roles has to stand in the signed chain of the run that it names.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import TypeVar

from recovery.approval import Approval, StandingApproval
from recovery.epoch import CHANGED, Change
from recovery.evidence import Link, Signature, Trouble, read_link
from recovery.journal import RUN_BEGUN
from recovery.ordered import by_id, rights_of_signers, unfounded, unheard
from recovery.orders import Order, Said, order_key
from recovery.plan import Plan
from recovery.value import Value, canonical
from tasks import signatures
from tasks.approving import Cancellation, Spent
from tasks.ledger import Ledger
from tasks.ledger_mirrored import silent_of

Public = Mapping[str, bytes]
V = TypeVar("V", bound=Value)
FOLDERS = ("plans", "proposals", "approvals", "standing", "cancelled", "spent", "orders", "epochs")
"""Where documents lie beside the chains."""


def troubles(ledger: Ledger, public: Public, runs: Collection[str] | None) -> Iterator[Trouble]:
    """All that is wrong with the documents of all runs, or of the named ones."""
    for folder, check in _CHECKS.items():
        for key in ledger.list(f"{folder}/"):
            of = _run_of(key)
            if runs is not None and of not in runs:
                continue
            body = ledger.get(key) or b""
            for fact in check(ledger, key, body, public):
                yield Trouble(run=of, sequence=None, fact=f"{key} {fact}")


def of_runs(key: str, runs: Collection[str]) -> bool:
    """Whether a document belongs to one of these runs, or to no single one."""
    return not _run_of(key) or _run_of(key) in runs


def _run_of(key: str) -> str:
    """The run that a document belongs to by its key, else nothing."""
    folder, _, rest = key.partition("/")
    return rest.split("/")[0].removesuffix(".json") if folder in ("plans", "proposals", "approvals", "orders") else ""


def _plan(ledger: Ledger, key: str, body: bytes, public: Public) -> Iterator[str]:
    run = _run_of(key)
    if hashlib.sha256(body).hexdigest() != run:
        yield "is not the plan that its name says: its bytes were changed"
        return
    try:
        plan = Plan.model_validate_json(body)
    except ValueError:
        yield "is no plan of a known schema"
        return
    if plan.pinned.get("live") is True:
        yield from _begun_by(ledger, run, public)
        yield from _ordered(ledger, plan, public)


def _begun_by(ledger: Ledger, run: str, public: Public) -> Iterator[str]:
    """A live run's first record says who consented: each of them has signed an approval of this very plan, or the
    standing one. The engine's word alone is nobody's consent."""
    first = next(iter(ledger.list(f"runs/{run}/0")), None)
    link = read_link(first, ledger.get(first) or b"") if first is not None else ""
    if not isinstance(link, Link) or link.record.kind != RUN_BEGUN:
        return  # it has not begun; or its chain is told by whoever walks it
    consent = link.record.facts.get("consent")
    told = consent if isinstance(consent, dict) else {}
    by, spends, standing = told.get("by"), told.get("spends"), told.get("standing")
    signed: set[str] = set()
    for each in spends if isinstance(spends, list) else ():
        found = _read(ledger.get(f"approvals/{run}/{each}.json") or b"", Approval)
        if not isinstance(found, str) and (found.id, found.digest) == (each, run):
            signed |= _signers(found.signed_bytes(), (found.signature,), public)
    for key in ledger.list("standing/") if standing else ():
        advance = _read(ledger.get(key) or b"", StandingApproval)
        if not isinstance(advance, str) and advance.id == standing:
            signed |= _signers(advance.signed_bytes(), advance.signatures, public)
    named = {str(each) for each in by} if isinstance(by, list) else set[str]()
    if lacking := ", ".join(sorted(named - signed)) or ("" if named else "nobody"):
        yield f"was begun in the name of {lacking}: no signed approval of it says so"


def _ordered(ledger: Ledger, plan: Plan, public: Public) -> Iterator[str]:
    """What a live run has on record as people's orders is what they signed. Who is listed, and how many have to agree,
    the catalog knows: that is asked when a run is taken up."""
    links = [read_link(key, ledger.get(key) or b"") for key in ledger.list(f"runs/{plan.run}/0")]
    records = [each.record for each in links if isinstance(each, Link)]  # of others the walk tells
    orders, given = [], []
    for key in ledger.list(f"orders/{plan.run}/") if records else ():
        order = _read(ledger.get(key) or b"", Order)
        if not isinstance(order, str):
            orders.append(Said(order=order, valid=not any(_signed(order.signed_bytes(), order.signature, public))))
    for key in ledger.list(f"approvals/{plan.run}/") if orders else ():
        found = _read(ledger.get(key) or b"", Approval)
        if not isinstance(found, str) and not any(_signed(found.signed_bytes(), found.signature, public, found.who)):
            given.append(found)
    rights = rights_of_signers(orders, given)
    if why := unfounded(plan, records, by_id(orders), rights, vouched=range(len(records))):
        yield f"has a run whose record of an order is not what people signed: {why}{unheard(silent_of(ledger))}"


def _signers(body: bytes, signatures_: Iterable[Signature | None], public: Public) -> set[str]:
    return {each.who for each in signatures_ if each is not None and not any(_signed(body, each, public))}


def _approval(ledger: Ledger, key: str, body: bytes, public: Public) -> Iterator[str]:  # noqa: ARG001
    found = _read(body, Approval)
    if isinstance(found, str):
        yield found
        return
    if key != f"approvals/{found.digest}/{found.id}.json":
        yield "is not the approval that its name says"
    yield from _signed(found.signed_bytes(), found.signature, public, found.who)


def _standing(ledger: Ledger, key: str, body: bytes, public: Public) -> Iterator[str]:  # noqa: ARG001
    found = _read(body, StandingApproval)
    if isinstance(found, str):
        yield found
        return
    for each in found.signatures or (None,):
        yield from _signed(found.signed_bytes(), each, public)


def _cancelled(ledger: Ledger, key: str, body: bytes, public: Public) -> Iterator[str]:  # noqa: ARG001
    found = _read(body, Cancellation)
    if isinstance(found, str):
        yield found
        return
    if key.split("/")[1] != found.approval:
        yield "takes back another approval than its name says"
    yield from _signed(found.signed_bytes(), found.signature, public, found.who)


def _spent(ledger: Ledger, key: str, body: bytes, public: Public) -> Iterator[str]:  # noqa: ARG001
    found = _read(body, Spent)
    if isinstance(found, str):
        yield found
    elif key != f"spent/{found.approval}.json":
        yield "spends another approval than its name says"


def _order(ledger: Ledger, key: str, body: bytes, public: Public) -> Iterator[str]:  # noqa: ARG001
    found = _read(body, Order)
    if isinstance(found, str):
        yield found
        return
    if key != order_key(found):
        yield "is not the order that its name says"
    yield from _signed(found.signed_bytes(), found.signature, public, found.who)


def _epoch(ledger: Ledger, key: str, body: bytes, public: Public) -> Iterator[str]:  # noqa: ARG001
    found = _read(body, Change)
    if isinstance(found, str):
        yield found
        return
    links = (read_link(each, ledger.get(each) or b"") for each in ledger.list(f"runs/{found.run}/0"))
    said = [each.record for each in links if isinstance(each, Link) and each.record.kind == CHANGED]
    wanted = (found.epoch, found.primary)
    if not any((each.facts.get("epoch"), each.facts.get("primary")) == wanted for each in said):
        yield f"stands in no record of run {found.run[:12]}"


def _read(body: bytes, sort: type[V]) -> V | str:
    try:
        found = sort.model_validate_json(body)
        same = canonical(json.loads(body)) == body
    except ValueError:  # also of a figure that is no number: it has no canonical form
        return "is no document of a known schema"
    return found if same else "is not in canonical form: its bytes were changed"


def _signed(body: bytes, signature: Signature | None, public: Public, who: str | None = None) -> Iterator[str]:
    if signature is None:
        yield "carries no signature"
    elif (pem := public.get(signature.key)) is None:
        yield "is signed with a key that the ledger does not hold"
    elif not signatures.valid(body, signature, pem):
        yield "carries a signature that does not match its content"
    elif who not in (None, signature.who):
        yield "is said by one and signed in the name of another"


_CHECKS: dict[str, Callable[[Ledger, str, bytes, Public], Iterator[str]]] = {
    "plans": _plan,
    "approvals": _approval,
    "standing": _standing,
    "cancelled": _cancelled,
    "spent": _spent,
    "orders": _order,
    "epochs": _epoch,
}
