"""`dr` keeps its promises to people and programs: quick help, one document, a fact and a hint, the right exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from deployments.cli import main as dr
from deployments.cli.lab import worked
from deployments.cli.output import JsonOption
from recovery.errors import BadInput, Failed, Refused, Unproven

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module of our own in the place of `dr status`, so that what a command does can be chosen."""
    module = ModuleType("standfast_test_command")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    row = dr.Row(place=f"{module.__name__}:status", panel="Look", help="A command.")
    monkeypatch.setitem(dr.COMMANDS, "status", row)
    return module


def raising(error: BaseException) -> object:
    def status(as_json: JsonOption = False) -> None:
        raise error

    return status


def test_help_imports_neither_prefect_nor_boto3_nor_psycopg() -> None:
    script = (
        "import sys; from deployments.cli.main import run; code = run(['--help']);"
        "slow = {'prefect','boto3','botocore','psycopg','pydantic','ruamel','cryptography'} & set(sys.modules);"
        "print(code, sorted(slow), file=sys.stderr)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert ran.stderr.strip() == "0 []"
    assert "check" in ran.stdout


def test_the_help_shows_one_line_for_each_command_that_is_built(capsys: pytest.CaptureFixture[str]) -> None:
    assert dr.run(["--help"]) == 0
    shown = capsys.readouterr().out
    for name, row in dr.COMMANDS.items():
        built = (ROOT / f"{row.place.partition(':')[0].replace('.', '/')}.py").is_file()
        assert (f"│ {name} " in shown) == built, name


@pytest.mark.parametrize("name", [name for name in dr.COMMANDS if dr._is_built(dr.COMMANDS[name])])
def test_every_command_that_is_shown_can_be_loaded_and_explains_itself(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dr.run([name, "--help"]) == 0
    assert f"dr {name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Failed("it broke", hint="mend it"), 1),
        (BadInput("no such thing", hint="name another"), 2),
        (Unproven("nobody knows", hint="look again"), 3),
        (Refused("not approved", hint="ask"), 4),
    ],
)
def test_a_known_error_is_a_fact_and_a_hint_and_its_own_exit_code(
    place: ModuleType, capsys: pytest.CaptureFixture[str], error: Failed, code: int
) -> None:
    place.status = raising(error)  # type: ignore[attr-defined]
    assert dr.run(["status"]) == code
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"error: {error.fact}\nhint: {error.hint}\n")


def test_with_json_an_error_is_the_one_document_on_stdout(
    place: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    place.status = raising(BadInput("no such thing", hint="name another"))  # type: ignore[attr-defined]
    assert dr.run(["status", "--json"]) == 2
    assert json.loads(capsys.readouterr().out) == {"error": {"fact": "no such thing", "hint": "name another"}}


def test_an_unexpected_error_is_one_line_and_a_traceback_only_with_debug(
    place: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    place.status = raising(RuntimeError("two\nlines"))  # type: ignore[attr-defined]
    assert dr.run(["status"]) == 1
    assert capsys.readouterr().err == "error: unexpected RuntimeError: two lines\nhint: run again with --debug\n"
    with pytest.raises(RuntimeError):
        dr.run(["status", "--debug"])


def test_ctrl_c_says_how_to_go_on(place: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    place.status = raising(KeyboardInterrupt())  # type: ignore[attr-defined]
    assert dr.run(["status"]) == 130
    assert "goes on" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["chek"], ["check", "--jsn"], ["check", "--home"], ["--nope"]])
def test_a_mistyped_line_is_bad_input(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert dr.run(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "--help" in err
    assert "Traceback" not in err


def test_no_words_at_all_get_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert dr.run([]) == 2
    assert "Usage: dr" in capsys.readouterr().out


def test_a_near_miss_is_guessed(capsys: pytest.CaptureFixture[str]) -> None:
    dr.run(["chek"])
    assert "'check'" in capsys.readouterr().err


def test_a_reader_that_leaves_is_no_error() -> None:
    line = [sys.executable, "-m", "deployments.cli.main", "check", "--help"]
    process = subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ})
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    said = process.stderr.read().decode()
    process.wait(timeout=30)
    process.stderr.close()
    assert "Traceback" not in said
    assert "BrokenPipe" not in said


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"outcome": "started", "last": None}, "workload started; no row yet"),
        (
            {
                "outcome": "done",
                "acknowledged": 9,
                "failed": 1,
                "last": {"seq": 75, "acknowledged_at": "2026-11-24T03:00:00Z", "lsn": "0/120"},
            },
            "workload done; 9 rows acknowledged, 1 tries failed; the last is row 75 at 2026-11-24T03:00:00Z, LSN 0/120",
        ),
    ],
)
def test_the_workload_is_told_in_words(told: dict[str, Any], said: str) -> None:
    assert worked(told) == said
