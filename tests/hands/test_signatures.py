"""Signatures by a real library, and what openssl says of the same bytes."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from recovery.errors import BadInput
from tasks.signatures import fingerprint, make_private_pem, signer, valid

ALICE = signer("alice", make_private_pem())
MALLORY = signer("alice", make_private_pem())
BODY = b"what was shown"


def test_a_signature_is_of_those_bytes_by_that_key_and_no_other() -> None:
    signed = ALICE(BODY)
    assert (signed.who, signed.key) == ("alice", ALICE.fingerprint)
    assert valid(BODY, signed, ALICE.public_pem)
    assert not valid(BODY + b"!", signed, ALICE.public_pem)
    assert not valid(BODY, signed, MALLORY.public_pem)
    assert not valid(BODY, signed.model_copy(update={"ed25519": "0" * 128}), ALICE.public_pem)


def test_a_signature_that_names_another_key_is_not_valid_by_the_right_one() -> None:
    assert not valid(BODY, ALICE(BODY).model_copy(update={"key": MALLORY.fingerprint}), ALICE.public_pem)


def test_a_signer_never_prints_its_key() -> None:
    assert repr(ALICE) == f"Signer(alice, {ALICE.fingerprint[:16]})"


@pytest.mark.parametrize("pem", [b"", b"rubbish", ALICE.public_pem])
def test_what_is_no_private_key_is_refused_without_showing_it(pem: bytes) -> None:
    with pytest.raises(BadInput, match="the private key of bob is not an ed25519 key") as caught:
        signer("bob", pem)
    assert "BEGIN" not in str(caught.value)


@pytest.mark.parametrize("pem", [b"", b"rubbish", make_private_pem()])
def test_what_is_no_public_key_is_refused(pem: bytes) -> None:
    with pytest.raises(BadInput, match="not an ed25519 key"):
        fingerprint(pem)


def test_a_key_of_another_kind_is_refused() -> None:
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    private = X25519PrivateKey.generate()
    with pytest.raises(BadInput):
        signer("bob", private.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()))
    with pytest.raises(BadInput):
        fingerprint(private.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo))


def test_openssl_agrees_on_signature_and_fingerprint(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    (tmp_path / "key.pem").write_bytes(ALICE.public_pem)
    (tmp_path / "body").write_bytes(BODY)
    (tmp_path / "sig").write_bytes(bytes.fromhex(ALICE(BODY).ed25519))
    verify = [
        "openssl",
        "pkeyutl",
        "-verify",
        "-pubin",
        "-inkey",
        "key.pem",
        "-rawin",
        "-in",
        "body",
        "-sigfile",
        "sig",
    ]
    assert subprocess.run(verify, cwd=tmp_path, check=False, capture_output=True).returncode == 0
    der = ["openssl", "pkey", "-pubin", "-in", "key.pem", "-outform", "DER"]
    told = subprocess.run(der, cwd=tmp_path, check=True, capture_output=True).stdout
    assert hashlib.sha256(told).hexdigest() == ALICE.fingerprint == fingerprint(ALICE.public_pem)


def test_the_library_is_not_loaded_before_something_is_signed() -> None:
    code = "import sys, tasks.journal, tasks.evidence, tasks.keys; sys.exit('cryptography' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
