"""Prefect's door without a server: the move is made once, whatever becomes of Prefect, and the run says so."""

from __future__ import annotations

import logging
from contextvars import copy_context
from datetime import UTC, datetime
from typing import Any, Self

import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_SERVER_ALLOW_EPHEMERAL_MODE, temporary_settings

from recovery.drive import Move
from recovery.errors import Failed
from tasks.kind import Facts
from tasks.loop import Event
from tasks.telling import Teller
from tasks.verbs import TaskRuns, _has_something_to_say
from tests.time.small_run import small_plan

PLAN = small_plan(datetime(2026, 11, 24, tzinfo=UTC))
MOVE = Move(step=PLAN.step("fetch"), attempt=1)


@pytest.fixture
def door() -> Any:
    """A door whose server is nowhere."""
    settings: Any = {PREFECT_API_URL: None, PREFECT_SERVER_ALLOW_EPHEMERAL_MODE: False}
    with temporary_settings(settings):
        return TaskRuns(context=copy_context(), log=logging.getLogger("run"))


def test_without_a_server_the_move_is_made_once_and_the_run_says_so_loudly(
    door: TaskRuns, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[int] = []

    def perform() -> Facts:
        calls.append(1)
        return {"size_bytes": 7}

    with caplog.at_level(logging.ERROR, logger="run"):
        assert door(MOVE, perform) == {"size_bytes": 7}
    assert calls == [1]
    assert "Prefect could not follow step fetch" in caplog.text


def test_all_task_runs_of_a_run_speak_through_one_client_and_carry_no_tag_that_a_limit_could_hold(
    door: TaskRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[int] = []
    closed: list[int] = []
    made: list[dict[str, Any]] = []

    class Client:
        def __enter__(self) -> Self:
            opened.append(1)
            return self

        def __exit__(self, *_: object) -> None:
            closed.append(1)

    class Followed:
        def __init__(self, **words: Any) -> None:
            made.append(words)

        def __call__(self, **_: Any) -> Any:
            return made[-1]["fn"]()

    monkeypatch.setattr("tasks.verbs.SyncClientContext", Client)
    monkeypatch.setattr("tasks.verbs.Task", Followed)
    for _ in range(3):
        assert door(MOVE, lambda: {"size_bytes": 7}) == {"size_bytes": 7}
    assert (opened, closed) == ([1], [])
    door.close()
    door.close()
    assert closed == [1], "let go of once, when the run is over"
    assert len(made) == 3
    assert not any(each.get("tags") for each in made)


def test_prefects_line_with_an_empty_trace_is_left_out_and_every_other_is_kept() -> None:
    trouble = ValueError("a defect")
    kept = [
        _has_something_to_say(logging.makeLogRecord({"exc_info": about}))
        for about in ((None, None, None), None, (ValueError, trouble, None))
    ]
    assert kept == [False, True, True]


def test_what_the_move_raises_comes_out_as_it_was(door: TaskRuns) -> None:
    trouble = Failed("the bucket is gone", hint="look at it")

    def perform() -> Facts:
        raise trouble

    with pytest.raises(Failed) as raised:
        door(MOVE, perform)
    assert raised.value is trouble


def test_progress_is_told_by_quarters_and_every_beginning_and_end(caplog: pytest.LogCaptureFixture) -> None:
    tell = Teller(log=lambda: logging.getLogger("run"))
    with caplog.at_level(logging.INFO, logger="run"):
        tell(Event(step="fetch", word="begun"))
        for hundredth in range(101):
            tell(Event(step="fetch", word="moved", text="data", share=hundredth / 100))
        tell(Event(step="fetch", word="ended", text="1.0 s"))
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0] == "fetch: begun"
    assert lines[-1] == "fetch: ended 1.0 s"
    assert [line for line in lines if "data" in line] == [f"fetch: data {share}%" for share in (25, 50, 75, 100)]


def test_what_a_step_does_is_told_once_and_again_when_it_does_something_else(caplog: pytest.LogCaptureFixture) -> None:
    tell = Teller(log=lambda: logging.getLogger("run"))
    with caplog.at_level(logging.INFO, logger="run"):
        for text in ("", "copying", "copying", "starting", "copying"):
            tell(Event(step="rebuild", word="moved", text=text))
    assert [record.getMessage() for record in caplog.records] == [
        "rebuild: copying", "rebuild: starting", "rebuild: copying",
    ]  # fmt: skip


def test_a_failed_step_is_an_error_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="run"):
        Teller(log=lambda: logging.getLogger("run"))(Event(step="check", word="failed", text="it is wrong"))
    assert (caplog.records[0].levelname, caplog.records[0].getMessage()) == ("ERROR", "check: failed it is wrong")
