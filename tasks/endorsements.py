"""Endorsements: a key vouches for the one that follows it, so that a rotation needs no new list of trusted keys.

Separate from keys.py, which knows files of private keys: an auditor has none. Stored in the ledger at
`keys/FINGERPRINT.by-FINGERPRINT.json`, beside the public keys at `keys/FINGERPRINT.pem`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from recovery.evidence import Signature
from recovery.value import Instant, Value, canonical
from tasks import signatures
from tasks.ledger import Ledger
from tasks.store import AlreadyThere


class Endorsement(Value):
    """`signature.key` says that `key`, of that name and role, may sign in its place from `at` on."""

    schema_version: Literal[1] = 1
    key: str
    name: str
    role: str
    at: Instant
    signature: Signature | None = None

    def signed_bytes(self) -> bytes:
        """What the signature covers."""
        return canonical(self.model_copy(update={"signature": None}))


def publish(ledger: Ledger, public_pem: bytes) -> str:
    """Put a public key into the ledger; gives its fingerprint. There already is fine: the name is the content."""
    name = signatures.fingerprint(public_pem)
    _put(ledger, f"keys/{name}.pem", public_pem)
    return name


def endorse(ledger: Ledger, endorsement: Endorsement, by: signatures.Signer) -> None:
    """Sign `endorsement` and store it."""
    signed = endorsement.model_copy(update={"signature": by(endorsement.signed_bytes())})
    _put(ledger, f"keys/{endorsement.key}.by-{by.fingerprint}.json", canonical(signed))


def endorsed(ledger: Ledger, trusted: frozenset[str], public: Mapping[str, bytes]) -> frozenset[str]:
    """`trusted` and every key that one of them vouched for, directly or through others."""
    edges = list(_edges(ledger, public))
    found = trusted
    for _ in range(len(edges) + 1):
        more = found | {key for by, key in edges if by in found}
        if more == found:
            break
        found = more
    return found


def _edges(ledger: Ledger, public: Mapping[str, bytes]) -> list[tuple[str, str]]:
    edges: list[tuple[str, str]] = []
    for key in ledger.list("keys/"):
        if not key.endswith(".json"):
            continue
        try:
            said = Endorsement.model_validate_json(ledger.get(key) or b"")
        except ValueError:
            continue  # what it vouched for stays untrusted, which the runs signed by it then say
        pem = public.get(said.signature.key) if said.signature is not None else None
        if said.signature and pem and signatures.valid(said.signed_bytes(), said.signature, pem):
            edges.append((said.signature.key, said.key))
    return edges


def _put(ledger: Ledger, key: str, body: bytes) -> None:
    try:
        ledger.put(key, body)
    except AlreadyThere:
        return
