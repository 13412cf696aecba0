"""The auditor's pack: a ledger as plain files, which sha256sum and openssl can verify without us.

Separate from verification because it trusts nothing of ours, this program included: each record's file is exactly the
bytes that were hashed and each manifest's the bytes that were signed.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Collection
from pathlib import Path

from recovery.errors import BadInput, Failed
from recovery.evidence import manifest_key, read_manifest, signed_bytes_of
from recovery.value import canonical
from recovery.verification import Report
from tasks.evidence import public_keys, run_names, verify
from tasks.evidence_documents import FOLDERS, of_runs
from tasks.ledger import Ledger

README = """# Evidence of recovery: the auditor's pack

Everything here was copied from the evidence ledger at {place}. Nothing needs Standfast to be verified:

    sha256sum -c SHA256SUMS     # every file of this pack is as it was exported
    sh verify.sh                # every chain is whole and every manifest is signed (uses sha256sum, openssl, sed)

- `runs/RUN/NNNNNNNN.json`: the records of one run, one fact each, with begin, end, who, facts and measures. `previous`
  is the SHA-256 of the file before it, so a change, a gap or a reordering breaks the chain.
- `runs/RUN/manifest.json`: how many records, the hash of the last, the outcome; `manifest.bin` is what was signed,
  `manifest.sig` the ed25519 signature. To check one by hand, with the key that `signature.key` names:
  `openssl pkeyutl -verify -pubin -inkey keys/KEY.pem -rawin -in runs/RUN/manifest.bin -sigfile runs/RUN/manifest.sig`
- `keys/FINGERPRINT.pem`: public keys; `openssl pkey -pubin -in FILE -outform DER | sha256sum` prints the fingerprint.
  Compare the fingerprints with those that you were given by another way: the pack cannot vouch for its own keys.
- `plans/`, `proposals/`, `approvals/`, `standing/`, `cancelled/`, `spent/`, `orders/`: what was planned, what was shown
  with it, who consented, and what people ordered. A plan's name is its SHA-256. `epochs/`: each change of roles.
- `report.json`: what Standfast's own verification said. A run without a manifest is `unproven`: it was still open or
  was killed, and its last records could have been removed without a trace.

| control | what it asks | where to look |
|---|---|---|
| SOC 2 A1.2 | backups and recovery infrastructure are in place, monitored | kinds `backup`, `mark`, `slots` |
| SOC 2 A1.3 | recovery plan procedures are tested | kind `proof`; `measures` hold RPO and RTO |
| ISO/IEC 27001:2022 A.8.13 | backup copies are kept and regularly tested | kinds `backup` and `proof` |
| ISO/IEC 27001:2022 A.5.30 | readiness for continuity is planned, maintained, tested | `proof`, drills, `plans/` |
| NIST SP 800-53 CP-4 | the contingency plan is tested | runs of drills and proofs, `step.failed` |
| NIST SP 800-53 CP-9 | backups are made, protected and tested | kinds `backup`, `mark`, `proof` |
| NIST SP 800-53 CP-10 | recovery to a known state, within objectives | `proof` and `epoch.changed` |
"""

VERIFY = r"""#!/bin/sh
# Walks every chain of this pack with sha256sum and sed, and checks every signature with openssl.
cd "$(dirname "$0")" || exit 2
bad=0
open=0
for run in runs/*/; do
    expected=0000000000000000000000000000000000000000000000000000000000000000
    number=0
    for record in "$run"[0-9]*.json; do
        said=$(sed -n 's/.*"previous":"\([0-9a-f]\{64\}\)".*/\1/p' "$record")
        [ "$said" = "$expected" ] || { echo "BROKEN $record does not follow the record before it"; bad=1; }
        [ "$(basename "$record")" = "$(printf '%08d.json' "$number")" ] || { echo "GAP before $record"; bad=1; }
        expected=$(sha256sum < "$record" | cut -c1-64)
        number=$((number + 1))
    done
    if [ ! -f "${run}manifest.json" ]; then echo "OPEN   $run is not ended"; open=1; continue; fi
    head=$(sed -n 's/.*"head":"\([0-9a-f]\{64\}\)".*/\1/p' "${run}manifest.bin")
    [ "$head" = "$expected" ] || { echo "BROKEN $run closes another chain"; bad=1; }
    grep -q "\"records\":$number," "${run}manifest.bin" || { echo "BROKEN $run counts other records"; bad=1; }
    key=$(sed -n 's/.*"key":"\([0-9a-f]\{64\}\)".*/\1/p' "${run}manifest.json")
    openssl pkeyutl -verify -pubin -inkey "keys/$key.pem" -rawin -in "${run}manifest.bin" \
        -sigfile "${run}manifest.sig" > /dev/null 2>&1 || { echo "FORGED $run"; bad=1; continue; }
    echo "WHOLE  $run signed by $key"
done
[ "$bad" = 0 ] || exit 1
[ "$open" = 0 ] || exit 3
"""


def export(
    ledger: Ledger, to: Path, *, trusted: Collection[str] | None = None, runs: Collection[str] | None = None
) -> Report:
    """Write the pack into the new folder `to`, of all runs or of the named ones; gives what verification says of them.

    Raises BadInput when `to` exists already. A tampered ledger is exported too: the auditor has to see it.
    """
    if to.exists():
        raise BadInput(f"{to} exists already", hint="name a new folder: a pack is never mixed with another")
    making = to.with_name(f".{to.name}.unfinished")
    try:
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir(parents=True)
        report = _fill(ledger, making, trusted, tuple(run_names(ledger)) if runs is None else tuple(runs))
        making.rename(to)
    except OSError as error:
        raise Failed(f"the pack could not be written: {error.strerror}", hint="see the folder and its disk") from error
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return report


def _fill(ledger: Ledger, folder: Path, trusted: Collection[str] | None, runs: tuple[str, ...]) -> Report:
    for fingerprint, pem in public_keys(ledger).items():
        _write(folder, f"keys/{fingerprint}.pem", pem)
    for run in runs:
        for key in ledger.list(f"runs/{run}/"):
            body = ledger.get(key) or b""
            _write(folder, key, body)
            if key == manifest_key(run):
                _signature(folder, run, body)
    for kind in FOLDERS:
        for key in ledger.list(f"{kind}/"):
            if of_runs(key, runs):
                _write(folder, key, ledger.get(key) or b"")
    report = verify(ledger, trusted=trusted, runs=runs)
    _write(folder, "report.json", canonical(report) + b"\n")
    _write(folder, "README.md", README.format(place=ledger.place).encode())
    _write(folder, "verify.sh", VERIFY.encode())
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder)}\n" for path in files]
    _write(folder, "SHA256SUMS", "".join(lines).encode())
    return report


def _signature(folder: Path, run: str, body: bytes) -> None:
    manifest = read_manifest(run, body)
    if isinstance(manifest, str) or manifest.signature is None:
        return
    _write(folder, f"runs/{run}/manifest.bin", signed_bytes_of(body))
    _write(folder, f"runs/{run}/manifest.sig", bytes.fromhex(manifest.signature.ed25519))


def _write(folder: Path, name: str, body: bytes) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)
