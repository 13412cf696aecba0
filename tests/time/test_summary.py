"""A move's facts in a line: figures have units, digests and instants are short, and nothing empty is said."""

from __future__ import annotations

import pytest
from pydantic import JsonValue

from tasks.summary import summary


@pytest.mark.parametrize(
    ("facts", "line"),
    [
        ({}, "done"),
        ({"lost": False, "why": "", "rows": [], "more": {"a": 1}, "old": None}, "done"),
        ({"by": ["ann", "bob"], "accepted": [{"klass": "data-loss"}]}, "by ann, bob, 1 accepted"),
        ({"asked": ["a", "b", "c", "d", "e"]}, "5 asked"),
        ({"seconds": 2.363, "p99_seconds": 0.4, "failing_seconds": 81}, "2.36 s, p99 0.40 s, failing 81.00 s"),
        ({"size_bytes": 50297287, "wal_files": 39}, "size 50.3 MB, wal files 39"),
        ({"lsn": 989855968, "from_lsn": 1}, "LSN 0/3B0000E0, from LSN 0/1"),
        ({"at": "2026-11-28T05:22:47.430949Z"}, "at 2026-11-28 05:22:47Z"),
        ({"key": f"losses/{'ab' * 32}/db.json"}, "key losses/abababababab/db.json"),
        ({"timeline": 2, "behind_seconds": 2.125}, "timeline 2, behind 2.12 s"),
    ],
)
def test_facts_are_said_in_a_line(facts: dict[str, JsonValue], line: str) -> None:
    assert summary(facts) == line
