"""Break glass needs no Prefect: nothing that `dr` is made of imports it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOOK = """
import importlib, pkgutil, sys
import deployments.cli, recovery, tasks
for room in (recovery, tasks, deployments.cli):
    for found in pkgutil.walk_packages(room.__path__, room.__name__ + "."):
        if found.name != "tasks.verbs" and not found.name.endswith("__main__"):
            importlib.import_module(found.name)
print(sorted(name for name in sys.modules if name.split(".")[0] == "prefect"))
"""


def test_recovery_tasks_and_the_command_line_import_no_prefect() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", LOOK], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == "[]"


def test_serving_imports_no_prefect_until_it_must() -> None:
    look = "import sys, deployments.serve; print('prefect' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", look], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.strip() == "False"
