"""The form's answers: what counts as consent, what is asked again with which reason, what is refused for ever."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import patch

import pytest

from recovery.approval import FORM, Approval
from recovery.drive import Move
from recovery.epoch import Change, change_key
from recovery.errors import BadInput, Failed, Refused
from recovery.hazard import Acceptance, Hazard
from recovery.observation import UnfinishedSeen
from recovery.value import canonical
from tasks import approving, changing, form, keys, observing, waiting
from tasks.engine import Act
from tasks.evidence import run_names
from tasks.form import Answer, Case, Decision, Standing, Wanted
from tasks.journal import read_records
from tasks.kind import Facts, Scene
from tests.time.change_scene import Verb, changing_home, made_up, performed

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


def test_an_outage_that_begins_in_the_future_is_refused_before_anybody_is_asked(tmp_path: Path) -> None:
    wanted = Wanted(runbook="failover", service="core", to="west", outage_since="2999-01-01T00:00:00Z")
    with pytest.raises(BadInput, match="cannot lie in the future"):
        form.opened(changing_home(tmp_path, n_of_m=1, form=True), wanted)


def test_a_plans_hazards_are_a_list_because_a_tables_cells_are_cut_off_on_that_screen(tmp_path: Path) -> None:
    made = case(tmp_path)
    hazards = made.page().markdown.partition("### Hazards")[2].partition("### Steps")[0]
    assert "- **data-loss" in hazards
    assert "|" not in hazards


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


def consent(made: Case, accept: str, approvals: str) -> None:
    """The form, filled in."""
    answer = Answer(decision=Decision.APPROVE, accept=accept, approvals=approvals)
    made.consent(answer, made.stands().hazards)


def refusals(made: Case) -> list[str]:
    ledger = made.home.ledger()
    records = [each for run in run_names(ledger) for each in read_records(ledger, run)]
    return [str(each.facts["why"]) for each in records if each.kind == "refusal"]


def test_where_one_is_enough_the_form_consents_under_its_own_name(tmp_path: Path) -> None:
    made = case(tmp_path)
    assert "0 of 1 approvals" in made.stands().why[0]
    consent(made, "data-loss <= 10 s", "")
    assert made.stands().why == ()
    assert [each.approval.who for each in approving.consents(made.home, made.plan).given] == [FORM]


@pytest.mark.parametrize(
    ("accept", "fact"),
    [("", "not accepted: data-loss 4.2 s"), ("data-loss<=1s", "not accepted"), ("fire", "'fire' is no hazard")],
)
def test_a_hazard_that_is_not_accepted_is_named_and_nothing_is_signed(tmp_path: Path, accept: str, fact: str) -> None:
    made = case(tmp_path)
    with pytest.raises((BadInput, Refused), match=fact):
        consent(made, accept, "")
    assert approving.consents(made.home, made.plan).given == ()


@pytest.mark.parametrize("changes", [{"n_of_m": 2}, {"persons": 2}, {"listed": False}])
def test_elsewhere_the_form_itself_counts_for_nothing(tmp_path: Path, changes: dict[str, int]) -> None:
    made = case(tmp_path, **changes)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="counts for nothing by itself here"):
        consent(made, "all", "")
    assert approving.consents(made.home, made.plan).given == ()
    assert "counts for nothing by itself" in made.words(made.stands(), left_seconds=60)


@pytest.mark.parametrize("join", ["\n", ", ", ""])
def test_pasted_approvals_count_as_the_persons_who_signed_them(tmp_path: Path, join: str) -> None:
    made = case(tmp_path, n_of_m=2)
    consent(made, "", signed(made, "ann"))
    assert "1 of 2 approvals" in made.stands().why[0]
    consent(made, "", join.join([signed(made, "ann"), signed(made, "bob")]))
    assert made.stands().why == ()


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
        consent(made, "all", paste(made))
    assert approving.consents(made.home, made.plan).given == ()


def test_a_plan_of_another_runbook_is_not_taken_up(tmp_path: Path) -> None:
    made = case(tmp_path)
    with pytest.raises(BadInput, match="is a failover, not a switchover"):
        form.opened(made.home, Wanted(runbook="switchover", digest=made.plan.digest[:12]))


@pytest.mark.parametrize("persons", [3, -1])
def test_more_persons_than_may_consent_are_refused_before_anything_is_planned(tmp_path: Path, persons: int) -> None:
    with pytest.raises(BadInput, match="can never be had: the catalog lists 2"):
        case(tmp_path, persons=persons)
    assert list(changing_home(tmp_path).ledger().list("plans/")) == []


def test_a_hazard_that_comes_up_while_people_think_is_shown_and_can_be_accepted(tmp_path: Path) -> None:
    made = case(tmp_path)
    consent(made, "data-loss <= 10 s", "")
    split = Hazard(id="split-brain", klass="split-brain", text="the old primary cannot be fenced")
    loss = Hazard(id="data-loss", klass="data-loss", figure=4.2, unit="s", text="may lose 4.2 s")
    with patch("tasks.form.hazards", lambda *_, **__: (loss, split)):
        assert "does not accept split-brain" in made.stands().why[1]
        assert "the old primary cannot be fenced" in made.words(made.stands(), left_seconds=60)
        consent(made, "all", "")
        assert made.stands().why == ()


def test_a_loss_above_the_plans_own_limit_ends_the_wait_whatever_people_say(tmp_path: Path) -> None:
    made = case(tmp_path)
    loss = Hazard(id="data-loss", klass="data-loss", figure=901, unit="s", text="may lose 901 s")
    with patch("tasks.form.hazards", lambda *_, **__: (loss,)), pytest.raises(Refused, match="901"):
        made.stands()


def left_at(folder: Path, step: str) -> Case:
    """A run that was begun with consent and whose engine died in that step."""
    made = case(folder)
    consent(made, "all", "")
    with patch.object(Verb, "perform", dies(step)), pytest.raises(Died):
        made.act(Act(home=made.home))
    return made


class Died(BaseException):
    """The engine's end."""


