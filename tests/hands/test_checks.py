"""Checks of copies restored by real Postgres: clean ones have no finding; each wrong thing is named."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from restored_scene import Scene, files, scene, started

from recovery.check import Outcome, Verdict, findings_of, verdict
from tasks.postgres.checks import table
from tasks.postgres.checks.context import Target


@pytest.fixture(scope="module")
def source() -> Iterator[Scene]:
    folder = Path(tempfile.mkdtemp(prefix="sf-"))
    with scene(folder) as ready:
        yield ready
    shutil.rmtree(folder)


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="sf-"))
    yield path
    shutil.rmtree(path)


def test_a_copy_at_the_mark_passes_every_check(source: Scene, folder: Path) -> None:
    context = files(source, folder, Target(kind="lsn", lsn=source.mark.lsn))
    checks = list(table.before_start(context))
    with started(context):
        checks += table.running(context)
    for check in checks:
        print(check)
    assert findings_of(checks) == ()
    assert verdict(checks) is Verdict.MET
    by_name = {check.name: check for check in checks}
    assert by_name["content"].outcome is Outcome.PASSED
    assert by_name["boundary"].outcome is Outcome.NOT_CONFIGURED


def test_a_copy_of_a_moment_passes_and_says_that_its_content_is_unproven(source: Scene, folder: Path) -> None:
    context = files(source, folder, Target(kind="time", at=source.moment))
    checks = list(table.before_start(context))
    with started(context):
        checks += table.running(context)
    for check in checks:
        print(check)
    assert findings_of(checks) == ()
    assert verdict(checks) is Verdict.MET
