"""Consent in the ledger: approvals signed and stored, standing ones, taken back, spent, and refusals left on record.

Separate from recovery/approval.py, which counts consent: here are keys, signatures and documents. Nothing here needs
Prefect, and what is verified is verified with public keys that lie beside the documents (`keys/FINGERPRINT.pem`): a
wrong one has another fingerprint, and only fingerprints that the catalog lists count.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Literal

from recovery import accepting
from recovery.admission import Consents
from recovery.approval import (
    Approval,
    ConsentPolicy,
    Given,
    GivenStanding,
    Missing,
    StandingApproval,
    approval_key,
    facts_of_refusal,
    standing_key,
)
from recovery.doors import StandingTerms
from recovery.errors import BadInput, Refused
from recovery.evidence import Signature
from recovery.hazard import Acceptance
from recovery.plan import Plan
from recovery.step import Mode
from recovery.value import Instant, Value, canonical, rfc3339, sha256_of
from tasks import signatures
from tasks.home import Home
from tasks.journal import Journal
from tasks.keys import signer
from tasks.ledger import Ledger
from tasks.signed import keep_signed, read_as, verified
from tasks.store import AlreadyThere


class Cancellation(Value):
    """A listed person takes an approval back, their own or another's: consent that anybody doubts is none."""

    schema_version: Literal[1] = 1
    approval: str
    who: str
    at: Instant
    signature: Signature | None = None

    def signed_bytes(self) -> bytes:
        """What the signature covers."""
        return canonical(self.model_copy(update={"signature": None}))


class Spent(Value):
    """The run that an approval started. Written once: no other run can be started by it."""

    schema_version: Literal[1] = 1
    approval: str
    run: str
    at: Instant


def policy_of(home: Home) -> ConsentPolicy:
    """Whose keys count and how many persons must agree, by the catalog."""
    consent = home.catalog.consent
    return ConsentPolicy(n_of_m=consent.n_of_m, listed={each.key: name for name, each in consent.approvers.items()})


def listed_signer(home: Home, who: str) -> signatures.Signer:
    """The key of a person who may consent. Raises BadInput without the key, Refused when the catalog lists another or
    none: what it signs would never count."""
    sign = signer(home.folder / "keys", who)
    listed = policy_of(home).listed
    if listed.get(sign.fingerprint) != who:
        known = ", ".join(sorted(set(listed.values()))) or "nobody"
        other = f"lists it as {listed[sign.fingerprint]}'s" if sign.fingerprint in listed else "does not list it"
        raise Refused(
            f"the key of {who} ({sign.fingerprint[:16]}) counts for nothing here: the catalog {other}",
            hint=f"people who may consent: {known}; to add one, put the fingerprint below consent.approvers",
        )
    return sign


def approve(
    home: Home,
    plan: Plan,
    *,
    who: str,
    accepted: Sequence[Acceptance],
    lasts: timedelta,
    variant: Mode | None = None,
) -> Approval:
    """Sign consent to that plan, in a variant (default: the plan's own), and store it."""
    sign = listed_signer(home, who)
    now = home.now()
    draft = Approval(
        digest=plan.digest,
        epoch=plan.epoch,
        who=who,
        accepted=tuple(accepted),
        variant=variant or plan.mode,
        made_at=now,
        expires_at=now + lasts,
    )
    made = draft.model_copy(update={"signature": sign(draft.signed_bytes())})
    keep_signed(home.ledger(), approval_key(made), made, sign)
    return made


