"""Planted faults by name: how often each was planted and caught. Pure.

Separate from the scorecard because it is the proofs' own test, and is judged by their documents alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from recovery.proof import Proof
from recovery.value import Instant, Value


class FaultScore(Value):
    """A planted fault: how often it was planted and caught, and the newest outcome."""

    fault: str
    what: str
    planted: int
    caught: int
    newest: Literal["caught", "not caught"]
    newest_at: Instant
    run: str


def faults(proofs: Sequence[Proof]) -> tuple[FaultScore, ...]:
    """The planted faults by name, those not caught last time first. `proofs` oldest first."""
    found: dict[str, FaultScore] = {}
    for proof in proofs:
        if proof.planted is None:
            continue
        before = found.get(proof.planted.name)
        found[proof.planted.name] = FaultScore(
            fault=proof.planted.name,
            what=proof.planted.what,
            planted=(before.planted if before else 0) + 1,
            caught=(before.caught if before else 0) + proof.planted.detected,
            newest="caught" if proof.planted.detected else "not caught",
            newest_at=proof.ended_at,
            run=proof.run,
        )
    return tuple(sorted(found.values(), key=lambda each: (each.newest == "caught", each.fault)))
