"""The report's page, as a person reads it."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO

import pytest
from rich.console import Console

from deployments.cli.report import _drawn as drawn
from deployments.report.page import page
from recovery.past import Past
from recovery.report import document
from recovery.scorecard import scorecard
from tests.thought.ledger_scene import NOON, catalog
from tests.thought.test_report_changes import run
from tests.thought.test_scorecard import of_drill


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


def test_on_a_narrow_screen_no_figure_is_cut() -> None:
    schedule = {"cron": "0 9 1 * *", "late_after": "7 days"}
    drills = {"full-drill-of-all": {"what": "all of it", "schedule": schedule, "runbook": "drill"}}
    runs = [run(), of_drill(NOON - timedelta(hours=1), outcome="missed")]
    card = scorecard(runs, catalog(operations={"drills": drills}), now=NOON + timedelta(hours=1))
    screen = Console(width=80, file=StringIO())
    screen.print(drawn(document(card, runs, [], lost={}, home="h", ledger="l")))
    shown = screen.file.getvalue()  # type: ignore[attr-defined]
    assert "…" not in shown
    for each in ("7.50 s", "unproven", "11-24 11:00", "2026-12-01 09:00"):
        assert each in shown


def test_the_page_tells_of_drills_who_when_what_came_of_it_and_when_the_next_is_due() -> None:
    schedule = {"cron": "0 9 1 * *", "late_after": "7 days"}
    drills = {
        "full-drill": {"what": "all of it", "schedule": schedule, "runbook": "drill"},
        "table-top": {"what": "people talk", "schedule": schedule},
    }
    runs = [of_drill(NOON - timedelta(hours=1), outcome="missed"), of_drill(NOON - timedelta(days=60))]
    card = scorecard(runs, catalog(operations={"drills": drills}), now=NOON)
    made = page(document(card, runs, [], lost={}, home="h", ledger="l"), runs)
    for each in ("full-drill", "ann@host", "2026-11-24 11:00", "2026-12-01 09:00", "late", "missed", "unrecorded"):
        assert each in made
    without = scorecard(runs, catalog(), now=NOON)
    assert "<h2>Drills</h2>" not in page(document(without, runs, [], lost={}, home="h", ledger="l"), runs)
