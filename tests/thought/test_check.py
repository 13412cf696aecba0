"""The verdict of a set of checks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recovery.check import Check, Finding, Outcome, Severity, Verdict, findings_of, verdict

P, F, U, N = Outcome.PASSED, Outcome.FAILED, Outcome.UNPROVEN, Outcome.NOT_CONFIGURED


def check(outcome: Outcome, *, applies: bool = True) -> Check:
    return Check(name="c", outcome=outcome, fact="so", applies=applies)


@pytest.mark.parametrize(
    ("checks", "expected"),
    [
        ([check(P)], Verdict.MET),
        ([check(P), check(N)], Verdict.MET),
        ([check(P), check(U, applies=False)], Verdict.MET),
        ([check(P), check(U)], Verdict.UNPROVEN),
        ([check(F), check(U), check(P)], Verdict.MISSED),
        ([check(F, applies=False)], Verdict.MISSED),
        ([check(N)], Verdict.UNPROVEN),
        ([check(U, applies=False)], Verdict.UNPROVEN),
        ([], Verdict.UNPROVEN),
    ],
)
def test_the_worst_decides_and_nothing_is_not_a_pass(checks: list[Check], expected: Verdict) -> None:
    assert verdict(checks) is expected


some_checks = st.lists(st.builds(check, st.sampled_from(Outcome), applies=st.booleans()))


@given(some_checks)
def test_met_needs_a_pass_and_no_failure(checks: list[Check]) -> None:
    if verdict(checks) is Verdict.MET:
        outcomes = [each.outcome for each in checks]
        assert P in outcomes
        assert F not in outcomes


def test_failures_come_before_warnings() -> None:
    found = [Finding(check="c", severity=severity, fact=severity, hint="h") for severity in reversed(Severity)]
    checks = [Check(name="c", outcome=F, fact="x", findings=tuple(found))]
    assert [finding.severity for finding in findings_of(checks)] == [Severity.FAILURE, Severity.WARNING]
