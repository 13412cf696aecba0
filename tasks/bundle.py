"""The offline bundle as a file: a zip of plain files, a manifest of their SHA-256, and the engine's signature over it.

Separate from what is put in (tasks/bundling.py) and from using it (tasks/bundled.py): here is only what makes one
believable. It is checked before anything of it is unpacked, and with stock tools: README.md inside says how.
"""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from recovery.errors import BadInput, Failed, Refused
from recovery.evidence import Signature
from recovery.value import Instant, Value, canonical
from tasks import signatures

FRESH = timedelta(days=7)
"""The refresh is daily: a bundle older than this tells of a schedule that has failed for a week."""
MOST_BYTES = 64_000_000
MOST_FILES = 2000
MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"
_END_BYTES, _HEADERS_BYTES = 22, 30 + 46
"""Of a zip's end, and of each file's two headers beside its name and content: `_add` writes nothing else."""
_EPOCH = (1980, 1, 1, 0, 0, 0)


class BundleManifest(Value):
    """What is in a bundle: each file's SHA-256, and what it was made from. `key`: the fingerprint that signs it."""

    schema_version: Literal[1] = 1
    catalog: str
    made_at: Instant
    made_by: str
    key: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    engine_version: str
    runbooks: dict[str, str]
    """Runbook → its version."""
    epochs: dict[str, int]
    """Service → the epoch it was in."""
    files: dict[str, Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Bundle:
    """A bundle whose every byte was checked. `digest` is the file's own SHA-256."""

    manifest: BundleManifest
    files: Mapping[str, bytes]
    digest: str


def write(path: Path, draft: BundleManifest, files: Mapping[str, bytes], sign: signatures.Signer) -> BundleManifest:
    """Write the bundle, whole or not at all; gives the manifest as signed."""
    hashes = {name: hashlib.sha256(body).hexdigest() for name, body in sorted(files.items())}
    manifest = draft.but(files=hashes, key=sign.fingerprint)
    body = canonical(manifest)
    sums = "".join(f"{mark}  {name}\n" for name, mark in hashes.items())
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", compression=zipfile.ZIP_DEFLATED) as out:
        _add(out, MANIFEST, body)
        _add(out, SIGNATURE, bytes.fromhex(sign(body).ed25519))
        _add(out, "SHA256SUMS", sums.encode())
        for name, each in sorted(files.items()):
            _add(out, name, each)
    made = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with made.open("wb") as sink:
            sink.write(packed.getvalue())
            sink.flush()
            os.fsync(sink.fileno())
        made.replace(path)
    except OSError as error:
        made.unlink(missing_ok=True)
        raise Failed(
            f"the bundle {path} could not be written: {(error.strerror or 'unknown').lower()}",
            hint="see the folder and its disk, or name another file with --out",
        ) from None
    return manifest


def read(path: Path, *, trusted: Collection[str], now: datetime, stale: bool = False) -> Bundle:
    """A bundle, checked: signed by a trusted key, no byte changed, made within FRESH (`stale`: however old).

    Raises BadInput for what is no bundle, Refused for one that is not to be believed.
    """
    raw = _raw(path)
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as packed:
            files = _unzipped(path, packed, len(raw))
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, RuntimeError, EOFError, OSError) as error:
        raise _tampered(path, f"it cannot be read whole ({error})") from None
    if MANIFEST not in files or SIGNATURE not in files:
        raise BadInput(f"{path} is no bundle", hint="make one where the home is: dr bundle --out FILE")
    body, mark = files.pop(MANIFEST), files.pop(SIGNATURE)
    files.pop("SHA256SUMS", None)
    manifest = _manifest(path, body)
    _signed(path, manifest, body, mark, files, trusted)
    for name, wanted in manifest.files.items():
        if name not in files:
            raise _tampered(path, f"{name} is missing")
        if hashlib.sha256(files[name]).hexdigest() != wanted:
            raise _tampered(path, f"{name} was changed")
    if stray := sorted(set(files) - set(manifest.files)):
        raise _tampered(path, f"{stray[0]} does not belong to it")
    age = now - manifest.made_at
    if age > FRESH and not stale:
        raise Refused(
            f"the bundle is {age.days} days old (made {manifest.made_at:%Y-%m-%d %H:%M} UTC): addresses, keys and "
            "roles in it may be out of date",
            hint="fetch the newest one; is there none: --stale takes it all the same, compare its catalog first",
        )
    return Bundle(manifest=manifest, files=files, digest=hashlib.sha256(raw).hexdigest())


