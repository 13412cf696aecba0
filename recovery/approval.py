"""Approvals: consent of named persons to a plan and to each of its hazards, now or in advance. Pure; see PLAN.md.

Separate from signing: whether a signature matches is an effect of a library and enters as `valid`. Consent is counted
here by persons and keys, and whatever is missing is said in full, since a refusal is evidence too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Literal, Self

from pydantic import Field, JsonValue, SerializerFunctionWrapHandler, model_serializer, model_validator

from recovery.evidence import Signature
from recovery.hazard import Acceptance, Hazard, uncovered
from recovery.step import Mode, Name
from recovery.value import Instant, Value, canonical, rfc3339, sha256_of

FORM = "prefect-ui"
"""The name under which a form in the Prefect UI signs: it is counted at most once and never as a person."""
DIRECTIONLESS = (
    "names no site that takes over: nobody consented to a direction; it is signed anew with 'dr approve --standing NAME"
    " --as WHO'"
)
MOST_STANDING = timedelta(days=90)


class Approval(Value):
    """One person's consent to one plan: `digest`, in its `epoch`, with these hazards, in this variant, until then."""

    schema_version: Literal[1] = 1
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    epoch: Annotated[int, Field(ge=0)]
    who: Annotated[str, Field(min_length=1)]
    accepted: tuple[Acceptance, ...] = ()
    variant: Mode = Mode.GRACEFUL
    """Ungraceful allows both: who consents to the worse consents to the better."""
    made_at: Instant
    expires_at: Instant
    signature: Signature | None = None

    def signed_bytes(self) -> bytes:
        """What the signature covers."""
        return canonical(self.model_copy(update={"signature": None}))

    @property
    def id(self) -> str:
        """Names the approval, whatever its signature: 64 hexadecimal digits."""
        return sha256_of(self.model_copy(update={"signature": None}))


class StandingApproval(Value):
    """Consent in advance, signed N-of-M: any plan of a runbook for a service to that site, under those conditions.

    `conditions` name probes and for how many seconds each must have failed. `to` is the site that takes over; None of
    one that was signed before there was such a word, which admits nothing. Raises ValueError beyond 90 days.
    """

    schema_version: Literal[1] = 1
    runbook: Name
    service: Name
    to: Name | None = None
    conditions: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(min_length=1)
    accepted: tuple[Acceptance, ...] = ()
    variant: Mode = Mode.UNGRACEFUL
    made_at: Instant
    expires_at: Instant
    signatures: tuple[Signature, ...] = ()

    @model_serializer(mode="wrap")
    def _as_signed(self, plain: SerializerFunctionWrapHandler) -> dict[str, JsonValue]:
        """One without a direction keeps the bytes that people signed."""
        found: dict[str, JsonValue] = plain(self)
        return {name: each for name, each in found.items() if name != "to" or each is not None}

    @model_validator(mode="after")
    def _not_for_ever(self) -> Self:
        if self.expires_at - self.made_at > MOST_STANDING:
            raise ValueError(f"a standing approval lasts at most {MOST_STANDING.days} days")
        return self

    def signed_bytes(self) -> bytes:
        """What each signature covers."""
        return canonical(self.model_copy(update={"signatures": ()}))

    @property
    def id(self) -> str:
        """Names the approval, whoever has signed it yet."""
        return sha256_of(self.model_copy(update={"signatures": ()}))


