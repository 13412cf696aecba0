"""The report's page, as a person reads it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from deployments.report.page import page
from recovery.past import Past
from recovery.report import document
from recovery.scorecard import scorecard
from tests.thought.ledger_scene import NOON, catalog
from tests.thought.test_report_changes import run


@pytest.mark.parametrize(
    ("runs", "words"),
    [
        ([], ["nothing says yet how long it would take"]),
        ([run()], ["failover, east → west", "7.50 s", "fence 2.50 s", "ann", "timeline 2", "ungraceful"]),
        (
            [run("run.halted", outcome="missed", stopped={"step": "fence", "why": "no <proof>", "hint": "sign it"})],
            ["It stood still at fence: no &lt;proof&gt;", "sign it"],
        ),
        ([run(rto_segments={"detect": "unproven"}, findings=["RTO is 9 s of 8 s"], live=False)],
         ["unproven", "RTO is 9 s of 8 s", "on a copy"]),
    ],
)  # fmt: skip
def test_the_page_tells_of_changes_of_roles(runs: list[Past], words: list[str]) -> None:
    card = scorecard(runs, catalog(), now=NOON + timedelta(hours=1))
    made = page(document(card, runs, [], lost={}, home="h", ledger="l"), runs)
    for each in words:
        assert each in made
