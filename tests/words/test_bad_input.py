"""What an adversary, or a tired human, gives to `dr`: a clear error with a hint, the right code, nothing touched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deployments.cli.main import run
from tasks import keys
from tests.thought.ledger_scene import CATALOG

ROOT = Path(__file__).resolve().parents[2]
LONG = "x" * 300


@pytest.fixture
def place(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a home in it, and a file where a folder would be expected."""
    member = {"dsn": "host=127.0.0.1 port=1 connect_timeout=1", "data_dir": "/nowhere/d", "bin_dir": "/nowhere/b"}
    resources = {"orders": {**CATALOG["resources"]["orders"], "members": {"east": member, "west": member}}}
    made = {**CATALOG, "ledger": {"home": "directory:ledger"}, "resources": resources}
    (home / "catalog.yaml").write_text(json.dumps(made))
    keys.make(home / "keys", "engine", "engine")
    (home.parent / "file").write_text("x")
    (home.parent / "folder").mkdir()
    monkeypatch.chdir(home.parent)
    return home.parent


def told(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    capsys.readouterr()
    code = run(list(words))
    shown = capsys.readouterr()
    assert "unexpected" not in shown.err
    assert "Traceback" not in shown.err + shown.out
    return code, shown.err


def all_of(place: Path) -> list[tuple[str, bytes]]:
    return sorted((str(each), each.read_bytes()) for each in place.rglob("*") if each.is_file())


@pytest.mark.parametrize(
    ("words", "fact"),
    [
        (["report", "--html", ""], "an empty word behind --html"),
        (["evidence", "verify", "--ledger", ""], "an empty word behind --ledger"),  # was `.`: an empty ledger, passed
        (["run", "sync", "--api-url="], "an empty word: --api-url="),
        (["show", ""], "an empty word behind show"),
        (["backup", "orders", "--why", "audit"], "--why says why a backup is held or released"),  # was left unsaid
        (["report", "--html", "folder"], "folder cannot be written"),
        (["restore", "orders", "--to", LONG], "cannot be made: file name too long"),
        (["evidence", "list", "--ledger", LONG], "file name too long"),
        (["evidence", "export", LONG], "file name too long"),
        (["keys", "rotate", "9" * 300], "is not a name for a key"),
        (["keys", "rotate", "../../home/keys/engine"], "is not a name for a key"),
        (["keys", "list", "--home", "file"], "is not a folder"),  # were no keys
        (["keys", "make", "bob", "--home", "file"], "is not a folder"),
        (["lab", "status", "--home", "file"], "is not a folder"),
        (["lab", "up", "--home", "file"], "is not a folder"),
        (["lab", "down", "--home", "file/below"], "cannot be looked at: not a directory"),
        (["lab", "heal", "all", "--home", LONG], "cannot be looked at: file name too long"),
        (["status", "--home", "~nobody-at-all/x"], "cannot be looked at"),
        (["lab", "up", "--home", "/sys/no-folder-of-ours"], "cannot be used: "),
        (["points", "--timeline", str(2**32)], "less than or equal to 4294967295"),
    ],
)
def test_nonsense_is_bad_input_with_a_hint_and_touches_nothing(
    place: Path, capsys: pytest.CaptureFixture[str], words: list[str], fact: str
) -> None:
    before = all_of(place)
    code, error = told(capsys, *words)
    assert (code, "hint: " in error) == (2, True), error
    assert fact in error
    assert all_of(place) == before


def test_a_file_in_the_place_of_keys_or_of_the_ledger_is_not_taken_for_none(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "home" / "ledger").write_text("x")
    for words in (["evidence", "verify"], ["evidence", "list"], ["runs"], ["report"]):
        code, error = told(capsys, *words)
        assert code == 1, "it is no ledger, neither empty nor whole"
        assert "not a directory" in error.lower()
    for each in (place / "home" / "keys").iterdir():
        each.unlink()
    (place / "home" / "keys").rmdir()
    (place / "home" / "keys").write_text("x")
    for words in (["keys", "list"], ["keys", "make", "bob"]):
        code, error = told(capsys, *words)
        assert (code, "hint: " in error) == (2, True)


def test_a_ledger_without_a_run_is_unproven(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "home" / "ledger").mkdir(exist_ok=True)
    assert run(["evidence", "verify"]) == 3
    assert "it holds no run" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("schema: 1\nname: x\nsites: &s {east: *s}\n", "nested deeper than 50 levels"),
        ("&a [*a]\n", "nested deeper than 50 levels"),
        ("[" * 3000 + "]" * 3000, "nested deeper than 50 levels"),
        ("{a: " * 1500 + "1" + "}" * 1500, "nested deeper than 50 levels"),
        (json.dumps({**CATALOG, "name": "\ud800"}), "half of a character"),
        (json.dumps({**CATALOG, "ledger": {"home": "directory:"}}), "`directory:` names no folder"),
    ],
)
def test_a_catalog_that_cannot_be_meant_is_told_with_its_line(
    place: Path, capsys: pytest.CaptureFixture[str], text: str, fact: str
) -> None:
    (place / "home" / "catalog.yaml").write_text(text)
    for words in (["check"], ["status", "--json"]):
        code, error = told(capsys, *words)
        assert code == 2
        assert fact in error
        assert "catalog.yaml:1:" in error or "catalog.yaml:3:" in error


def test_a_service_without_probes_is_said_to_have_none(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["watch", "--once"]) == 3
    assert "platform has no probes" in capsys.readouterr().out


def dr(place: Path, line: str, **environment: str | None) -> subprocess.CompletedProcess[str]:
    """A whole process, as a shell starts it: `dr` in the line is the command."""
    given: dict[str, Any] = {**os.environ, "PYTHONPATH": str(ROOT), "DR_HOME": str(place / "home"), **environment}
    return subprocess.run(
        ["bash", "-c", line.replace("dr ", f"'{sys.executable}' -m deployments.cli.main ")],
        cwd=place, env={key: value for key, value in given.items() if value is not None},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("dr --help", 1),
        ("dr keys list", 1),
        ("dr keys list --json", 1),
        ("dr runbook print restore", 1),
        ("dr nonsense --json", 2),
    ],
)
def test_an_answer_that_the_disk_cannot_take_is_no_success(place: Path, line: str, code: int) -> None:
    ran = dr(place, f"{line} > /dev/full")
    assert ran.returncode == code
    assert "Exception ignored" not in ran.stderr
    assert ran.stderr.startswith("error: ")
    assert "Traceback" not in ran.stderr
    if code == 1:
        assert "the answer could not be written: no space left on device\nhint: " in ran.stderr


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed_are_like_nowhere(place: Path, closed: str) -> None:
    for line, code in (("dr keys list --json", 0), ("dr nonsense", 2)):
        ran = dr(place, f"{line} {closed}")
        assert ran.returncode == code
        assert "Traceback" not in ran.stderr
    assert (place / "home" / "keys" / "engine.pub").read_text().startswith("-----BEGIN")


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"COLUMNS": "20", "HOME": None, "USER": None, "LOGNAME": None, "TERM": None},
        {"COLUMNS": "x", "LINES": "-3"},
        {"COLUMNS": "0"},  # showed nothing
    ],
)
def test_a_narrow_or_bare_environment_gets_the_answer_all_the_same(
    place: Path, environment: dict[str, str | None]
) -> None:
    ran = dr(place, "dr report", **environment)
    assert (ran.returncode, ran.stderr) == (3, "")
    assert "orders" in ran.stdout
    told = dr(place, "dr show $'\\xff' --json", **environment)
    assert told.returncode == 2
    assert json.loads(told.stdout)["error"]["hint"]
