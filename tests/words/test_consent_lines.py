"""`dr plan`, `approve`, `act`, `run`: what they show, what they refuse, and that each refusal says what to write."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from recovery.admission import accepts
from recovery.check import Outcome
from recovery.observation import FenceSeen
from recovery.orders import Word
from tasks import approving, changing, keys
from tasks.evidence import verify
from tasks.home import open_home
from tasks.ledger_dir import DirectoryLedger
from tests.words.consent_home import House

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> House:
    return House(tmp_path, monkeypatch, capsys)


def approve(house: House, digest: str, *names: str, accept: str = "all") -> None:
    for name in names:
        house.dr("approve", digest, "--as", name, "--accept", accept)


def test_a_plan_is_shown_with_all_that_consent_needs(house: House) -> None:
    told = house.dr("plan", "failover", "--to", "west")
    assert {"digest", "epoch", "steps", "hazards", "forecast", "groups", "rules", "limits", "next"} <= set(told)
    assert (told["epoch"], told["from"], told["to"], told["mode"]) == (0, "east", "west", "ungraceful")
    assert told["hazards"][0]["words"] == "data-loss 4.2 s"
    assert told["approvals"] == {"wanted": 2, "people": ["ann", "bob", "eve"]}
    assert told["next"][0] == f"dr approve {told['digest'][:12]} --as NAME --accept data-loss"
    numbers = [each["number"] for each in told["rules"]]
    assert {1, 2, 3, 4, 5, 8, 9, 10, 14} <= set(numbers)
    shown = house.people("plan", "failover", "--to", "west")
    for word in ("data-loss 4.2 s", "objective 900 s", "no forecast", "fence before promote", "digest", "2 of 3"):
        assert word in shown


def test_planning_again_is_another_plan(house: House) -> None:
    assert house.plan() != house.plan()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["plan", "failovr"], 2, "there is no runbook 'failovr'"),
        (["plan", "failover", "--to", "mars"], 2, "there is no site 'mars'"),
        (["plan", "failover", "--service", "nope"], 2, "there is no service 'nope'"),
        (["plan", "failover", "--max-loss", "soon"], 2, "write it like '30 s'"),
        (["plan", "failover", "--max-loss", "1 s"], 4, "above the plan's limit of 1 s"),
        (["plan", "restore", "--target", "tomorrow"], 2, "is no moment"),
        (["plan", "failover", "--outage-since", "noon"], 2, "is not a moment"),
        (["plan", "failover", "--outage-since", "2999-01-01T00:00:00Z"], 2, "cannot lie in the future"),
        (["approve"], 2, "DIGEST, --standing NAME, --cancel ID"),
        (["approve", "abcdefab"], 2, "say who consents: --as NAME"),
        (["approve", "abcdefab", "--as", "ann"], 2, "no plan begins with abcdefab"),
        (["approve", "abc", "--as", "ann"], 2, "at least 8 digits"),
        (["approve", "--standing", "west-is-out", "--as", "ann"], 2, "no standing approval 'west-is-out'"),
        (["approve", "--standing", "east-is-out", "--as", "ann", "--accept", "ttl"], 2, "not among the terms"),
        (["approve", "--cancel", "abcdefab", "--as", "ann"], 2, "no approval begins with"),
        (["act", "abcdefab"], 2, "no plan begins with abcdefab"),
        (["run", "pause", "abcdefab", "--as", "ann"], 2, "no run or plan begins with abcdefab"),
    ],
)
def test_what_is_written_wrongly_is_told_with_what_to_write(
    house: House, words: list[str], code: int, said: str
) -> None:
    assert said in house.refused(*words, code=code)


def test_nothing_is_approved_without_each_hazard(house: House) -> None:
    house.seen["fence"] = FenceSeen()
    digest = house.plan()
    said = house.refused("approve", digest, "--as", "ann", "--accept", "data-loss")
    assert "not accepted: split-brain" in said
    assert f"dr approve {digest[:12]} --as ann --accept split-brain" in said
    assert "is no hazard of this plan" in house.refused("approve", digest, "--as", "ann", "--accept", "x", code=2)
    assert "data-loss 4.2 s" in house.refused("approve", digest, "--as", "ann", "--accept", "data-loss<=4s")


def test_a_ledger_whose_home_may_fall_silent_is_accepted_by_its_name_though_it_was_not_shown(house: House) -> None:
    """What a refused lease tells people to write: the run may have begun while its home still answered."""
    digest = house.plan()
    for who in ("ann", "bob"):
        given = house.dr("approve", digest, "--as", who, "--accept", "data-loss", "--accept", "ledger-degraded")
        assert [each["klass"] for each in given["accepted"]] == ["data-loss", "ledger-degraded"]
    assert "need not answer" in given["hazards"][-1]["text"]
    home = open_home(house.folder)
    plan = changing.find(home, digest)
    assert accepts(plan, approving.consents(home, plan), "ledger-degraded", home.now())


def test_approvals_are_counted_and_each_shows_what_it_accepts(house: House) -> None:
    digest = house.plan()
    first = house.dr("approve", digest[:8], "--as", "ann", "--accept", "data-loss<=10s")
    assert (first["outcome"], first["missing"]) == ("waiting", ["1 of 2 approvals"])
    assert first["accepted"][0]["words"] == "data-loss <= 10 s"
    assert "0 of 2" not in house.refused("act", digest)
    second = house.dr("approve", digest, "--as", "bob", "--accept", "all", "--expires", "30 min")
    assert (second["outcome"], second["by"], second["missing"]) == ("approved", ["ann", "bob"], [])
    shown = house.people("approve", digest, "--as", "eve", "--accept", "data-loss")
    assert "accepts data-loss <= 900 s" in shown
    assert "shown: data-loss 4.2 s: may lose up to 4.2 s of commits of validation-db" in shown


@pytest.mark.parametrize("lasts", ["0 s", "8 days", "1 fortnight", "60"])
def test_an_approval_lasts_a_while_and_not_for_ever(house: House, lasts: str) -> None:
    house.refused("approve", house.plan(), "--as", "ann", "--accept", "all", "--expires", lasts, code=2)


def test_whoever_is_not_listed_or_has_no_key_consents_to_nothing(house: House) -> None:
    digest = house.plan()
    assert "the catalog does not list it" in house.refused("approve", digest, "--as", "mallory", "--accept", "all")
    assert "dr keys make zoe" in house.refused("approve", digest, "--as", "zoe", "--accept", "all", code=2)


def test_an_approved_plan_is_acted_on_once_and_then_only_reported(house: House) -> None:
    digest = house.plan()
    approve(house, digest, "ann", "bob")
    house.dr("act", digest[:8], code=3)  # hands that pretend measure nothing
    assert "promote" in " ".join(house.hands.done)
    house.hands.done.clear()
    again = house.dr("act", digest, code=3)
    assert again["run"] == digest
    assert house.hands.done == set()
    assert "has ended" in house.refused("run", "pause", digest, "--as", "ann")


def test_a_refused_act_leaves_its_refusal_and_a_whole_ledger(house: House) -> None:
    digest = house.plan()
    said = house.refused("act", digest)
    assert "0 of 2 approvals" in said
    assert f"dr approve {digest[:12]}" in said
    ledger = DirectoryLedger(house.folder / "ledger")
    kinds = [run["purpose"] for run in house.dr("runs")["runs"]]
    assert kinds == ["refusal"]
    report = verify(ledger, trusted=keys.engine_fingerprints(house.folder / "keys"))
    assert report.outcome is Outcome.PASSED


def test_a_world_that_has_moved_on_is_refused(house: House) -> None:
    digest = house.plan()
    approve(house, digest, "ann", "bob", accept="data-loss<=10s")
    house.seen["behind_seconds"] = 12.0
    assert "does not accept data-loss 12 s" in house.refused("act", digest)
    house.seen.update(behind_seconds=4.2, epoch=1)
    assert "rule 8" in house.refused("act", digest)


def test_an_approval_is_taken_back_by_its_number(house: House) -> None:
    digest = house.plan()
    given = house.dr("approve", digest, "--as", "ann", "--accept", "all")["approval"]
    house.dr("approve", digest, "--as", "bob", "--accept", "all")
    assert house.dr("approve", "--cancel", given[:8], "--as", "ann")["outcome"] == "cancelled"
    assert "the approval of ann was cancelled" in house.refused("act", digest)


def test_standing_consent_is_signed_by_each_and_admits_alone(house: House) -> None:
    first = house.dr("approve", "--standing", "east-is-out", "--as", "ann")
    assert (first["outcome"], first["by"], first["wanted"]) == ("waiting", ["ann"], 2)
    shown = house.people("approve", "--standing", "east-is-out", "--as", "bob")
    assert "failover of core to west may act alone when app-east has failed for 15 s" in shown
    assert "approved: 2 of 2 (ann, bob)" in shown
    house.seen["failing_seconds"] = 10.0
    assert "waits for its conditions: app-east" in house.refused("act", house.plan())
    house.seen["failing_seconds"] = 15.0
    told = house.dr("act", house.plan(), code=3)
    assert (told["timeline"][0]["kind"], told["timeline"][0]["at"][-1]) == ("run.begun", "Z")
    assert {"fence", "promote"} <= {each["verb"] for each in told["timeline"] if each["state"] == "held"}
    assert told["timeline_id"] == 2


def test_a_step_that_fails_stands_still_until_another_try_is_granted(house: House) -> None:
    digest = house.plan()
    approve(house, digest, "ann", "bob")
    house.hands.breaks = {"notify"}
    stopped = house.dr("act", digest, code=1)
    assert stopped["stopped"]["step"] == "notify"
    said = house.people("resume", digest[:8], code=1)
    assert "it stands still at notify" in said
    assert f"dr resume {digest[:12]}" in said
    house.hands.breaks = set()
    given = house.dr("run", "retry", digest[:8], "notify", "--as", "ann")
    assert (given["outcome"], given["what"]) == ("stored", "retry notify")
    house.dr("resume", digest, code=3)
    assert "notify" in house.hands.done


def test_an_order_that_can_never_count_is_refused_here_and_on_record(house: House) -> None:
    digest = house.plan()
    approve(house, digest, "ann", "bob")
    house.hands.breaks = {"notify"}
    house.dr("act", digest, code=1)
    assert "no step nofence" in house.refused("run", "skip", digest, "nofence", "--as", "ann")
    assert "rule" not in house.refused("run", "skip", digest, "promote", "--as", "ann").split("|")[1]
    said = house.refused("run", "skip", digest, "fence", "--as", "ann")
    assert "needs its hazards accepted: split-brain" in said
    assert f"dr run skip {digest[:12]} fence --as ann --accept split-brain" in said
    assert "does not list it" in house.refused("run", "cancel", digest, "--as", "mallory")
    assert "ungraceful already" in house.refused("run", "ungraceful", digest, "--as", "ann")
    assert house.dr("run", "skip", digest, "notify", "--as", "ann")["outcome"] == "stored"
    house.dr("resume", digest, code=3)
    assert "notify" not in house.hands.done


def test_an_order_reaches_a_run_that_is_driven(house: House) -> None:
    digest = house.plan()
    approve(house, digest, "ann", "bob")
    told: list[str] = []

    def meanwhile(step: str) -> None:
        if step == "fence" and not told:
            told.append(step)
            from tasks.home import open_home
            from tasks.orders_of_people import give, run_of

            opened = open_home(house.folder)
            give(opened, run_of(opened, digest), Word.CANCEL, who="eve", why="a false alarm")
            import time

            time.sleep(1.2)  # the move goes on for longer than the watch of orders takes

    house.hands.met = meanwhile
    ended = house.dr("act", digest, code=1)
    assert ended.get("outcome") == "cancelled", ended
    assert "promote" not in " ".join(house.hands.done)


def test_a_run_that_has_not_begun_is_not_resumed(house: House) -> None:
    digest = house.plan()
    assert f"dr act {digest[:12]}" in house.refused("resume", digest, code=2)


def test_a_drill_needs_nobodys_consent(house: House) -> None:
    told = house.dr("drill", "--to", "west", code=3)
    assert (told["runbook"], told["consent"]) == ("drill", ["policy"])


@pytest.mark.parametrize("line", [["plan", "--help"], ["approve", "--help"], ["watch", "--help"]])
def test_neither_prefect_nor_boto3_is_imported_for_help(line: list[str]) -> None:
    script = (
        f"import sys; from deployments.cli.main import run; code = run({line!r});"
        "print(code, sorted({'prefect','boto3','botocore','psycopg'} & set(sys.modules)), file=sys.stderr)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert ran.stderr.strip().splitlines()[-1] == "0 []"


def test_show_tells_who_consented_to_what_and_what_became_of_it(house: House) -> None:
    digest = house.plan()
    approve(house, digest, "ann", "bob")
    given = house.dr("approve", digest, "--as", "eve", "--accept", "data-loss<=20s")["approval"]
    house.dr("approve", "--cancel", given, "--as", "eve")
    told = house.dr("show", digest[:8])
    assert (told["kind"], told["outcome"]) == ("plan", "not begun")
    states = {each["who"]: (each["state"], each["accepted"]) for each in told["approvals"]}
    assert states == {
        "ann": ("valid", ["data-loss <= 900 s"]),
        "bob": ("valid", ["data-loss <= 900 s"]),
        "eve": ("cancelled", ["data-loss <= 20 s"]),
    }
    house.hands.breaks = {"notify"}
    house.dr("act", digest, code=1)
    house.dr("run", "skip", digest, "notify", "--as", "ann")
    assert [each["state"] for each in house.dr("show", digest)["orders"]] == ["waiting"]
    house.dr("resume", digest, code=3)
    told = house.dr("show", digest)
    assert [(each["what"], each["state"]) for each in told["orders"]] == [("skip notify", "taken")]
    assert {each["who"]: each["state"] for each in told["approvals"]}["ann"] == "spent"
    assert told["said"]["kind"] == "run.outcome"
    shown = house.people("show", digest)
    for words in ("accepts data-loss <= 900 s", "skip notify", "RTO", "by consent of ann, bob", "hazard", "passed"):
        assert words in shown


def test_a_proof_takes_no_orders(house: House) -> None:
    from recovery.plan import Plan
    from recovery.step import Step
    from tasks.engine import keep_plan

    at = house.observe(None, "core").at
    step = Step(id="fetch", verb="restore", resource="db")
    proof = Plan(purpose="prove", runbook="prove", runbook_version="1", service="core", asked_at=at, steps=(step,))
    keep_plan(DirectoryLedger(house.folder / "ledger"), proof)
    assert "is a prove, which takes no orders" in house.refused("run", "pause", proof.digest[:8], code=2)