def dies(step: str) -> Callable[[Verb, Move, Scene], Facts]:
    perform = Verb.perform

    def until(self: Verb, move: Move, scene: Scene) -> Facts:
        if move.step.id == step:
            raise Died
        return perform(self, move, scene)

    return until


def test_without_a_digest_an_unfinished_run_of_the_same_change_is_taken_up_and_needs_no_new_consent(
    tmp_path: Path,
) -> None:
    left = left_at(tmp_path, "promote")
    again = case(tmp_path)
    assert again.plan == left.plan
    assert "is gone on with where it stopped" in again.noted
    assert "consented to before" in again.page().markdown
    assert again.stands().why == ()
    told = again.act(Act(home=again.home))
    assert told.held, told.text
    assert sorted(performed(tmp_path)) == sorted(each.id for each in again.plan.steps)


def fails_at(folder: Path, step: str) -> Case:
    """A run that was begun with consent and stands still: that step failed as often as it may."""
    made = case(folder)
    consent(made, "all", "")
    perform = Verb.perform

    def until(self: Verb, move: Move, scene: Scene) -> Facts:
        if move.step.id == step:
            raise Failed("no door", hint="mend the door")
        return perform(self, move, scene)

    with patch.object(Verb, "perform", until):
        told = made.act(Act(home=made.home))
    assert not told.held
    return made


def test_a_flow_that_is_retried_gives_another_try_to_what_had_none_left(tmp_path: Path) -> None:
    left = fails_at(tmp_path, "validate")
    assert changing.act(Act(home=left.home), left.plan).stopped is not None, "dr resume alone gives no other try"
    told = case(tmp_path).act(Act(home=left.home))
    assert told.held, told.text
    retried = [each for each in read_records(left.home.ledger(), left.plan.run) if each.kind == "order.retried"]
    assert [(each.facts["who"], each.facts["step"]) for each in retried] == [(FORM, "validate")]


def test_the_timeline_says_where_a_run_stood_still_and_who_ordered_it_on_in_lines_that_can_be_broken(
    tmp_path: Path,
) -> None:
    left = fails_at(tmp_path, "validate")
    told = case(tmp_path).act(Act(home=left.home))
    (page,) = [each for each in told.pages if each.key.startswith("timeline-")]
    assert page.rows == ()
    assert "|" not in page.markdown
    assert "**run.halted**: missed: validate: no door (after 3 of 3 tries)\n" in page.markdown
    failed = r"^- `\S+Z` \*\*validate \(attempt 3\)\*\*, failed, \S+ s: no door$"
    assert re.search(failed, page.markdown, re.MULTILINE)
    assert "**order.retried**: the flow was run again in the Prefect UI by prefect-ui\n" in page.markdown


def test_where_the_form_counts_for_nothing_a_retry_says_who_has_to_order_another_try(tmp_path: Path) -> None:
    left = fails_at(tmp_path, "validate")
    with patch.object(Case, "form_counts", False):
        told = left.act(Act(home=left.home))
    run = left.plan.run[:12]
    assert f"go on with: dr run retry {run} validate --as NAME and then dr resume {run}" in told.text
    assert f"`dr run retry {run} validate --as NAME`" in told.pages[0].markdown


def test_an_unfinished_run_is_a_hazard_of_the_next_plan(tmp_path: Path) -> None:
    left = left_at(tmp_path, "promote")
    _, unfinished = observing._lease(left.home, "core", "")
    assert unfinished == UnfinishedSeen(run=left.plan.run, runbook="failover")
    assert observing._lease(left.home, "core", left.plan.run)[1] is None
    assert case(tmp_path).act(Act(home=left.home)).held
    assert observing._lease(left.home, "core", "")[1] is None


def test_an_unfinished_run_of_another_change_or_epoch_is_not_taken_up(tmp_path: Path) -> None:
    left = left_at(tmp_path, "promote")
    assert changing.unfinished(left.home, "failback", service="core", to="east") is None
    assert changing.unfinished(left.home, "failover", service="core", to="west") == left.plan
    later = Change(service="core", epoch=left.plan.epoch + 1, primary="west", run="f" * 64, runbook="failover",
                   at=left.home.now(), databases={}, steps={})  # fmt: skip
    left.home.ledger().put(change_key("core", later.epoch), canonical(later))
    assert changing.unfinished(left.home, "failover", service="core", to="west") is None


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
    assert any("was not taken: not accepted: data-loss 4.2 s" in each for each in refusals(made)), "it is on record"


def test_the_form_says_until_when_an_answer_is_awaited(tmp_path: Path) -> None:
    made = case(tmp_path)
    noon = datetime(2026, 11, 28, 12, tzinfo=UTC)
    with patch.object(type(made.home), "now", lambda _: noon):
        text = made.words(Standing(why=("0 of 1 approvals",)), left_seconds=90)
    assert "Awaited until **12:01:30Z**; then this flow run ends, refused" in text


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
    assert made.stands().why == ()
