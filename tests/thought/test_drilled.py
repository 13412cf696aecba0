"""Drills: due by the catalog, kept by a run that held, late after the grace; who ran it is on record."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from recovery.check import Verdict
from recovery.drilled import HELD, DrillState, Held, drills, reasons_of_drills
from recovery.evidence import Signature
from recovery.exercise import Drill
from recovery.past import Past
from recovery.policy import Schedule

MONTHLY = Drill(what="all of it", schedule=Schedule(cron="0 9 1 * *", late_after="7 days"), runbook="drill")
PEOPLE = MONTHLY.but(what="table-top", runbook=None)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def run(begun: str, *, purpose: str = "drill", outcome: str = "met", who: str = "ann@host") -> Past:
    when = at(begun)
    return Past(
        run=f"{begun}{purpose}", purpose=purpose, resource="core", asked="", begun_at=when, ended_at=when,
        outcome=outcome, records=3, sealed="signed", who=who,
    )  # fmt: skip


def state(runs: list[Past], now: str, drill: Drill = MONTHLY) -> DrillState:
    (found,) = drills({"full": drill}, runs, now=at(now))
    return found


@pytest.mark.parametrize(
    ("runs", "now", "expected"),
    [
        ([run("2026-10-05", purpose="backup"), run("2026-11-02")], "2026-11-20", "kept"),
        ([run("2026-10-05", purpose="backup")], "2026-11-05", "due"),
        ([run("2026-10-05", purpose="backup")], "2026-11-20", "late"),
        ([run("2026-10-05"), run("2026-11-02", outcome="missed")], "2026-11-20", "late"),
        ([run("2026-10-05"), run("2026-11-02", outcome="")], "2026-11-20", "late"),
        ([run("2026-10-05"), run("2026-11-02", purpose="failover")], "2026-11-20", "late"),
        ([run("2026-11-05", purpose="backup")], "2026-11-20", "kept"),
        ([], "2026-11-20", "kept"),
    ],
    ids=["held", "in its grace", "past it", "failed", "unfinished", "another", "before the ledger began", "no ledger"],
)
def test_a_drill_is_kept_by_a_run_that_held_since_its_date(runs: list[Past], now: str, expected: str) -> None:
    found = state(runs, now)
    assert found.state == expected
    assert found.next_at == at("2026-12-01T09:00")
    assert [each.subject for each in reasons_of_drills([found])] == (["drill full"] if expected == "late" else [])


def test_it_says_who_ran_the_newest_and_when() -> None:
    found = state(
        [run("2026-11-02", who="bob@host"), run("2026-10-02"), run("2026-11-09", outcome="missed")], "2026-11-20"
    )
    assert (found.last_at, found.last_who, found.last_run) == (at("2026-11-02"), "bob@host", "2026-11-02drill")


@pytest.mark.parametrize("outcome", ["missed", "unproven", "cancelled", ""])
def test_the_newest_is_told_whatever_came_of_it(outcome: str) -> None:
    found = state([run("2026-11-09", who="bob@host", outcome=outcome), run("2026-11-02")], "2026-11-20")
    told = (found.newest_at, found.newest_who, found.newest_run, found.newest_outcome)
    assert told == (at("2026-11-09"), "bob@host", "2026-11-09drill", outcome)
    assert found.last_at == at("2026-11-02"), "the one that held is told beside it"


def told(begun: str, *, drill: str = "full", outcome: str = "met") -> Past:
    return run(begun, purpose=HELD, outcome=outcome, who="ann").but(resource=drill)


def test_a_drill_of_people_is_neither_kept_nor_late_before_one_of_them_has_told_of_it() -> None:
    found = state([run("2026-01-01"), told("2026-11-02", drill="another")], "2026-11-20", PEOPLE)
    assert (found.state, found.newest_at) == ("unrecorded", None)
    assert "dr drill --held full" in found.why
    assert reasons_of_drills([found]) == ()


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ([told("2026-11-02")], "kept"),
        ([told("2026-10-02")], "late"),
        ([told("2026-11-02", outcome="missed")], "late"),
    ],
)
def test_once_they_have_it_is_kept_or_late_as_any_other(runs: list[Past], expected: str) -> None:
    found = state([run("2026-10-05", purpose="backup"), *runs], "2026-11-20", PEOPLE)
    assert (found.state, found.newest_who) == (expected, "ann")
    assert [each.hint.startswith("people do it") for each in reasons_of_drills([found])] == [True] * (
        expected == "late"
    )


def test_a_drill_that_was_held_before_the_ledger_began_makes_no_promise_older() -> None:
    runs = [told("2026-01-02", drill="another"), run("2026-11-10", purpose="backup")]
    assert state(runs, "2026-11-20").state == "kept"


def test_the_word_of_a_person_is_signed_as_a_whole() -> None:
    held = Held(drill="full", held_at=at("2026-11-02"), verdict=Verdict.MET, who="ann", told_at=at("2026-11-03"))
    signed = held.but(signature=Signature(who="ann", key="k", ed25519="0" * 128))
    assert signed.signed_bytes() == held.signed_bytes() != held.but(verdict=Verdict.MISSED).signed_bytes()


@pytest.mark.parametrize(("runbook", "begins"), [("drill", "'dr drill'"), ("rehearse-dns", "'dr plan rehearse-dns'")])
def test_a_late_one_is_told_with_the_command_that_begins_it(runbook: str, begins: str) -> None:
    found = state([run("2026-10-05", purpose="backup")], "2026-11-20", MONTHLY.but(runbook=runbook))
    (reason,) = reasons_of_drills([found])
    assert reason.hint.startswith(begins)
