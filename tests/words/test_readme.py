"""What the README says is so: its commands run, its files and targets exist, its words are the code's."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from deployments.lab.world import down
from recovery.check import Verdict

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```sh( lab)?\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
CHEAP = [body for kind, body in BLOCKS if not kind and not body.startswith("make ")]
LAB = [body for kind, body in BLOCKS if kind]


def walked(commands: str, folder: Path, *, patience_seconds: float) -> subprocess.CompletedProcess[str]:
    """The commands in a shell that stops at the first failure, with `dr` on the path and no home yet."""
    tools = folder / "bin"
    tools.mkdir()
    (tools / "dr").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m deployments.cli.main "$@"\n')
    (tools / "dr").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "TMPDIR": str(folder)}
    environment.pop("DR_HOME", None)
    return subprocess.run(
        ["sh", "-c", "set -eu\n" + commands], cwd=ROOT, env=environment, capture_output=True, text=True,
        timeout=patience_seconds, check=False,
    )  # fmt: skip


def test_the_commands_of_the_tour_that_need_no_lab_do_what_they_say(tmp_path: Path) -> None:
    ran = walked("".join(CHEAP).replace(". .venv/bin/activate\n", ""), tmp_path, patience_seconds=120)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "machine python" in ran.stdout
    assert "Traceback" not in ran.stderr


def put_down(folder: Path) -> None:
    """A tour that was cut off leaves its lab up; whoever asked for it ends it."""
    for each in folder.rglob("lab/world.json"):
        down(each.parent.parent, wipe=True)


@pytest.mark.lab
def test_the_tour_of_the_lab_does_what_it_says(tmp_path: Path) -> None:
    assert len(LAB) == 1
    try:
        ran = walked("".join(LAB), tmp_path, patience_seconds=220)
    finally:
        put_down(tmp_path)
    assert ran.returncode == 0, ran.stdout[-6000:] + ran.stderr[-3000:]
    assert "detected" in ran.stdout
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("target", sorted(set(re.findall(r"(?<!keys )\bmake ([a-z]+)\b", README))))
def test_every_target_that_it_names_is_in_the_makefile(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_ci_runs_the_readmes_own_command() -> None:
    assert (ROOT / ".ci" / "run").read_text().rstrip().endswith("\nmake test")


def test_every_room_that_it_names_is_there_and_no_other() -> None:
    named = set(re.findall(r"^\| `([a-z]+)/` \|", README, re.MULTILINE))
    assert named == {"recovery", "tasks", "flows", "runbooks", "deployments", "tests"}
    assert all((ROOT / room).is_dir() for room in named)


def test_its_verdicts_are_the_codes() -> None:
    row = re.search(r"^\| verdict \| (.*) \|$", README, re.MULTILINE)
    assert row is not None
    assert set(re.findall(r"`(\w+)`", row[1])) == {each.value for each in Verdict}
