"""What the storm of proofs says of one that is not met: the lab is gone when anybody reads it."""

from __future__ import annotations

from typing import cast

from deployments.lab.storm import why_not_met
from recovery.check import Check, Outcome, Verdict
from recovery.proof import Proof


def told(verdict: Verdict, *checks: Check) -> list[str]:
    made = Proof.model_construct(verdict=verdict, sort="latest", run="0123456789abcdef", checks=checks, findings=())
    return why_not_met(cast(Proof, made))


def test_an_unproven_check_is_told_though_it_has_no_finding() -> None:
    silent = Check(name="rpo", outcome=Outcome.UNPROVEN, fact="nobody knows")
    elsewhere = Check(name="content", outcome=Outcome.UNPROVEN, fact="away from the mark", applies=False)
    assert told(Verdict.UNPROVEN, silent, elsewhere) == ["  • latest 01234567: rpo unproven: nobody knows"]


def test_a_met_proof_needs_no_words() -> None:
    assert told(Verdict.MET, Check(name="rpo", outcome=Outcome.PASSED, fact="0 s")) == []