def approve_standing(home: Home, name: str, *, who: str) -> StandingApproval:
    """Sign what the catalog's terms of that name say, beside those who signed the same before. Gives it with all valid
    signatures; what is complete is said by `recovery.approval`."""
    terms = home.catalog.consent.standing.get(name)
    if terms is None:
        known = ", ".join(home.catalog.consent.standing) or "none"
        raise BadInput(f"the catalog has no standing approval {name!r}", hint=f"below consent.standing: {known}")
    if terms.to is None:
        raise BadInput(
            f"the standing approval {name!r} names no site that takes over",
            hint=f"write `to: SITE` below consent.standing.{name} of the catalog: people consent to one direction",
        )
    sign = listed_signer(home, who)
    draft = _draft(home, terms)
    mine = sign(draft.signed_bytes())
    others = [each for each in draft.signatures if each.who != who]
    made = draft.model_copy(update={"signatures": (*others, mine)})
    keep_signed(home.ledger(), standing_key(made), made, sign)
    return made


def _draft(home: Home, terms: StandingTerms) -> StandingApproval:
    """The document to sign: one that other listed people signed for the same terms and that still holds, or a new one.
    Nobody else chooses for which days people consent."""
    now, listed = home.now(), policy_of(home).listed
    made = StandingApproval(
        runbook=terms.runbook,
        service=terms.service,
        to=terms.to,
        conditions={probe: span.total_seconds() for probe, span in terms.conditions.items()},
        accepted=accepting.terms(terms.accept),
        made_at=now,
        expires_at=now + terms.lasts,
    )
    found, _, _ = standing(home, terms.service)
    for each in found:
        signed = zip(each.approval.signatures, each.valid, strict=True)
        valid = tuple(sign for sign, ok in signed if ok and listed.get(sign.key) == sign.who)
        known = each.approval
        same = made.but(made_at=known.made_at, expires_at=known.expires_at, signatures=())
        gone = cancelled(home, [known.id])[0] or now >= known.expires_at
        if valid and not gone and same.id == known.id:
            return known.model_copy(update={"signatures": valid})
    return made


def cancel(home: Home, named: str, *, who: str) -> Approval | StandingApproval:
    """Take back the approval whose id begins so. Raises BadInput when there is none or more than one, Refused when it
    is spent: a run that has begun is stopped by its own order."""
    sign = listed_signer(home, who)
    ledger = home.ledger()
    found = _named(ledger, named)
    if (spent := _spent(ledger, found.id)) is not None:
        raise Refused(
            f"approval {found.id[:8]} was spent by run {spent[:12]} already",
            hint=f"stop the run itself: dr run cancel {spent[:12]} --as {who}",
        )
    draft = Cancellation(approval=found.id, who=who, at=home.now())
    made = draft.model_copy(update={"signature": sign(draft.signed_bytes())})
    keep_signed(ledger, f"cancelled/{found.id}/{sha256_of(made)[:16]}.json", made, sign)
    return found


def spend(home: Home, plan: Plan, ids: Iterable[str]) -> None:
    """Spend these approvals for the plan's run, each once and for ever. The same run again is fine. Raises Refused."""
    ledger = home.ledger()
    for each in ids:
        document = Spent(approval=each, run=plan.run, at=home.now())
        try:
            ledger.put(f"spent/{each}.json", canonical(document))
        except AlreadyThere:
            if (run := _spent(ledger, each)) != plan.run:
                raise Refused(
                    f"approval {each[:8]} was spent by run {(run or '')[:12]}", hint="have the plan approved anew"
                ) from None


def consents(home: Home, plan: Plan) -> Consents:
    """All that people said of the plan and of its service, as it was found. Raises what the ledger raises."""
    ledger = home.ledger()
    given, troubles = [], []
    for key in ledger.list(f"approvals/{plan.digest}/"):
        found = read_as(ledger, key, Approval)
        if isinstance(found, str):
            troubles.append(found)
            continue
        signed = found.signature
        given.append(Given(approval=found, valid=signed is not None and verified(ledger, found.signed_bytes(), signed)))
    in_advance, more, _ = standing(home, plan.service)
    ids = dict.fromkeys([*(each.approval.id for each in given), *(each.approval.id for each in in_advance)])
    gone, doubts = cancelled(home, ids)
    spent = {each: run for each in ids if (run := _spent(ledger, each)) is not None}
    return Consents(
        policy=policy_of(home),
        given=tuple(given),
        standing=in_advance,
        spent=spent,
        cancelled=gone,
        troubles=(*troubles, *more, *doubts),
    )


