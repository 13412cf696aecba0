"""`make setup`: made once, by one of two at the same moment; what was interrupted is made again from nothing."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from deployments import environment


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """A project's folder with a blank in its name, and what was started to set it up."""
    root = tmp_path / "a folder"
    for name in environment.SOURCES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    monkeypatch.setattr(environment, "ROOT", root)
    monkeypatch.setattr(environment, "VENV", root / ".venv")
    monkeypatch.setattr(environment, "STAMP", root / ".venv" / "made-from")
    started: list[list[str]] = []

    def run(argv: list[str], **settings: Any) -> subprocess.CompletedProcess[bytes]:
        started.append(argv)
        if "venv" in argv:
            (root / ".venv" / "bin").mkdir(parents=True)
            (root / ".venv" / "bin" / "python").touch()
        return subprocess.CompletedProcess(argv, 1 if "broken" in (root / "pyproject.toml").read_text() else 0)

    monkeypatch.setattr(environment.subprocess, "run", run)
    return started


def test_of_two_at_once_one_makes_it_and_the_other_finds_it_whole(made: list[list[str]]) -> None:
    codes: list[int] = []
    both = [threading.Thread(target=lambda: codes.append(environment.main())) for _ in range(2)]
    for each in both:
        each.start()
    for each in both:
        each.join()
    assert codes == [0, 0]
    assert len(made) == 2  # one environment, one install
    assert environment.is_whole()


def test_what_was_interrupted_or_is_of_other_packages_is_made_again(
    made: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    packages = environment.ROOT / "pyproject.toml"
    packages.write_text("broken")
    assert environment.main() == 2
    assert "hint:" in capsys.readouterr().err
    assert not environment.is_whole()
    packages.write_text("mended")
    assert environment.main() == 0
    packages.write_text("of other packages")
    assert not environment.is_whole()
    made.clear()
    assert environment.main() == 0
    assert len(made) == 2
