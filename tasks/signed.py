"""Signed documents in the ledger: stored with the public key that verifies them, read, verified.

Separate from what they say (approvals, cancellations, orders): anybody who finds one verifies it with what lies beside
it, offline. A wrong key has another fingerprint, so it verifies nothing.
"""

from __future__ import annotations

from typing import TypeVar

from recovery.errors import BadInput
from recovery.evidence import Signature
from recovery.value import Value, canonical
from tasks import signatures
from tasks.endorsements import publish
from tasks.ledger import Ledger
from tasks.store import AlreadyThere

V = TypeVar("V", bound=Value)


def verified(ledger: Ledger, body: bytes, signed: Signature) -> bool:
    """Whether the signature is of these bytes by the key that it names, as the ledger holds it."""
    pem = ledger.get(f"keys/{signed.key}.pem")
    try:
        return pem is not None and signatures.valid(body, signed, pem)
    except BadInput:  # what lies there is no key: nothing is signed by it
        return False


def keep_signed(ledger: Ledger, key: str, document: Value, sign: signatures.Signer) -> None:
    """Store a signed document, its public key first. Writing the same again is fine."""
    publish(ledger, sign.public_pem)
    try:
        ledger.put(key, canonical(document))
    except AlreadyThere:
        return


def read_as(ledger: Ledger, key: str, sort: type[V]) -> V | str:
    """A stored document, or in words that it cannot be read: it then counts for nothing, and is told."""
    try:
        return sort.model_validate_json(ledger.get(key) or b"")
    except ValueError:
        return f"the document {key} cannot be read and counts for nothing"
