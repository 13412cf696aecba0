"""Progress where there is no terminal: beginnings, ends, and what a long step waits for, but not every move of it."""

from __future__ import annotations

import pytest

from deployments.cli.progress import AWAITED_SECONDS, Lines
from tasks.loop import Event


def test_a_long_step_says_what_it_waits_for_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    lines = Lines({"fence": 2.3}, clock=lambda: now)

    def tell(word: str, text: str = "") -> None:
        lines.tell(Event(step="fence", word=word, text=text))  # type: ignore[arg-type]

    tell("begun")
    tell("moved", "asking the agent")
    now = AWAITED_SECONDS
    tell("moved", "the lease lapses in 5 s")
    tell("moved", "the lease lapses in 4 s")
    now = 2 * AWAITED_SECONDS
    tell("moved", "the lease lapses in 5 s")
    tell("moved", "the clocks' bound")
    tell("ended", "20.0 s")
    assert capsys.readouterr().err.splitlines() == [
        "  fence: begun (usually 2.3 s)",
        "  fence: the lease lapses in 5 s",
        "  fence: the clocks' bound",
        "  fence: ended 20.0 s",
    ]
