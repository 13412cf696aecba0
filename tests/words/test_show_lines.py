"""What `dr show` says of a step's result: prose and figures, not the names of keys."""

from __future__ import annotations

import pytest
from pydantic import JsonValue

from deployments.cli.show import _about as about
from deployments.cli.show import _brief as brief


@pytest.mark.parametrize(
    ("facts", "line"),
    [
        (
            {"site": "west", "before": False, "parked": True, "waiting": 2},
            "site west, they went out before, side effects parked, waiting 2",
        ),
        ({"parked": False, "before": True}, "side effects going out, they were parked before"),
        ({"timeline": 2, "already": False, "lsn": 1}, "timeline 2, LSN 0/1"),
        ({"already": True, "scratch": True}, "it was so already, on a copy"),
        ({"backup_taken": True}, "a backup was taken"),
        ({"backup_taken": False, "rewound": False}, "an earlier backup serves, made anew"),
        ({"of_another_version": True, "really_there": False}, "of another version, not really there"),
    ],
)
def test_what_is_true_or_false_is_said_in_words(facts: dict[str, JsonValue], line: str) -> None:
    assert brief(facts) == line


def test_an_order_s_line_has_neither_the_engine_s_signature_nor_what_it_is_checked_by() -> None:
    facts = {"order": "a" * 64, "who": "ann", "by": ["ann"], "step": "fence", "hazards": [{"klass": "split-brain"}]}
    assert about({"facts": {**facts, "signed": {"who": "engine", "ed25519": "0" * 128}}}) == brief({"step": "fence"})
