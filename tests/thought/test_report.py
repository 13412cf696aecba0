"""The report's values and its plots, and how runs, steps and timelines are told."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recovery.check import Outcome
from recovery.choose import End
from recovery.past import past, proof_of
from recovery.plots import Bar, Part, Row, bars, calendar, line, ticks
from recovery.point import Backup
from recovery.report import document, newest_proofs, plots
from recovery.scorecard import proofs_of, scorecard
from recovery.shown import events, steps
from recovery.step import Step
from recovery.timeline import moments, timelines
from recovery.verification import Checked
from recovery.wal import Archive, Known, Stretch
from tests.thought.ledger_scene import NOON, backed_up, catalog, minutes, proof_facts, proved, record

SIZE = 16 * 1024 * 1024


def checked(run: str, outcome: str) -> Checked:
    return Checked(run=run, records=3, outcome=Outcome(outcome))


@pytest.mark.parametrize(
    ("found", "outcome"),
    [
        ([], "unproven"),
        (["passed"], "passed"),
        (["passed", "unproven"], "unproven"),
        (["unproven", "failed"], "failed"),
    ],
)
def test_the_evidence_is_as_good_as_its_worst_run(found: list[str], outcome: str) -> None:
    runs = [proved(minutes(-1))]
    made = document(
        scorecard(runs, catalog(), now=NOON),
        runs,
        [checked("aa", each) for each in found],
        lost={},
        home="h",
        ledger="l",
    )
    assert made.verification.outcome.value == outcome
    assert len(made.verification.troubles) == sum(each != "passed" for each in found)


def test_copies_of_the_ledger_that_disagree_are_a_failure() -> None:
    card = scorecard([], catalog(), now=NOON)
    made = document(card, [], [checked("aa", "passed")], lost={}, home="h", ledger="l", troubles=True)
    assert made.verification.outcome is Outcome.FAILED


def test_the_newest_proof_of_each_sort_is_shown_first() -> None:
    runs = [proved(minutes(-each), run=f"{each}a") for each in range(1, 9)] + [proved(minutes(-60), sort="mark")]
    shown = newest_proofs(proofs_of(runs))
    assert len(shown) == 6
    assert [each.sort for each in shown[:3]] == ["latest", "mark", "latest"]


def test_the_plots_are_well_formed_and_say_their_figures() -> None:
    odd: list[Any] = [{"name": "<settle>", "seconds": 1.0}, {"name": "check", "seconds": 1.0}]
    runs = [
        proved(minutes(-1)),
        proved(minutes(-2), phases=odd),
        backed_up(minutes(-200)),
        backed_up(minutes(-90), kind="incremental"),
    ]
    made = plots(scorecard(runs, catalog(), now=NOON).resources[0], proofs_of(runs))
    assert made.phases == ("fetch", "check", "<settle>")
    for svg in (made.rto, made.rpo, made.sizes, made.durations, made.calendar):
        assert ET.fromstring(svg).tag == "svg"
        assert "http" not in svg
    assert "RTO 2.00 s, met" in made.rto
    assert "incremental, slot 2026-11-24 10:30Z: kept" in made.calendar


def test_without_values_there_is_no_plot() -> None:
    made = plots(scorecard([], catalog(), now=NOON).resources[0], [])
    assert (made.rto, made.rpo, made.sizes, made.calendar) == ("", "", "", "")
    assert calendar([], title="t") == ""


@given(st.floats(1e-6, 1e12))
def test_a_scale_is_round_reaches_the_most_and_has_few_ticks(most: float) -> None:
    found = ticks(most)
    assert found[0] == 0
    assert found[-1] >= most * (1 - 1e-6)
    assert 2 <= len(found) <= 6


def test_nothing_at_all_has_a_scale_too() -> None:
    assert ticks(0) == (0.0, 1.0)
    assert "<rect" in bars(
        [Bar(label="a", said="b", parts=(Part(name="x", amount=0, style="y"),))], title="t", unit="s"
    )


def test_labels_keep_their_distance() -> None:
    found = line([(f"l{n}", "said", float(n)) for n in range(40)], title="t", unit="s", style="rpo")
    assert 5 < found.count('class="label"') < 10
    tall = [Bar(label=f"l{n}", said="s", parts=(Part(name="x", amount=1, style="y"),)) for n in range(40)]
    assert bars(tall, title="t", unit="s").count('class="label"') < 10
    assert calendar([Row(name="r", cells=(("kept", "k"), ("late", "l")))], title="t").count("<rect") == 2


def test_a_run_is_open_until_its_last_record_says_how_it_ended() -> None:
    first = record(
        "run.begun", NOON, {"purpose": "prove", "arguments": {"resource": "r", "mutate": "m", "sort": "mark"}}
    )
    found = past("ab", first=first, said=None, last=first, records=1, signed=False)
    assert (found.outcome, found.seconds, found.asked, found.sealed) == ("", None, "mark + m", "open")


def test_what_a_step_said_is_not_what_the_run_said() -> None:
    first = record("run.begun", NOON, {"arguments": "none"})
    step = record("step.ended", NOON, {"step": "take"}, 1)
    last = record("run.ended", minutes(1), {"outcome": "cancelled"}, 2)
    found = past("ab", first=first, said=step, last=last, records=3, signed=True)
    assert (found.said, found.purpose, found.resource, found.seconds) == (None, "run.begun", "orders", 60.0)
    assert proof_of(found) is None


def test_a_proof_of_another_version_is_no_proof() -> None:
    facts = {**proof_facts(NOON, run="ab"), "verdict": "splendid"}
    said = record("proof", NOON, facts, 1)
    found = past("ab", first=record("run.begun", NOON, {}), said=said, last=said, records=2, signed=False)
    assert proof_of(found) is None


def test_steps_show_every_attempt_with_the_keys_of_its_evidence() -> None:
    told = [
        record("run.begun", NOON, {}),
        record("step.begun", NOON, {"step": "fetch", "attempt": 1, "verb": "fetch"}, 1),
        record("step.failed", NOON, {"step": "fetch", "attempt": 1, "fact": "no way", "hint": "go"}, 2, end=minutes(1)),
        record("step.begun", minutes(2), {"step": "fetch", "attempt": 2}, 3),
        record("step.ended", minutes(2), {"step": "fetch", "attempt": 2, "result": {"x": 1}}, 4),
        record("step.begun", minutes(3), {"step": "check", "attempt": 1}, 5),
        record("order.skipped", minutes(3), {"step": "recover"}, 6),
        record("step.odd", minutes(3), {"step": "odd"}, 7),
    ]
    found = {each.step: each for each in steps(None, told)}
    assert [each.state for each in found["fetch"].attempts] == ["failed", "held"]
    first = found["fetch"].attempts[0]
    assert (first.seconds, first.fact, first.evidence) == (60.0, "no way", (told[1].key, told[2].key))
    assert (found["fetch"].state, found["check"].state, found["recover"].state) == ("held", "underway", "skipped")
    assert [each.kind for each in events(told)] == ["run.begun", "order.skipped"]


def test_a_plan_that_was_not_begun_shows_its_steps() -> None:
    from recovery.plan import Plan

    plan = Plan(
        purpose="prove", runbook="prove", runbook_version="1", service="s", asked_at=NOON,
        steps=(Step(id="fetch", verb="fetch", resource="r"),),
    )  # fmt: skip
    assert [(each.step, each.verb, each.state) for each in steps(plan, [])] == [("fetch", "fetch", "not begun")]


def backup(name: str, lsn: int, timeline: int = 1) -> Backup:
    return Backup(
        id=name, resource="r", system_id="s", timeline=timeline, kind="full", begin_lsn=lsn, end_lsn=lsn + 100,
        begun_at=NOON, ended_at=minutes(1), server_version=180000, size_bytes=1, stored_bytes=1,
    )  # fmt: skip


def test_timelines_tell_windows_gaps_by_file_and_marks() -> None:
    archive = Archive(
        system_id="s", stretches=(Stretch(timeline=1, first=2, last=4), Stretch(timeline=1, first=7, last=8))
    )
    known = moments([Known(lsn=5 * SIZE, at=minutes(2))], End(lsn=9 * SIZE, record_lsn=9 * SIZE - 8, at=minutes(9)))
    found = timelines(archive, [backup("a", 2 * SIZE), backup("b", 7 * SIZE)], [(1, 99), (2, 100)], known=known)
    one, two = found
    assert [(each.backup, each.stops, each.to_at) for each in one.windows] == [
        ("a", "gap", minutes(2)),
        ("b", "end of archive", minutes(9)),
    ]
    gap = one.gaps[0]
    assert (gap.first[-2:], gap.last[-2:], gap.files) == ("05", "06", 2)
    assert (one.marks, one.first_lsn, one.last_lsn) == ((99,), 2 * SIZE, 9 * SIZE)
    assert (two.timeline, two.windows, two.last_lsn) == (2, (), None)
    assert "no history of timeline 2" in two.why


def test_an_end_without_a_commit_adds_no_instant() -> None:
    assert moments([], End(lsn=9, record_lsn=8)) == ()
    assert moments([], None) == ()
