"""Checks of a restored copy: what one said, what it found, and the verdict of all of them together. Pure.

Separate because the proof, the planted faults and the report judge by the same words: a check that could not be made is
`unproven`, never passed, and what was not asked for is `not configured`, never a pass either.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from recovery.value import Value


class Outcome(StrEnum):
    """What one check said."""

    PASSED = "passed"
    FAILED = "failed"
    UNPROVEN = "unproven"
    NOT_CONFIGURED = "not configured"


class Severity(StrEnum):
    """A failure is wrong data or a wrong server; a warning is something that a person should know."""

    FAILURE = "failure"
    WARNING = "warning"


class Finding(Value):
    """One thing that is wrong: `fact` names the object, file or segment; `hint` says what to do."""

    check: str
    severity: Severity = Severity.FAILURE
    fact: str
    hint: str


class Check(Value):
    """What one check said, in `seconds` of wall clock.

    `applies` is false where the check cannot mean anything in this proof (content away from the mark): it then stays
    visibly unproven without deciding the verdict.
    """

    name: str
    outcome: Outcome
    seconds: Annotated[float, Field(ge=0)] = 0.0
    fact: str
    findings: tuple[Finding, ...] = ()
    applies: bool = True


class Verdict(StrEnum):
    """The verdict of a proof."""

    MET = "met"
    MISSED = "missed"
    UNPROVEN = "unproven"


def verdict(checks: Iterable[Check]) -> Verdict:
    """Any failed: missed. Else any unproven that applies, or no check at all: unproven. Else met."""
    judged = [check for check in checks if check.outcome is not Outcome.NOT_CONFIGURED]
    if any(check.outcome is Outcome.FAILED for check in judged):
        return Verdict.MISSED
    deciding = [check for check in judged if check.applies]
    if not deciding or any(check.outcome is Outcome.UNPROVEN for check in deciding):
        return Verdict.UNPROVEN
    return Verdict.MET


def findings_of(checks: Iterable[Check]) -> tuple[Finding, ...]:
    """All findings, failures first, otherwise in the order of the checks."""
    found = [finding for check in checks for finding in check.findings]
    return tuple(sorted(found, key=lambda finding: finding.severity is not Severity.FAILURE))
