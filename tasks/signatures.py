"""ed25519 signatures: making keys, signing, checking. The only place that knows the cryptography library.

Separate because thought takes a signature's validity as a value, and because the library loads slowly: it is imported
when a signature is made or checked, not before. A key's fingerprint is the SHA-256 over its DER form, so that
`openssl pkey -pubin -in KEY.pem -outform DER | sha256sum` prints it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from recovery.errors import BadInput
from recovery.evidence import Signature

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class Signer:
    """Somebody's private key in memory. Callable on bytes; never prints itself."""

    who: str
    fingerprint: str
    public_pem: bytes
    private: Ed25519PrivateKey

    def __call__(self, body: bytes) -> Signature:
        """Sign `body`."""
        return Signature(who=self.who, key=self.fingerprint, ed25519=self.private.sign(body).hex())

    def __repr__(self) -> str:
        return f"Signer({self.who}, {self.fingerprint[:16]})"


def make_private_pem() -> bytes:
    """A new private key, PKCS 8 in PEM, unencrypted: the file's mode protects it."""
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Ed25519PrivateKey.generate()
    return private.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())


def signer(who: str, private_pem: bytes) -> Signer:
    """The signer of a private key. Raises BadInput when the bytes are no ed25519 key."""
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    try:
        private = form.load_pem_private_key(private_pem, password=None)
    except (ValueError, TypeError):
        private = None
    if not isinstance(private, Ed25519PrivateKey):
        raise BadInput(f"the private key of {who} is not an ed25519 key in PEM", hint="make one with 'dr keys make'")
    public = private.public_key()
    pem = public.public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    return Signer(who=who, fingerprint=_fingerprint(public), public_pem=pem, private=private)


def fingerprint(public_pem: bytes) -> str:
    """The fingerprint of a public key, 64 hexadecimal digits. Raises BadInput when the bytes are no ed25519 key."""
    return _fingerprint(_public(public_pem))


def valid(body: bytes, signature: Signature, public_pem: bytes) -> bool:
    """Whether `signature` is of `body` by exactly that key. A key with another fingerprint is not that key."""
    from cryptography.exceptions import InvalidSignature

    public = _public(public_pem)
    if _fingerprint(public) != signature.key:
        return False
    try:
        public.verify(bytes.fromhex(signature.ed25519), body)
    except InvalidSignature:
        return False
    return True


def _public(pem: bytes) -> Ed25519PublicKey:
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        public = form.load_pem_public_key(pem)
    except (ValueError, TypeError):
        public = None
    if not isinstance(public, Ed25519PublicKey):
        raise BadInput("a public key is not an ed25519 key in PEM", hint="take the .pub file that 'dr keys make' wrote")
    return public


def _fingerprint(public: Ed25519PublicKey) -> str:
    from cryptography.hazmat.primitives import serialization as form

    der = public.public_bytes(form.Encoding.DER, form.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()
