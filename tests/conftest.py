"""What all tests share: a home of their own, and hypothesis set so that a slow machine is no failure."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("here", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", parent=settings.get_profile("here"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")

_FAR = {"hands", "stories", "time"}
"""Rooms whose tests are run without the tracer: the coverage of `recovery/` is a promise of the rooms beside it, and
tracing slows down all Python that runs in its process."""

os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("DO_NOT_TRACK", "1")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Stories first, so that no worker is left alone with the longest at the end. Tests that take minutes run only when
    they are asked for: `pytest -m slow`. Tests that are far from `recovery/` run without the tracer of coverage."""
    for item in items:
        if _FAR.intersection(item.path.relative_to(config.rootpath).parts[:2]):
            item.add_marker(pytest.mark.no_cover)
    items.sort(key=lambda item: "stories" not in item.path.parts and item.path.name != "test_readme.py")
    if config.option.markexpr:
        return
    slow = [item for item in items if "slow" in item.keywords]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if "slow" not in item.keywords]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home folder, named by DR_HOME."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("DR_HOME", str(folder))
    return folder
