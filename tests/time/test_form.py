"""The form's answers: what counts as consent, what is asked again with which reason, what is refused for ever."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from recovery.approval import FORM, Approval
from recovery.errors import BadInput, Refused
from recovery.hazard import Acceptance
from tasks import approving, form, keys, waiting
from tasks.evidence import run_names
from tasks.form import Answer, Case, Decision, Wanted
from tasks.journal import read_records
from tests.time.change_scene import changing_home, made_up

LOSS = (Acceptance(klass="data-loss", limit=10, unit="s"),)
LOG = logging.getLogger("form")


@pytest.fixture(autouse=True)
def world(tmp_path: Path) -> Iterator[None]:
    with made_up(tmp_path):
        yield


def case(folder: Path, *, n_of_m: int = 1, listed: bool = True, persons: int = 0) -> Case:
    home = changing_home(folder, n_of_m=n_of_m, form=listed)
    made = form.opened(home, Wanted(runbook="failover", service="core", to="west", persons=persons))
    assert isinstance(made, Case)
    return made


def signed(made: Case, who: str, *, digest: str = "") -> str:
    """What `dr approve --json` writes, made without a ledger."""
    sign, now = keys.signer(made.home.folder / "keys", who), made.home.now()
    draft = Approval(
        digest=digest or made.plan.digest,
        epoch=made.plan.epoch,
        who=who,
        accepted=LOSS,
        variant=made.plan.mode,
        made_at=now,
        expires_at=now + timedelta(hours=1),
    )
    whole = draft.model_copy(update={"signature": sign(draft.signed_bytes())})
    return json.dumps({"signed": whole.model_dump(mode="json"), "public_key": sign.public_pem.decode()}, indent=2)


def refusals(made: Case) -> list[str]:
    ledger = made.home.ledger()
    records = [each for run in run_names(ledger) for each in read_records(ledger, run)]
    return [str(each.facts["why"]) for each in records if each.kind == "refusal"]


def test_where_one_is_enough_the_form_consents_under_its_own_name(tmp_path: Path) -> None:
    made = case(tmp_path)
    assert "0 of 1 approvals" in made.missing()[0]
    made.consent("data-loss <= 10 s", "")
    assert made.missing() == ()
    assert [each.approval.who for each in approving.consents(made.home, made.plan).given] == [FORM]


@pytest.mark.parametrize(
    ("accept", "fact"),
    [("", "not accepted: data-loss 4.2 s"), ("data-loss<=1s", "not accepted"), ("fire", "'fire' is no hazard")],
)
def test_a_hazard_that_is_not_accepted_is_named_and_nothing_is_signed(tmp_path: Path, accept: str, fact: str) -> None:
    made = case(tmp_path)
    with pytest.raises((BadInput, Refused), match=fact):
        made.consent(accept, "")
    assert approving.consents(made.home, made.plan).given == ()


@pytest.mark.parametrize("changes", [{"n_of_m": 2}, {"persons": 2}, {"listed": False}])
def test_elsewhere_the_form_itself_counts_for_nothing(tmp_path: Path, changes: dict[str, int]) -> None:
    made = case(tmp_path, **changes)  # type: ignore[arg-type]
    made.consent("all", "")
    assert approving.consents(made.home, made.plan).given == ()
    assert "counts for nothing by itself" in made.words(made.missing())


@pytest.mark.parametrize("join", ["\n", ", ", ""])
def test_pasted_approvals_count_as_the_persons_who_signed_them(tmp_path: Path, join: str) -> None:
    made = case(tmp_path, n_of_m=2)
    made.consent("", signed(made, "ann"))
    assert "1 of 2 approvals" in made.missing()[0]
    made.consent("", join.join([signed(made, "ann"), signed(made, "bob")]))
    assert made.missing() == ()


@pytest.mark.parametrize(
    ("paste", "fact"),
    [
        (lambda made: "yes, go", "is no JSON"),
        (lambda made: '{"who": "ann"}', "is no signed approval"),
        (lambda made: signed(made, "ann", digest="0" * 64), "is for plan 000000000000"),
        (lambda made: signed(made, "mallory"), "not signed with a key that the catalog lists"),
        (lambda made: signed(made, "ann").replace('"limit": 10.0', '"limit": 99.0'), "carries no valid signature"),
    ],
)
def test_what_is_no_approval_of_this_plan_is_said_and_not_stored(
    tmp_path: Path, paste: Callable[[Case], str], fact: str
) -> None:
    made = case(tmp_path)
    with pytest.raises(BadInput, match=fact):
        made.consent("all", paste(made))
    assert approving.consents(made.home, made.plan).given == ()


def test_a_plan_of_another_runbook_is_not_taken_up(tmp_path: Path) -> None:
    made = case(tmp_path)
    with pytest.raises(BadInput, match="is a failover, not a switchover"):
        form.opened(made.home, Wanted(runbook="switchover", digest=made.plan.digest[:12]))


class Screen:
    """Answers one after the other; then it stays open until it is closed."""

    def __init__(self, *answers: Answer | Exception, deaf: bool = False) -> None:
        self.answers, self.deaf = list(answers), deaf
        self.asked: list[str] = []
        self.open = asyncio.Event()

    async def ask(self, text: str, patience_seconds: float) -> Answer | None:
        self.asked.append(text)
        if not self.answers:
            await asyncio.wait_for(self.open.wait(), patience_seconds)
            return None
        match self.answers.pop(0):
            case Answer() as answer:
                return answer
            case trouble:
                raise trouble

    async def close(self) -> None:
        if self.deaf:
            await asyncio.sleep(3600)
        self.open.set()


def wait(made: Case, screen: Screen, *, seconds: float = 20.0, meanwhile: Callable[[], object] = lambda: None) -> None:
    async def both() -> None:
        task = asyncio.create_task(waiting.consented(made, screen, wait_seconds=seconds, log=LOG))
        await asyncio.sleep(0.2)
        await asyncio.to_thread(meanwhile)
        await task

    asyncio.run(both())


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "LOOK_EVERY_SECONDS", 0.1)
    monkeypatch.setattr(waiting, "SCREEN_SECONDS", 0.3)
    monkeypatch.setattr(waiting, "LEAST_SECONDS", 0.05)


def approve(decision: Decision = Decision.APPROVE, accept: str = "", approvals: str = "") -> Answer:
    return Answer(decision=decision, accept=accept, approvals=approvals)


def test_a_wrong_answer_is_asked_again_with_its_reason(tmp_path: Path, quick: None) -> None:
    made, screen = case(tmp_path), Screen(approve(), approve(accept="all"))
    wait(made, screen)
    assert "0 of 1 approvals" in screen.asked[0]
    assert "data-loss 4.2 s" in screen.asked[0]
    assert "not accepted: data-loss 4.2 s" in screen.asked[1]


def test_a_rejection_ends_it_and_is_on_record(tmp_path: Path, quick: None) -> None:
    made = case(tmp_path)
    with pytest.raises(Refused, match="rejected"):
        wait(made, Screen(approve(Decision.REJECT)))
    assert any("rejected in the form" in each for each in refusals(made))


def test_nobody_in_time_ends_it_and_is_on_record(tmp_path: Path, quick: None) -> None:
    made = case(tmp_path)
    with pytest.raises(Refused, match="not approved within"):
        wait(made, Screen(), seconds=0.4)
    assert any("not approved within" in each for each in refusals(made))


@pytest.mark.parametrize(
    "screen",
    [Screen, lambda: Screen(deaf=True), lambda: Screen(RuntimeError("no API"))],
    ids=["open", "hanging", "gone"],
)
def test_enough_consent_in_the_ledger_ends_the_wait_whatever_the_screen_does(
    tmp_path: Path, quick: None, screen: Callable[[], Screen]
) -> None:
    made = case(tmp_path)
    given = lambda: approving.approve(made.home, made.plan, who="ann", accepted=LOSS, lasts=timedelta(hours=1))  # noqa: E731 -- one line reads best
    wait(made, screen(), meanwhile=given)
    assert made.missing() == ()
