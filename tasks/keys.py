"""Keys in the home's folder: the engine's, the approvers', and those that backups are encrypted with.

Separate from signatures.py, which knows no files. `NAME.ed25519` is a private key (PEM, mode 0600), `NAME.pub` its
public one; `NAME.FINGERPRINT.pub` are those it had before, kept so that nothing signed is ever lost. `NAME.aes` is a
backup key (32 bytes, base64); `NAME.FINGERPRINT.aes` are those before, kept so that old backups stay readable.
"""

from __future__ import annotations

import base64
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from recovery.errors import BadInput, Failed
from recovery.value import Instant, Value
from tasks import signatures
from tasks.postgres import seal

Role = Literal["approver", "engine", "backup"]
ENGINE = "engine"
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class KeyCard(Value):
    """What may be told of a key. `private`: this machine could use it. A retired one only verifies or reads."""

    name: str
    role: Role
    fingerprint: str
    retired: bool
    private: bool
    changed_at: Instant


def make(folder: Path, name: str, role: Role) -> KeyCard:
    """Make a key. Raises BadInput for a bad name, or when there is one of that name: `rotate` follows it up."""
    _refuse_name(name, role)
    if any(_paths(folder, name)):
        raise BadInput(
            f"there is a key named {name} already", hint=f"'dr keys rotate {name}' makes the one that follows"
        )
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        why = (error.strerror or "unknown").lower()
        hint = "it is to be a folder of this user; see the home's mode and its disk"
        raise BadInput(f"the folder of keys {folder} cannot be made: {why}", hint=hint) from None
    if role == "backup":
        _write(folder / f"{name}.aes", _new_aes())
    else:
        private = signatures.make_private_pem()
        _write(folder / f"{name}.ed25519", private)
        _write(folder / f"{name}.pub", signatures.signer(name, private).public_pem, mode=0o644)
    return _current(folder, name)


def rotate(folder: Path, name: str) -> tuple[KeyCard, signatures.Signer | None]:
    """Make the key that follows; the public (for backups: the whole) old one stays.

    Gives the new card and, for a signing key, the old signer, so that it can vouch for the new one.
    """
    _refuse_word(name)
    if (old := folder / f"{name}.aes").is_file():
        body = old.read_bytes()
        _write(folder / f"{name}.{_aes(old).fingerprint}.aes", body, replace=True)
        _write(old, _new_aes(), replace=True)
        return _current(folder, name), None
    before = signer(folder, name)
    _write(folder / f"{name}.{before.fingerprint}.pub", before.public_pem, mode=0o644, replace=True)
    private = signatures.make_private_pem()
    _write(folder / f"{name}.ed25519", private, replace=True)
    _write(folder / f"{name}.pub", signatures.signer(name, private).public_pem, mode=0o644, replace=True)
    return _current(folder, name), before


def cards(folder: Path) -> tuple[KeyCard, ...]:
    """All keys of the folder, the current ones first within their name. Raises BadInput where it is no folder."""
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"{folder} is not a folder", hint="keys live in HOME/keys; move away what lies there")
    found = [card for path in sorted(folder.glob("*")) if (card := _card(folder, path)) is not None]
    return tuple(sorted(found, key=lambda card: (card.name, card.retired, card.fingerprint)))


def signer(folder: Path, name: str) -> signatures.Signer:
    """The signer of that name. Raises BadInput when there is no such private key here or when others can read it."""
    path = folder / f"{name}.ed25519"
    try:
        body, mode = path.read_bytes(), path.stat().st_mode
    except OSError:
        raise BadInput(
            f"there is no private key of {name} in {folder}", hint=f"make it with 'dr keys make {name}'"
        ) from None
    if mode & 0o077:
        raise BadInput(
            f"the private key {path} can be read by others (mode {mode & 0o777:o})",
            hint=f"chmod 600 {path}, and rotate it if others use this machine",
        )
    return signatures.signer(name, body)


def public_pems(folder: Path) -> dict[str, bytes]:
    """Every public signing key of the folder, present and past, by fingerprint."""
    found: dict[str, bytes] = {}
    for path in sorted(folder.glob("*.pub")):
        pem = path.read_bytes()
        found[signatures.fingerprint(pem)] = pem
    return found


def engine_fingerprints(folder: Path) -> frozenset[str]:
    """The engine's keys of this home, present and past: those that may sign manifests."""
    return frozenset(card.fingerprint for card in cards(folder) if card.role == "engine")


def backup_keys(folder: Path, name: str) -> dict[str, seal.Key]:
    """The backup keys of that name by fingerprint: the current one, which new backups use, then all past ones.

    Raises BadInput when this home doesn't have it.
    """
    past = sorted(folder.glob(f"{name}.*.aes"))
    return seal.keyring([f"file:{path}" for path in (folder / f"{name}.aes", *past)])


def _card(folder: Path, path: Path) -> KeyCard | None:
    name, *past = path.stem.split(".")
    at = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    match path.suffix:
        case ".aes":
            mark = _aes(path).fingerprint
            return KeyCard(name=name, role="backup", fingerprint=mark, retired=bool(past), private=True, changed_at=at)
        case ".pub":
            role: Role = "engine" if name == ENGINE or name.startswith(f"{ENGINE}-") else "approver"
            private = not past and (folder / f"{name}.ed25519").is_file()
            mark = signer(folder, name).fingerprint if private else signatures.fingerprint(path.read_bytes())
            return KeyCard(name=name, role=role, fingerprint=mark, retired=bool(past), private=private, changed_at=at)
    return None


def _current(folder: Path, name: str) -> KeyCard:
    return next(card for card in cards(folder) if card.name == name and not card.retired)


def _paths(folder: Path, name: str) -> Iterator[Path]:
    return (path for end in ("ed25519", "pub", "aes") if (path := folder / f"{name}.{end}").exists())


def _refuse_word(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise BadInput(f"{name!r} is not a name for a key", hint="use lower-case letters, digits and '-', at most 63")


def _refuse_name(name: str, role: Role) -> None:
    _refuse_word(name)
    is_engine = name == ENGINE or name.startswith(f"{ENGINE}-")
    if is_engine != (role == "engine"):
        raise BadInput(
            f"a key named {name} cannot have the role {role}",
            hint=f"names of engines' keys are '{ENGINE}' or begin with '{ENGINE}-', and no others do",
        )


def _new_aes() -> bytes:
    return base64.b64encode(secrets.token_bytes(32)) + b"\n"


def _aes(path: Path) -> seal.Key:
    return seal.load(f"file:{path}")


def _write(path: Path, body: bytes, *, mode: int = 0o600, replace: bool = False) -> None:
    """Durably, with that mode from its first moment, whole or not at all."""
    made = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        handle = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(handle, "wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            made.replace(path)
        else:
            os.link(made, path)
            made.unlink()
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
    except OSError as error:
        with suppress(OSError):  # a file system that takes nothing lets nothing be removed either
            made.unlink()
        raise Failed(
            f"the key {path} could not be written: {error.strerror}", hint="see the folder's mode and its disk"
        ) from error
