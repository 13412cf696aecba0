"""Free arguments of verbs: what they may be is known when a runbook is read."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from recovery.argument import too_long, trouble


@pytest.mark.parametrize(
    ("verb", "name", "value"),
    [
        ("bake", "for", "5 min"),
        ("drain", "patience", "90 s"),
        ("declare", "quorum", 2),
        ("redirect", "shift", [10, 50]),
        ("redirect", "shift", 100),
        ("restore", "target", "latest"),
        ("restore", "target", "15 min ago"),
        ("restore", "target", "2026-11-24T03:00:00Z"),
        ("restore", "into", "/somewhere/else"),
        ("run", "command", ["systemctl", "restart", "app"]),
        ("notify", "whom", "pager"),
        ("notify", "whom", ["pager", "chat"]),
        ("probe", "site", "anything: its words are listed"),
    ],
)
def test_a_value_that_a_step_can_work_with(verb: str, name: str, value: Any) -> None:
    assert trouble(verb, name, value) is None


@pytest.mark.parametrize(
    ("verb", "name", "value", "what"),
    [
        ("bake", "for", 5, "no duration"),
        ("drain", "patience", "soon", "no duration"),
        ("declare", "quorum", 0, "no number of points"),
        ("declare", "quorum", True, "no number of points"),
        ("redirect", "shift", [50, 10], "no gradual shift"),
        ("redirect", "shift", [True], "no gradual shift"),
        ("redirect", "shift", 101, "no gradual shift"),
        ("restore", "target", 7, "no moment"),
        ("restore", "target", "2026-11-24", "no moment"),
        ("restore", "target", "soon ago", "no moment"),
        ("restore", "into", "", "no place"),
        ("run", "command", "rm -r x", "no list of words"),
        ("run", "command", [], "no list of words"),
        ("run", "command", ["a", 1], "no list of words"),
        ("person", "ask", 7, "no text"),
        ("promote", "unfenced", True, "no reason"),
    ],
)
def test_one_that_it_cannot_is_told_with_what_to_write(verb: str, name: str, value: Any, what: str) -> None:
    found = trouble(verb, name, value)
    assert found is not None
    assert what in found[0]
    assert found[1]


def test_a_span_has_to_end_within_the_patience_of_its_step() -> None:
    patience = timedelta(minutes=10)
    assert too_long("bake", "for", "9 min", patience) is None
    assert too_long("bake", "site", "2 h", patience) is None
    assert too_long("bake", "for", "never", patience) is None
    assert too_long("bake", "for", "10 min", patience) is not None
