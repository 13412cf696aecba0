"""The verdict on a ledger: which runs are whole and signed, which are open, which were tampered with. Pure.

Separate from the records themselves because it is the auditor's side: it trusts nothing but keys that somebody named.
Whether a signature matches is an effect of a library and enters as a word.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from recovery.check import Outcome
from recovery.evidence import Link, Manifest, Trouble, link_troubles
from recovery.value import Value

AFTER = "after"
"""The fact of a run's first record that names the run before it under the same lease."""


class Signed(StrEnum):
    """What was found of a manifest's signature."""

    VALID = "valid"
    INVALID = "invalid"
    """The bytes do not match the signature."""
    UNKNOWN_KEY = "unknown key"
    """The ledger holds no public key of that fingerprint."""
    UNTRUSTED = "untrusted key"
    """Valid, by a key that is neither listed nor vouched for by a listed one."""
    NO_ANCHOR = "no trust anchor"
    """Valid, but nobody said which keys are to be trusted."""
    MISSING = "missing"


class Checked(Value):
    """One run after verification. `closed` is the outcome that its manifest names, empty for an open run; `head` the
    hash of its last record; `after` the run that its beginning names as the one before it, with that one's head."""

    run: str
    records: int
    outcome: Outcome
    closed: str = ""
    why: str = ""
    head: str = ""
    after: str = ""
    after_head: str = ""
    troubles: tuple[Trouble, ...] = ()


class Report(Value):
    """A whole ledger after verification."""

    place: str
    runs: tuple[Checked, ...] = ()
    troubles: tuple[Trouble, ...] = ()
    """Troubles that belong to no single run: two copies of the ledger that disagree."""
    silent: dict[str, str] = {}
    """Copies that did not answer, and why: they were not compared."""

    @property
    def outcome(self) -> Outcome:
        """Failed when anything was tampered with; unproven when a run is open or unsigned, a copy of the ledger did not
        answer, or there is no run (one that was emptied looks so, too); passed otherwise."""
        if self.troubles:
            return Outcome.FAILED
        unproven = {Outcome.UNPROVEN} if self.silent or not self.runs else set()
        found = {checked.outcome for checked in self.runs} | unproven
        return next((o for o in (Outcome.FAILED, Outcome.UNPROVEN) if o in found), Outcome.PASSED)


_SIGNATURE_FACTS = {
    Signed.INVALID: "the manifest's signature does not match its content",
    Signed.MISSING: "the manifest carries no signature",
    Signed.UNKNOWN_KEY: "the manifest is signed with a key that the ledger does not hold",
    Signed.UNTRUSTED: "the manifest is signed with a key that is not listed",
}


def judge_run(
    run: str, links: Sequence[Link], unreadable: Sequence[str], manifest: Manifest | None, signed: Signed
) -> Checked:
    """The verdict on one run. `unreadable` are facts about documents that are no records; without manifest `signed` is
    not looked at. A chain that is whole but open is `unproven`: its tail may have been cut."""
    troubles = [Trouble(run=run, sequence=None, fact=fact) for fact in unreadable]
    troubles += link_troubles(run, links, manifest)
    if manifest is not None and signed in _SIGNATURE_FACTS:
        troubles.append(Trouble(run=run, sequence=None, fact=_SIGNATURE_FACTS[signed]))
    outcome, why = Outcome.PASSED, ""
    if troubles:
        outcome, why = Outcome.FAILED, troubles[0].fact
    elif manifest is None:
        outcome, why = Outcome.UNPROVEN, "the run is not ended: its tail is unsigned"
    elif signed is Signed.NO_ANCHOR:
        outcome, why = Outcome.UNPROVEN, "the signature is valid, but no key was named as trusted"
    closed = manifest.outcome if manifest is not None else ""
    before = links[0].record.facts.get(AFTER) if links else None
    named = before if isinstance(before, dict) else {}
    return Checked(
        run=run,
        records=len(links),
        outcome=outcome,
        closed=closed,
        why=why,
        head=links[-1].hash if links else "",
        after=str(named.get("run", "")),
        after_head=str(named.get("head", "")),
        troubles=tuple(troubles),
    )


def removed(runs: Sequence[Checked]) -> tuple[Trouble, ...]:
    """Of all runs of a ledger: those that another names as the one before it and that are not there, or not as they
    were. A run that was removed whole leaves no other trace. The newest under each lease is named by none yet."""
    heads = {each.run: each.head for each in runs}
    troubles = []
    for each in runs:
        if each.after and each.after not in heads:
            fact = f"it is absent, and run {each.run[:12]} names it as the one before it"
            troubles.append(Trouble(run=each.after, sequence=None, fact=fact))
        elif each.after_head and heads[each.after] != each.after_head:
            fact = f"its last record is another than run {each.run[:12]} names, which came after it"
            troubles.append(Trouble(run=each.after, sequence=None, fact=fact))
    return tuple(troubles)
