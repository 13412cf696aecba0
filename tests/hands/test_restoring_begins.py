"""Two engines restore into one folder at the same moment: one of them owns it, and the other touches nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from recovery.errors import BadInput
from tasks.postgres.ending import owned
from tasks.postgres.restoring import Fetch
from tasks.postgres.scratch import Scratch


def scene_of(run: str) -> Any:
    plan = SimpleNamespace(run=run, arguments={"resource": "db"}, purpose="restore")
    return SimpleNamespace(plan=plan, now=lambda: datetime(2026, 11, 24, tzinfo=UTC))


def test_who_comes_second_to_a_folder_does_not_take_it_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = SimpleNamespace(scratch_keep=timedelta(hours=1))
    fetch = Fetch(ground=cast(Any, SimpleNamespace(policy=policy)))
    into = Scratch(folder=tmp_path / "into", bin_dir=tmp_path, user="postgres")
    fetch._begin(into, scene_of("first"))

    def nothing_yet(path: Path) -> Iterator[Path]:
        return iter(())

    monkeypatch.setattr(Path, "iterdir", nothing_yet)  # the second looked just before the first made it
    with pytest.raises(BadInput, match="has just begun"):
        fetch._begin(into, scene_of("second"))
    assert json.loads((into.folder / "owner.json").read_text())["run"] == "first"
    assert not owned(into, scene_of("second"))
