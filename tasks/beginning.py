"""The first record of a run that changes roles: written with the engine's signature, and read again as a claim.

Separate from acting.py, which drives the run, and from recovery/begun.py, which knows what the claim says: here are the
keys of this home.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

from pydantic import JsonValue

from recovery.admission import Consents, Start, accepted
from recovery.begun import CONSENT, HAZARDS, SIGNED, Begun, begun, vouched_bytes, voucher
from recovery.evidence import Record, Signature
from recovery.hazard import Hazard
from recovery.plan import Plan
from recovery.value import rfc3339
from tasks import signatures
from tasks.home import Home
from tasks.keys import engine_fingerprints, public_pems
from tasks.ledger_mirrored import silent_of


class Beginning(NamedTuple):
    """A run's first record: when it was admitted, and what it says."""

    at: datetime
    facts: Mapping[str, JsonValue]


def facts(
    home: Home,
    plan: Plan,
    start: Start,
    consents: Consents,
    found: tuple[Hazard, ...],
    *,
    at: datetime,
    outage_since: datetime | None,
) -> dict[str, JsonValue]:
    """What the record says: who consented by which approvals to what, and the hazards of that moment; signed."""
    agreed: list[JsonValue] = [each.model_dump(mode="json") for each in accepted(start, consents)]
    said: dict[str, JsonValue] = {
        "purpose": plan.purpose,
        "arguments": plan.arguments,
        CONSENT: {
            "by": list(start.by),
            "spends": list(start.spends),
            "standing": start.standing,
            "accepted": agreed,
        },
        HAZARDS: [each.words for each in found],
    }
    if outage_since is not None:
        said["outage_since"] = rfc3339(outage_since)
    return {**said, SIGNED: home.signer()(vouched_bytes(plan.run, at, said)).model_dump(mode="json")}


def claim(home: Home, plan: Plan, record: Record) -> Begun:
    """What the record of a run that is taken up claims; vouched for by an engine's key that this home has."""
    return begun(plan, record, vouched=_vouched(home, record))


def heard_by(home: Home, consents: Consents) -> Consents:
    """The same, where what is missing may lie in a copy of the ledger that does not answer: that is said, too."""
    silent = tuple(f"the copy of the ledger at {place} does not answer" for place in silent_of(home.ledger()))
    return replace(consents, troubles=(*consents.troubles, *silent))


def _vouched(home: Home, record: Record) -> bool:
    signed = voucher(record)
    return signed is not None and vouches(home, signed, vouched_bytes(record.run, record.begin, record.facts))


def vouches(home: Home, signed: Signature, body: bytes) -> bool:
    """By an engine's key that lies in this home, or that one of them vouches for (a rotated one)."""
    trusted, public = engines(home, [signed.key])
    pem = public.get(signed.key)
    return signed.key in trusted and pem is not None and signatures.valid(body, signed, pem)


def engines(home: Home, asked: Collection[str]) -> tuple[frozenset[str], dict[str, bytes]]:
    """The keys of engines that count here, and public keys: where all that are asked for lie in this home, the ledger
    is not read for those that were rotated elsewhere."""
    folder = home.folder / "keys"
    trusted, public = engine_fingerprints(folder), public_pems(folder)
    if not trusted.issuperset(asked):
        from tasks.endorsements import endorsed
        from tasks.evidence import public_keys

        public = {**public_keys(home.ledger()), **public}
        trusted = endorsed(home.ledger(), trusted, public)
    return trusted, public