def standing(home: Home, service: str) -> tuple[tuple[GivenStanding, ...], tuple[str, ...], tuple[str, ...]]:
    """Standing approvals of a service, the signatures of all copies of one joined; what could not be read; their keys
    in the ledger."""
    ledger = home.ledger()
    found: dict[str, StandingApproval] = {}
    signed: dict[str, dict[tuple[str, str], Signature]] = {}
    troubles: list[str] = []
    keys = tuple(ledger.list(f"standing/{service}/"))
    for key in keys:
        read = read_as(ledger, key, StandingApproval)
        if isinstance(read, str):
            troubles.append(read)
            continue
        found.setdefault(read.id, read)
        signed.setdefault(read.id, {}).update({(each.key, each.ed25519): each for each in read.signatures})
    joined = []
    for name, each in found.items():
        whole = each.model_copy(update={"signatures": tuple(signed[name].values())})
        valid = tuple(verified(ledger, whole.signed_bytes(), mark) for mark in whole.signatures)
        joined.append(GivenStanding(approval=whole, valid=valid))
    return tuple(joined), tuple(troubles), keys


def cancelled(home: Home, ids: Iterable[str]) -> tuple[dict[str, datetime], tuple[str, ...]]:
    """Which of these approvals were taken back by a listed person, and when first; and cancellations that count for
    nothing."""
    ledger, listed = home.ledger(), policy_of(home).listed
    gone: dict[str, datetime] = {}
    doubts: list[str] = []
    for each in ids:
        for key in ledger.list(f"cancelled/{each}/"):
            found = read_as(ledger, key, Cancellation)
            if isinstance(found, str):
                doubts.append(found)
            elif (
                (signed := found.signature) is not None
                and found.approval == each
                and listed.get(signed.key) == found.who
                and verified(ledger, found.signed_bytes(), signed)
            ):
                gone[each] = min(found.at, gone.get(each, found.at))
            else:
                doubts.append(f"the cancellation {key} is not signed by a listed person")
    return gone, tuple(doubts)


def refused(home: Home, digest: str, missing: Missing | Sequence[str], *, subject: str) -> str:
    """Leave a refusal on record, in a signed run of its own; gives the run's name. Raises what the ledger raises."""
    why = missing if isinstance(missing, Missing) else Missing(why=tuple(missing))
    now = home.now()
    run = sha256_of({"refusal": digest, "at": rfc3339(now), "who": home.who, "why": list(why.why)})
    journal = Journal(home.ledger(), run, who=home.who, generation=0, clock=home.now, digest=digest)
    journal.append("refusal", subject, facts={"purpose": "refusal", **facts_of_refusal(digest, why)}, end=now)
    journal.end("refused", home.signer())
    return run


def _spent(ledger: Ledger, approval: str) -> str | None:
    body = ledger.get(f"spent/{approval}.json")
    if body is None:
        return None
    try:
        return Spent.model_validate_json(body).run
    except ValueError:
        return "unreadable"


def _named(ledger: Ledger, prefix: str) -> Approval | StandingApproval:
    if len(prefix) < 8:
        raise BadInput(f"{prefix!r} is too short for an approval", hint="write at least 8 digits, see 'dr show PLAN'")
    found: dict[str, Approval | StandingApproval] = {}
    approvals = (read_as(ledger, key, Approval) for key in ledger.list("approvals/"))
    in_advance = (read_as(ledger, key, StandingApproval) for key in ledger.list("standing/"))
    for read in (*approvals, *in_advance):
        if not isinstance(read, str) and read.id.startswith(prefix):
            found[read.id] = read
    if len(found) != 1:
        fact = f"several approvals begin with {prefix}" if found else f"no approval begins with {prefix}"
        raise BadInput(fact, hint="'dr show PLAN' names the approvals of a plan")
    return next(iter(found.values()))
