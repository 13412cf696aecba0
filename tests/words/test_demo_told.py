"""The demonstration's own words: the moment that it comes back to can be restored, however quick the machine is."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rich.console import Console

from deployments.lab.demo import Demo
from recovery.choose import Target, choose
from recovery.point import Backup
from recovery.wal import Archive, Stretch
from tasks import proving
from tasks.home import Home

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
JUST_ENDED = Backup(
    id="full", resource="orders-db", system_id="7", timeline=1, kind="full", parent=None, begin_lsn=40, end_lsn=400,
    begun_at=NOW - timedelta(seconds=1), ended_at=NOW - timedelta(microseconds=1), server_version=180006,
    size_bytes=1, stored_bytes=1,
)  # fmt: skip
WAL = Archive(system_id="7", stretches=(Stretch(timeline=1, first=0, last=2),))


def test_a_backup_that_ended_an_instant_ago_reaches_the_moment_that_the_demonstration_comes_back_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(proving, "plan_proof", lambda _home, wanted: asked.append(wanted))
    home = cast("Home", SimpleNamespace(now=lambda: NOW))
    moment = Demo(tmp_path, Console(file=io.StringIO()))._moment(home)
    assert [each.at for each in asked if each.sort == "time"] == [moment]
    target = Target(kind="time", at=moment)
    assert choose(target, backups=(JUST_ENDED,), archive=WAL, timeline=1).backups == ("full",)
