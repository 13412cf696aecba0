"""Encryption of what leaves for a bucket: AES-256-GCM, keys by reference, many keys known by fingerprint.

Separate because the mover, the WAL archiver and the printed instructions must agree on the bytes. Each object has a key
of its own, derived (HKDF-SHA256) from the named key and a random salt in the object's header, so that frame numbers can
serve as nonces without ever repeating one under the same key. Rotation: new backups use the new key, old ones are found
by the fingerprint of theirs; a key is dropped when no kept backup names it.

Form of a sealed object: `SFENC1` and two zero bytes, salt (16 bytes), then frames: length (4 bytes, big endian, of what
follows), ciphertext and tag. Nonce: the frame's number from 0 as 12 bytes, big endian. Additional data: none; order and
completeness are the index's business.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from recovery.errors import BadInput, Failed

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MAGIC = b"SFENC1\0\0"
HEADER_BYTES = 24
TAG_BYTES = 16
INFO = b"standfast object key"


@dataclass(frozen=True, slots=True)
class Key:
    """32 secret bytes; shown only as their fingerprint."""

    secret: bytes

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that name the key and tell nothing about it."""
        return hashlib.sha256(b"standfast key\0" + self.secret).hexdigest()[:16]

    def __repr__(self) -> str:
        return f"Key({self.fingerprint})"


Keys = Mapping[str, Key]
"""Keys by fingerprint."""


def load(reference: str) -> Key:
    """The key behind `file:PATH` or `env:NAME`: 32 raw bytes, or these in hexadecimal or base64. Raises BadInput."""
    scheme, _, rest = reference.partition(":")
    if scheme == "file":
        try:
            raw = Path(rest).read_bytes()
        except OSError as error:
            raise BadInput(
                f"the key file {rest} can't be read: {error.strerror}",
                hint="restore it from where the keys are kept, or correct its path (relative: from the home)",
            ) from None
    elif scheme == "env":
        raw = os.environb.get(rest.encode(), b"")
    else:
        raise BadInput(f"a key reference begins with {scheme!r}", hint="write file:PATH or env:NAME")
    secret = _decoded(raw)
    if secret is None:
        raise BadInput(
            f"{reference} holds no key of 32 bytes",
            hint="make one with: openssl rand -hex 32, and keep a copy elsewhere",
        )
    return Key(secret)


def keyring(references: Iterable[str]) -> dict[str, Key]:
    """All keys of these references by fingerprint; the first is the one that new backups use."""
    return {key.fingerprint: key for key in map(load, references)}


def chosen(keys: Keys, fingerprint: str) -> Key:
    """The key of that fingerprint. Raises BadInput when it is not among these."""
    if fingerprint not in keys:
        known = ", ".join(sorted(keys)) or "none"
        raise BadInput(
            f"it is encrypted with the key {fingerprint}; the keys at hand are: {known}",
            hint="name the file of that key among the backup keys; after a rotation the old keys must stay listed",
        )
    return keys[fingerprint]


@dataclass(frozen=True, kw_only=True)
class Sealer:
    """Seals or opens the frames of one object; thread-safe."""

    salt: bytes
    cipher: AESGCM

    @property
    def header(self) -> bytes:
        """The object's first HEADER_BYTES."""
        return MAGIC + self.salt

    def seal(self, number: int, frame: bytes) -> bytes:
        """Length, ciphertext and tag of frame `number`."""
        body = self.cipher.encrypt(number.to_bytes(12, "big"), frame, None)
        return len(body).to_bytes(4, "big") + body

    def open(self, number: int, stored: bytes | memoryview) -> bytes:
        """The frame behind what `seal` gave. Raises Failed when it is not exactly that, at that place, by that key."""
        from cryptography.exceptions import InvalidTag

        try:
            return self.cipher.decrypt(number.to_bytes(12, "big"), bytes(stored[4:]), None)
        except InvalidTag:
            raise Failed(
                f"encrypted frame {number} does not open: it was altered, moved, or sealed by another key",
                hint="restore from another backup or another site's copy",
            ) from None


def sealer(key: Key, salt: bytes | None = None) -> Sealer:
    """The sealer of a new object, or of the object with that salt."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    salt = os.urandom(16) if salt is None else salt
    derived = HKDF(algorithm=SHA256(), length=32, salt=salt, info=INFO).derive(key.secret)
    return Sealer(salt=salt, cipher=AESGCM(derived))


def seal(key: Key, body: bytes) -> bytes:
    """A small object, sealed whole as one frame."""
    by = sealer(key)
    return by.header + by.seal(0, body)


def unseal(key: Key, sealed: bytes) -> bytes:
    """What `seal` was given. Raises Failed for anything altered or of another key."""
    if sealed[: len(MAGIC)] != MAGIC or len(sealed) < HEADER_BYTES + 4 + TAG_BYTES:
        raise Failed("the object is not sealed, though it should be", hint="restore from another copy")
    return sealer(key, sealed[8:HEADER_BYTES]).open(0, sealed[HEADER_BYTES:])


def _decoded(raw: bytes) -> bytes | None:
    if len(raw) == 32:
        return raw
    text = raw.strip()
    for decode in (binascii.unhexlify, base64.b64decode):
        try:
            secret = decode(text)
        except (binascii.Error, ValueError):
            continue
        if len(secret) == 32:
            return secret
    return None