def _signed(
    path: Path, manifest: BundleManifest, body: bytes, mark: bytes, files: Mapping[str, bytes], trusted: Collection[str]
) -> None:
    if not trusted:
        raise Refused(
            f"nobody has said whose signature to believe; the bundle says that {manifest.key} signed it",
            hint="compare that with what 'dr keys list' shows at the home, or a printed page, then: --trust FINGERPRINT"
            " (or copy the home's keys/engine.pub into keys/ of your own folder, which is believed from then on)",
        )
    if manifest.key not in trusted:
        raise Refused(
            f"the bundle is signed by {manifest.key[:16]}, which is not trusted here",
            hint=f"trusted: {', '.join(sorted(each[:16] for each in trusted))}; was the engine's key rotated? Ask at "
            f"the home ('dr keys list'), then: --trust {manifest.key}",
        )
    pem = files.get(f"public/{manifest.key}.pem")
    signature = Signature(who="engine", key=manifest.key, ed25519=mark.hex()) if len(mark) == 64 else None
    if pem is None or signature is None or not _valid(body, signature, pem):
        raise _tampered(path, "its signature is not valid")


def _valid(body: bytes, signature: Signature, pem: bytes) -> bool:
    try:
        return signatures.valid(body, signature, pem)
    except BadInput:  # what lies there is no key: nothing is signed by it
        return False


def _manifest(path: Path, body: bytes) -> BundleManifest:
    try:
        return BundleManifest.model_validate_json(body)
    except ValidationError:
        raise _tampered(path, "its manifest cannot be read") from None


def _raw(path: Path) -> bytes:
    try:
        with path.open("rb") as source:
            raw = source.read(MOST_BYTES + 1)
    except OSError as error:
        why = (error.strerror or "unknown").lower()
        raise BadInput(f"cannot read the bundle {path}: {why}", hint="name the file that 'dr bundle' wrote") from None
    if len(raw) > MOST_BYTES:
        raise BadInput(f"{path} is larger than {MOST_BYTES} bytes", hint="is this a bundle?")
    return raw


def _unzipped(path: Path, packed: zipfile.ZipFile, size: int) -> dict[str, bytes]:
    """The files by name. A name twice, outside the bundle, or too much of anything is no bundle of ours; nor is a file
    with bytes before, between or behind its members, which unzipping passes over."""
    infos = packed.infolist()
    names = [each.filename for each in infos]
    if len(infos) > MOST_FILES or sum(each.file_size for each in infos) > MOST_BYTES:
        raise _tampered(path, "it holds more than any bundle does")
    if len(set(names)) != len(names) or not all(map(_inside, names)):
        raise _tampered(path, "it holds names that no bundle has")
    if size != _END_BYTES + sum(_HEADERS_BYTES + 2 * len(each.encode()) for each in names) + sum(
        each.compress_size for each in infos
    ):
        raise _tampered(path, "it holds bytes that belong to none of its files")
    return {each.filename: packed.read(each) for each in infos}


def _inside(name: str) -> bool:
    parts = PurePosixPath(name).parts
    plain = not name.startswith("/") and not name.endswith("/") and "\\" not in name
    return plain and bool(parts) and ".." not in parts


def _add(out: zipfile.ZipFile, name: str, body: bytes) -> None:
    """Always the same bytes for the same content: no clock, no owner."""
    info = zipfile.ZipInfo(name, date_time=_EPOCH)
    info.external_attr = 0o644 << 16
    info.compress_type = zipfile.ZIP_DEFLATED
    out.writestr(info, body)


def _tampered(path: Path, what: str) -> Refused:
    return Refused(
        f"the bundle {path.name} is not as it was signed: {what}",
        hint="do not use it: fetch it again from where it was made, or another copy; printed pages are a way, too",
    )
