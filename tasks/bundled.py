"""Using an offline bundle: believed, unpacked into a private folder, and from then on a home like any other.

Separate from checking the file. What the operator brings is linked in and never copied: private keys, and the secrets
that the catalog's relative references name. The operator's folder needs nothing else, and may be empty.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Collection, Sequence
from datetime import datetime
from pathlib import Path

from recovery.errors import BadInput, Failed
from tasks import bundle, signatures
from tasks.bundle import Bundle
from tasks.keys import ENGINE, engine_fingerprints, signer

STAMP = "bundle.json"
_REFERENCE = re.compile(r"\bfile:([^/\s\"',}\]][^\s\"',}\]]*)")


def cache_folder() -> Path:
    """Where bundles are unpacked: $XDG_CACHE_HOME/standfast, else ~/.cache/standfast; private."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "standfast"


def unpack(
    path: Path,
    *,
    own: Path,
    keys: Sequence[Path] = (),
    trust: Collection[str] = (),
    now: datetime,
    stale: bool = False,
    cache: Path | None = None,
) -> Path:
    """The home that the bundle is, ready for use; gives its folder, the same for the same bundle and operator's folder.

    `own`: the operator's folder, whose keys/ are used and whose public engine keys are believed; `keys`: further
    private keys, which win; `trust`: fingerprints that may have signed it. Raises BadInput, Refused; see bundle.read.
    """
    trusted = trusted_by(own, trust)
    found = bundle.read(path, trusted=trusted, now=now, stale=stale)
    folder = _laid_out(found, own, cache or cache_folder())
    _link_secrets((folder / "catalog.yaml").read_text(), folder, own)
    _link_keys(folder / "keys", own, keys)
    return folder


def trusted_by(own: Path, trust: Collection[str]) -> frozenset[str]:
    """Whose signature is believed: what is said now, else the public engine keys of the operator's folder."""
    said = frozenset(each.lower() for each in trust)
    if wrong := [each for each in said if len(each) != 64 or set(each) - set("0123456789abcdef")]:
        raise BadInput(f"{wrong[0]!r} is no fingerprint", hint="write all 64 digits, as 'dr keys list' shows them")
    return said | engine_fingerprints(own / "keys")


def _laid_out(found: Bundle, own: Path, cache: Path) -> Path:
    """The files on disk, each run anew: what somebody changed in the cache since is not used."""
    mine = hashlib.sha256(str(own.absolute()).encode()).hexdigest()[:8]
    folder = cache / f"{found.manifest.catalog}-{found.digest[:16]}-{mine}"
    fresh = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        if cache.stat().st_uid != os.geteuid():
            raise BadInput(f"{cache} belongs to somebody else", hint="set XDG_CACHE_HOME to a folder of your own")
        shutil.rmtree(fresh, ignore_errors=True)
        for name, body in found.files.items():
            file = fresh / name
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            file.write_bytes(body)
        (fresh / STAMP).write_bytes(found.manifest.model_dump_json().encode())
        fresh.chmod(0o700)
        if folder.exists():
            old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
            folder.rename(old)
            fresh.rename(folder)
            shutil.rmtree(old, ignore_errors=True)
        else:
            fresh.rename(folder)
    except OSError as error:
        why = (error.strerror or "unknown").lower()
        raise Failed(
            f"the bundle could not be unpacked below {cache}: {why}", hint="set XDG_CACHE_HOME to a folder with space"
        ) from None
    return folder


def _link_secrets(catalog: str, folder: Path, own: Path) -> None:
    """A relative reference to a secret counts from the home, which is here the operator's folder. Found in the text,
    since whoever opens the home reads the catalog, and a first effect has no time to read it twice."""
    for name in _REFERENCE.findall(catalog):
        if ".." in Path(name).parts or (folder / name).exists() or not (own / name).exists():
            continue
        (folder / name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / name).symlink_to(own.absolute() / name)


def _link_keys(folder: Path, own: Path, given: Sequence[Path]) -> None:
    """The operator's private keys by their names, and one engine's key as the engine's."""
    folder.mkdir(mode=0o700, exist_ok=True)
    files = {file.stem: file.absolute() for file in sorted((own / "keys").glob("*.ed25519"))}
    named = {file.stem: file.expanduser().absolute() for file in given}
    for file in named.values():
        if file.suffix != ".ed25519" or not file.is_file():
            raise BadInput(
                f"{file} is no private key", hint="name a file like keys/NAME.ed25519, as dr keys make wrote"
            )
    chosen = {**files, **named}
    for name, file in chosen.items():
        _link(folder, name, file)
    engines = _engines(named) or ([ENGINE] if ENGINE in files else _engines(files))
    if len(engines) > 1:
        raise BadInput(
            f"there are several engine's keys: {', '.join(engines)}", hint="say which signs orders here: --key FILE"
        )
    for name in engines:
        _link(folder, ENGINE, chosen[name])


def _engines(files: Collection[str]) -> list[str]:
    return [name for name in files if name == ENGINE or name.startswith(f"{ENGINE}-")]


def _link(folder: Path, name: str, file: Path) -> None:
    """NAME.ed25519 leads to the operator's file, NAME.pub is its public half; the home's own is kept as a past one."""
    sign = signer(file.parent, file.stem)
    public = folder / f"{name}.pub"
    if public.exists() and (mark := signatures.fingerprint(public.read_bytes())) != sign.fingerprint:
        public.rename(folder / f"{name}.{mark}.pub")
    private = folder / f"{name}.ed25519"
    private.unlink(missing_ok=True)
    private.symlink_to(file)
    public.write_bytes(sign.public_pem)


def can_act(folder: Path) -> bool:
    """Whether there is an engine's key to sign orders to agents with."""
    return (folder / "keys" / f"{ENGINE}.ed25519").exists()
