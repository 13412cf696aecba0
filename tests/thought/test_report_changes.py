"""Changes of roles in the report: each run's own word, the lists that came later, a plot that leaves nothing out."""

from __future__ import annotations

from typing import Any

from recovery.evidence import GENESIS, Record
from recovery.outcome import Changed
from recovery.past import Past, past
from recovery.report_changes import SHOWN_CHANGES, changed_of, plotted, shown_changes
from tests.thought.ledger_scene import NOON

MET: dict[str, Any] = {
    "run": "a" * 64,
    "runbook": "failover",
    "service": "platform",
    "source": "east",
    "target": "west",
    "mode": "ungraceful",
    "outcome": "met",
    "rto_seconds": 7.5,
    "rto_segments": {"detect": 2.0, "declare": 0.0, "decide": 1.0, "act": 4.0, "converge": 0.5, "verify": 0.0},
    "rto_steps": [{"name": "fence", "seconds": 2.5}, {"name": "promote", "seconds": 1.5}],
    "rpo_seconds": 0.25,
    "lost_commits": "unproven",
    "timeline_id": 2,
    "epoch": 1,
    "databases": [],
    "outage_began_at": "2026-11-24T11:00:00Z",
    "served_at": "2026-11-24T11:00:07Z",
    "consent": ["ann"],
}


def said(kind: str, facts: dict[str, Any]) -> Record:
    return Record(
        run=str(facts.get("run", "a" * 64)), sequence=1, kind=kind, subject="platform", facts=facts, who="me",
        generation=1, begin=NOON, previous=GENESIS,
    )  # fmt: skip


def run(kind: str = "run.outcome", **differs: Any) -> Past:
    facts = {**MET, **differs}
    first = said("run.begun", {"purpose": "failover", "run": facts["run"]})
    return past(facts["run"], first=first, said=said(kind, facts), last=first, records=3, signed=False)


def test_a_change_is_shown_as_its_run_tells_it_and_a_proof_is_none() -> None:
    (shown,) = shown_changes([run()], {})
    assert shown.changed == Changed.model_validate(MET)
    assert shown.lost_commits == "unproven"
    assert changed_of(run("proof")) is None
    assert changed_of(run(mode="sideways")) is None


def test_what_was_listed_later_counts_and_the_newest_are_shown() -> None:
    (shown,) = shown_changes([run()], {"a" * 64: 3})
    assert shown.lost_commits == 3
    many = [run(run=f"{number:064x}") for number in range(20)]
    assert [each.changed.run for each in shown_changes(many, {})] == [each.run for each in many[:SHOWN_CHANGES]]


def test_a_segment_that_is_unproven_is_not_drawn_as_zero_and_a_change_without_rto_not_at_all() -> None:
    unknown = run(rto_segments={**MET["rto_segments"], "detect": "unproven"}, run="b" * 64)
    drawn = plotted(shown_changes([unknown, run(rto_seconds=None)], {}))
    assert drawn.count("<g>") == 1
    assert "sg-detect" not in drawn
    assert "sg-act" in drawn
    assert plotted(()) == ""