@dataclass(frozen=True, kw_only=True, slots=True)
class Given:
    """An approval as it was found, and whether its signature is truly of it by the key that it names."""

    approval: Approval
    valid: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class GivenStanding:
    """A standing approval as it was found; `valid` has one word for each of its signatures."""

    approval: StandingApproval
    valid: tuple[bool, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ConsentPolicy:
    """How many must agree, and whose keys count: fingerprint → the person (or `prefect-ui`) who holds it."""

    n_of_m: int
    listed: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What is to be admitted: the plan by its digest, and what was computed and observed just now."""

    digest: str
    epoch: int
    runbook: str
    service: str
    mode: Mode
    to: str = ""
    """For standing approvals: the site that takes over."""
    hazards: tuple[Hazard, ...] = ()
    failing_seconds: Mapping[str, float] | None = None
    """For standing approvals: how long each probe has failed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Admitted:
    """The plan may run; `by` are the names counted and `spends` the ids of approvals that this run spends."""

    by: tuple[str, ...]
    spends: tuple[str, ...]
    standing: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Missing:
    """The plan may not run: every reason, for people and for the record."""

    why: tuple[str, ...]


def admitted(
    asked: Asked,
    given: Sequence[Given],
    policy: ConsentPolicy,
    *,
    spent: Mapping[str, str],
    now: datetime,
    cancelled: Collection[str] = (),
    standing: Sequence[GivenStanding] = (),
) -> Admitted | Missing:
    """Whether enough persons consent to the plan and each of them to each hazard.

    `spent` maps an approval's id to the run that spent it: that run may resume by it, no other may start.
    `cancelled` are the ids of approvals, also standing ones, that were taken back.
    A standing approval that applies admits by itself.
    """
    refused: list[str] = []
    for each in standing:
        trouble = _standing_trouble(each, asked, policy, cancelled, now)
        if trouble is None:
            by = tuple(sorted(_standing_names(each, policy)))
            return Admitted(by=by, spends=(), standing=each.approval.id)
        refused.append(f"the standing approval {each.approval.id[:8]} {trouble}")
    counted: dict[str, str] = {}
    for one in given:
        trouble = _trouble(one, asked, policy, spent, cancelled, now)
        if trouble is None:
            counted.setdefault(policy.listed[_key(one.approval)], one.approval.id)
        else:
            refused.append(f"the approval of {one.approval.who} {trouble}")
    lacking = _lacking(set(counted), policy.n_of_m)
    if lacking is None:
        return Admitted(by=tuple(sorted(counted)), spends=tuple(sorted(counted.values())))
    return Missing(why=(lacking, *refused))


def _lacking(names: set[str], n_of_m: int) -> str | None:
    """What is missing from the count. The form fills the place where one is enough, none where persons are asked."""
    wanted = max(1, n_of_m)
    persons = len(names - {FORM})
    if persons >= wanted or (wanted == 1 and FORM in names):
        return None
    form = f" ({FORM} is no person)" if FORM in names else ""
    return f"{persons} of {wanted} approvals{form}"


def _trouble(
    one: Given,
    asked: Asked,
    policy: ConsentPolicy,
    spent: Mapping[str, str],
    cancelled: Collection[str],
    now: datetime,
) -> str | None:
    approval = one.approval
    key = _key(approval)
    run = spent.get(approval.id)
    return _first(
        (not one.valid, "carries no valid signature"),
        (key not in policy.listed, f"is signed with a key that is not listed ({key[:16] or 'none'})"),
        (policy.listed.get(key) != approval.who, "is signed with somebody else's key"),
        (approval.digest != asked.digest, f"is for another plan ({approval.digest[:8]})"),
        (approval.epoch != asked.epoch, f"is for epoch {approval.epoch}; the service is in epoch {asked.epoch}"),
        (approval.id in cancelled, "was cancelled"),
        (run is not None and run != asked.digest, f"was spent by run {(run or '')[:8]}"),
        # The expiry bounds the start, also of a run whose engine died between spending and beginning. Whoever resumes
        # one that has begun is not asked for consent again (recovery/admission.py): half a change is no safe place.
        (now >= approval.expires_at, f"expired at {rfc3339(approval.expires_at)}"),
        _variant(approval.variant, asked.mode),
        _hazards(asked.hazards, approval.accepted),
    )


def _standing_trouble(
    one: GivenStanding, asked: Asked, policy: ConsentPolicy, cancelled: Collection[str], now: datetime
) -> str | None:
    approval = one.approval
    failing = asked.failing_seconds or {}
    unmet = [probe for probe, least in approval.conditions.items() if not failing.get(probe, 0.0) >= least]
    lacking = _lacking(_standing_names(one, policy) - {FORM}, policy.n_of_m)
    return _first(
        (approval.id in cancelled, "was cancelled"),
        (approval.runbook != asked.runbook, f"is for the runbook {approval.runbook}"),
        (approval.service != asked.service, f"is for the service {approval.service}"),
        (approval.to is None, DIRECTIONLESS),
        (approval.to != asked.to, f"is for {approval.to} to take over"),
        (lacking is not None, f"carries {lacking}"),
        (now < approval.made_at, f"begins at {rfc3339(approval.made_at)}"),
        (now >= approval.expires_at, f"expired at {rfc3339(approval.expires_at)}"),
        (bool(unmet), f"waits for its conditions: {', '.join(sorted(unmet))}"),
        _variant(approval.variant, asked.mode),
        _hazards(asked.hazards, approval.accepted),
    )


def _standing_names(one: GivenStanding, policy: ConsentPolicy) -> set[str]:
    """The persons whose listed keys signed it. A signature that wasn't checked is none."""
    checked = zip(one.approval.signatures, one.valid, strict=False)
    return {
        signature.who for signature, valid in checked if valid and policy.listed.get(signature.key) == signature.who
    }


def _variant(allowed: Mode, asked: Mode) -> tuple[bool, str]:
    return asked is Mode.UNGRACEFUL and allowed is Mode.GRACEFUL, "allows only the graceful variant"


def _hazards(hazards: Sequence[Hazard], accepted: Sequence[Acceptance]) -> tuple[bool, str]:
    left = uncovered(hazards, accepted)
    return bool(left), f"does not accept {', '.join(hazard.words for hazard in left)}"


def _first(*questions: tuple[bool, str]) -> str | None:
    return next((words for wrong, words in questions if wrong), None)


def _key(approval: Approval) -> str:
    return approval.signature.key if approval.signature is not None else ""


def approval_key(approval: Approval) -> str:
    """Where an approval lives in a ledger: beside the others of its plan."""
    return f"approvals/{approval.digest}/{approval.id}.json"


def standing_key(approval: StandingApproval) -> str:
    """Where a standing approval lives, complete with its signatures: each set of them is a document of its own."""
    return f"standing/{approval.service}/{sha256_of(approval)}.json"


def facts_of_refusal(digest: str, missing: Missing) -> dict[str, JsonValue]:
    """The facts of the record that a refusal leaves (kind `refusal`)."""
    return {"plan": digest, "why": list(missing.why)}
