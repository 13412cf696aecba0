"""Signed approvals that somebody pasted: read from a text, checked, and kept in the ledger like any other.

Separate from the form that they are pasted into: what is kept here counts wherever it came from.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from recovery.approval import Approval, ConsentPolicy, approval_key
from recovery.errors import BadInput
from recovery.plan import Plan
from recovery.value import canonical
from tasks.endorsements import publish
from tasks.home import Home
from tasks.signatures import fingerprint
from tasks.signed import verified
from tasks.store import AlreadyThere


def approvals_in(text: str) -> Iterator[tuple[Approval, bytes | None]]:
    """The approvals in a text, with their public keys where these stand beside them: what `dr approve --json` writes,
    bare documents, or a list of either, one after the other. Raises BadInput."""
    left, decoder = text.strip(), json.JSONDecoder()
    while left:
        try:
            found, end = decoder.raw_decode(left)
        except ValueError:
            raise BadInput(
                "what was pasted is no JSON", hint="paste the whole output of 'dr approve DIGEST --as NAME --json'"
            ) from None
        for each in found if isinstance(found, list) else [found]:
            yield _approval(each)
        left = left[end:].lstrip(", \t\r\n")


def _approval(found: Any) -> tuple[Approval, bytes | None]:
    document = found.get("signed", found) if isinstance(found, dict) else found
    key = found.get("public_key") if isinstance(found, dict) else None
    try:
        return Approval.model_validate(document), key.encode() if isinstance(key, str) else None
    except ValueError:  # no such document, or text that has no bytes
        raise BadInput(
            "what was pasted is no signed approval", hint="paste the whole output of 'dr approve … --json'"
        ) from None


def take(home: Home, plan: Plan, policy: ConsentPolicy, document: Approval, pem: bytes | None) -> None:
    """Keep an approval of that plan by a listed person. Raises BadInput for any other, and keeps nothing of it."""
    who, signed, ledger = document.who, document.signature, home.ledger()
    if document.digest != plan.digest:
        raise BadInput(
            f"the approval of {who} is for plan {document.digest[:12]}, not for {plan.digest[:12]}",
            hint="paste one that was signed for the digest on this form",
        )
    if signed is None or policy.listed.get(signed.key) != who:
        raise BadInput(
            f"the approval of {who} is not signed with a key that the catalog lists for {who}",
            hint="people who may consent are named below consent.approvers of the catalog",
        )
    if pem is not None and fingerprint(pem) == signed.key:
        publish(ledger, pem)
    if not verified(ledger, document.signed_bytes(), signed):
        raise BadInput(
            f"the approval of {who} carries no valid signature",
            hint="paste the whole document that 'dr approve --json' wrote, unchanged",
        )
    with suppress(AlreadyThere):
        ledger.put(approval_key(document), canonical(document))
