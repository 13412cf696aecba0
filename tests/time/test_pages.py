"""What a run says of itself on a screen: one line, and pages in which data is never markup."""

from __future__ import annotations

from datetime import UTC, datetime

from recovery.check import Check, Finding, Outcome, Verdict
from recovery.proof import Phase, Planted, Proof
from tasks import pages
from tasks.pages import Told
from tasks.retaining import Swept
from tasks.sweeping import Scratches, Sweep

NOW = datetime(2026, 11, 24, tzinfo=UTC)
WRONG = Finding(check="amcheck", fact="index a|b\nis <torn>", hint="rebuild it")
BAD = Check(name="amcheck", outcome=Outcome.FAILED, fact=WRONG.fact, findings=(WRONG,))
GOOD = Check(name="target", outcome=Outcome.PASSED, fact="reached")


def made(verdict: Verdict, *checks: Check, planted: Planted | None = None) -> Proof:
    return Proof(
        resource="orders-db",
        kind="postgres",
        sort="mark",
        run="0" * 64,
        verdict=verdict,
        point="a",
        target="LSN 0/1",
        asked_at=NOW,
        ended_at=NOW,
        rpo_seconds=None,
        rto_seconds=1.0,
        phases=(),
        checks=checks,
        findings=tuple(each for check in checks for each in check.findings),
        leftovers=(),
        planted=planted,
    )


def test_a_proof_that_is_met_holds_and_says_so_in_a_line() -> None:
    told = pages.proof(made(Verdict.MET, GOOD))
    assert (told.held, told.text) == (True, "orders-db · mark · met")
    assert [page.key for page in told.pages] == ["proof-orders-db-mark", "proof-orders-db-mark-checks"]


def test_a_missed_proof_names_what_was_found() -> None:
    told = pages.proof(made(Verdict.MISSED, GOOD, BAD))
    assert not told.held
    assert WRONG.fact in told.text


def test_an_unproven_proof_says_what_could_not_be_made() -> None:
    told = pages.proof(made(Verdict.UNPROVEN, Check(name="content", outcome=Outcome.UNPROVEN, fact="no mark")))
    assert not told.held
    assert "content unproven: no mark" in told.text


def test_a_planted_fault_holds_only_when_it_was_detected() -> None:
    caught, missed = (Planted(name="rows-missing", what="a row", detected=seen) for seen in (True, False))
    assert pages.proof(made(Verdict.MISSED, BAD, planted=caught)).held
    unseen = pages.proof(made(Verdict.MET, GOOD, planted=missed))
    assert not unseen.held
    assert "not detected" in unseen.text


def test_data_stays_on_its_line_and_a_fact_is_never_cut_off_by_a_tables_cell() -> None:
    page = pages.proof(made(Verdict.MISSED, BAD)).pages[0].markdown
    assert "- amcheck, **failed**: index a\\|b is &lt;torn>" in page


def test_what_does_not_apply_does_not_stand_out() -> None:
    idle = Check(name="content", outcome=Outcome.UNPROVEN, fact="it was given no mark", applies=False)
    page = pages.proof(made(Verdict.MET, GOOD, idle)).pages[0].markdown
    assert "- content, unproven (does not apply here): it was given no mark" in page


def test_a_restore_that_was_made_says_its_figures_in_the_line() -> None:
    phases = (Phase(name="fetch", seconds=13.72),)
    done = made(Verdict.MET, GOOD).but(phases=phases, rto_seconds=13.72)
    assert pages.proof(done).text == "orders-db · mark · met · RTO 13.7 s"
    assert pages.proof(done.but(rpo_seconds=0.414)).text == "orders-db · mark · met · RTO 13.7 s · RPO 0.41 s"
    assert "| RTO | — |" in pages.proof(made(Verdict.UNPROVEN)).pages[0].markdown, "of no restore there is no figure"
    caught = Planted(name="rows-missing", what="a row", detected=True)
    assert "RTO" not in pages.proof(done.but(planted=caught)).text


def test_many_hold_only_together_and_nothing_never_holds() -> None:
    good, bad = Told(held=True, text="one"), Told(held=False, text="two: why")
    assert pages.several([good, good], key="proofs", title="t").held
    assert pages.several([good, bad], key="proofs", title="t").text == "two: why"
    assert not pages.several([], key="proofs", title="t").held


def test_what_a_sweep_removed_for_one_reason_is_one_row_and_is_counted_whole() -> None:
    names = tuple(f"{number:024X}" for number in range(440))
    swept = Swept(
        site="east", removed=(*names, "a-full"), kept=("b-full: held",), reasons=dict.fromkeys(names, "older")
    )
    told = pages.swept(Sweep(scratch=Scratches(), sites={"orders-db": (swept,)}))
    assert told.text == "441 removed, 1 kept"
    assert [(row["what"], row["outcome"], row["why"]) for row in told.pages[0].rows] == [
        (f"440: {names[0]} … {names[-1]}", "removed", "older"),
        ("a-full", "removed", "not kept any longer"),
        ("b-full", "kept", "held"),
    ]
