"""Verification of a ledger: reads everything, trusts only the keys that were named, and lets recovery judge.

Separate from the journal because it must work on a ledger that is damaged, and on one that somebody else wrote.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from recovery.errors import BadInput, Failed
from recovery.evidence import Link, Manifest, Trouble, manifest_key, read_link, read_manifest, signed_bytes_of
from recovery.value import rfc3339
from recovery.verification import Checked, Report, Signed, judge_run, removed
from tasks import evidence_documents, signatures
from tasks.endorsements import endorsed
from tasks.ledger import Ledger
from tasks.ledger_mirrored import silent_of

KEYS = "keys/"
READERS = 16


def verify(ledger: Ledger, *, trusted: Collection[str] | None = None, runs: Collection[str] | None = None) -> Report:
    """The report over all runs, or over the named ones.

    `trusted` are fingerprints of keys that may sign manifests; keys that those vouched for are added. None: nobody
    said, and a valid signature leaves the run `unproven`.
    """
    public = public_keys(ledger)
    accepted = None if trusted is None else endorsed(ledger, frozenset(trusted), public)
    names = run_names(ledger) if runs is None else runs
    checked = tuple(_check(ledger, run, public, accepted) for run in names)
    return Report(place=ledger.place, runs=checked, troubles=tuple(evidence_documents.troubles(ledger, public, runs)))


def run_names(ledger: Ledger) -> Iterator[str]:
    """The runs that have a document in the ledger, in the order of their names; one listing request per run or page."""
    last = ""
    for key in ledger.list("runs/"):
        name = key.split("/")[1]
        if name != last:
            last = name
            yield name


def summary(ledger: Ledger, run: str) -> dict[str, Any]:
    """One run for a listing: reads its first record and its manifest only, and judges nothing."""
    keys = tuple(ledger.list(f"runs/{run}/"))
    first = read_link(keys[0], ledger.get(keys[0]) or b"") if keys else ""
    closed = ledger.get(manifest_key(run)) if manifest_key(run) in keys else None
    manifest = read_manifest(run, closed) if closed is not None else None
    record = first.record if isinstance(first, Link) else None
    return {
        "run": run,
        "records": sum(key != manifest_key(run) for key in keys),
        "begin": rfc3339(record.begin) if record is not None else None,
        "subject": record.subject if record is not None else "",
        "who": record.who if record is not None else "",
        "outcome": manifest.outcome if isinstance(manifest, Manifest) else "open" if manifest is None else "unreadable",
    }


def public_keys(ledger: Ledger) -> dict[str, bytes]:
    """The public keys that the ledger holds, by fingerprint. What isn't the key it is named for is left out."""
    found: dict[str, bytes] = {}
    for key in ledger.list(KEYS):
        if not key.endswith(".pem"):
            continue
        pem = ledger.get(key) or b""
        try:
            name = signatures.fingerprint(pem)
        except BadInput:
            continue  # a signature by it then reads as by an unknown key: loud enough, and at the right run
        if key == f"{KEYS}{name}.pem":
            found[name] = pem
    return found


def conflicts(ledgers: Sequence[Ledger]) -> tuple[Trouble, ...]:
    """Documents that differ between copies of one ledger. Missing ones are no trouble: a merge is a union. A copy that
    is silent is left out."""
    troubles: list[Trouble] = []
    known: dict[str, tuple[str, bytes]] = {}
    for ledger in ledgers:
        try:
            documents = _documents(ledger)
        except Failed:
            continue
        for key, body in documents:
            place, first = known.setdefault(key, (ledger.place, body))
            if first != body:
                fact = f"{key} is one thing in {place} and another in {ledger.place}"
                run = key.split("/")[1] if key.startswith("runs/") else ""
                troubles.append(Trouble(run=run, sequence=None, fact=fact))
    return tuple(troubles)


def compared(report: Report, ledger: Ledger, *, whole: bool = True) -> Report:
    """The report with what the copies of the ledger say of each other, and which of them are silent.

    `whole`: it is of all runs, so that those which others name must be among them, unless a silent copy may have them.
    """
    silent = silent_of(ledger)
    awake = [each for each in getattr(ledger, "ledgers", ()) if each.place not in silent]
    differing = conflicts(awake)
    silent = {**silent, **silent_of(ledger)}
    gone = removed(report.runs) if whole and not silent else ()
    return report.model_copy(update={"troubles": (*report.troubles, *differing, *gone), "silent": silent})


def _documents(ledger: Ledger) -> list[tuple[str, bytes]]:
    """Everything in one copy, read many at once."""
    keys = list(ledger.list(""))
    with ThreadPoolExecutor(max_workers=READERS) as pool:
        return list(zip(keys, pool.map(lambda key: ledger.get(key) or b"", keys), strict=True))


def _check(ledger: Ledger, run: str, public: dict[str, bytes], accepted: frozenset[str] | None) -> Checked:
    links: list[Link] = []
    unreadable: list[str] = []
    manifest, signed = None, Signed.MISSING
    for key in ledger.list(f"runs/{run}/"):
        body = ledger.get(key) or b""
        if key == manifest_key(run):
            read = read_manifest(run, body)
            if isinstance(read, str):
                unreadable.append(read)
            else:
                manifest, signed = read, _signed(read, body, public, accepted)
        elif isinstance(link := read_link(key, body), str):
            unreadable.append(link)
        else:
            links.append(link)
    return judge_run(run, links, unreadable, manifest, signed)


def _signed(manifest: Manifest, body: bytes, public: dict[str, bytes], accepted: frozenset[str] | None) -> Signed:
    if manifest.signature is None:
        return Signed.MISSING
    pem = public.get(manifest.signature.key)
    if pem is None:
        return Signed.UNKNOWN_KEY
    if not signatures.valid(signed_bytes_of(body), manifest.signature, pem):
        return Signed.INVALID
    if accepted is None:
        return Signed.NO_ANCHOR
    return Signed.VALID if manifest.signature.key in accepted else Signed.UNTRUSTED
