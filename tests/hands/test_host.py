"""The machine port: what ran, what was ended, what cannot be reached is refused instead of being run here."""

from __future__ import annotations

import sys

import psutil
import pytest

from recovery.errors import BadInput, Failed
from tasks.host import LocalHost, host_of


def test_a_machine_without_an_adapter_is_refused_and_nothing_is_run_here_instead() -> None:
    assert isinstance(host_of("local"), LocalHost)
    with pytest.raises(BadInput, match="ssh:me@there"):
        host_of("ssh:me@there")


def test_a_program_past_its_patience_is_ended_with_all_its_children() -> None:
    script = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(87)'])"
    with pytest.raises(Failed, match="still running"):
        LocalHost().run([sys.executable, "-c", script + "; time.sleep(87)"], patience_seconds=1.5)
    assert not [
        each
        for each in psutil.process_iter(["cmdline", "status"])
        if "sleep(87)" in " ".join(each.info["cmdline"] or [])
        and each.info["status"] != psutil.STATUS_ZOMBIE  # ended, and not taken in by init yet
    ]


def test_what_ran_tells_code_and_words() -> None:
    ran = LocalHost().run(["sh", "-c", "echo out; echo err >&2; exit 3"], patience_seconds=10)
    assert (ran.code, ran.out, ran.err) == (3, "out\n", "err\n")
