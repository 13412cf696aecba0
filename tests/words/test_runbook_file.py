"""Runbook files: each refused one is a case with its messages; those that ship are lawful; pages are golden."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from deployments.cli import main as dr
from recovery.breach import failover_path
from recovery.catalog import Catalog
from recovery.errors import BadInput
from recovery.rules import RULES, When
from tasks import catalog_file
from tasks.runbook_file import SHIPPED, Library, RunbookWrong, library, load, load_all

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "deployments" / "catalog.example.yaml"
CASES = sorted((ROOT / "tests" / "cases" / "runbooks").glob("*.yaml"))
NAMES = ["drill", "failback", "failover", "rehearse-dns", "restore", "switchover"]


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return catalog_file.load(EXAMPLE)


@pytest.mark.parametrize("case", CASES, ids=lambda file: file.stem)
def test_a_wrong_runbook_is_refused_with_every_line_fact_and_hint(case: Path, catalog: Catalog) -> None:
    expected = re.findall(r"^# refused (\d+: .*)$", case.read_text(), re.MULTILINE)
    assert expected, "the case says nothing of what is expected"
    books = Library(files={**library(None).files, case.stem: case})
    with pytest.raises(RunbookWrong) as caught:
        load(case.stem, books, catalog)
    assert [f"{each.at.line}: {each.fact}; {each.hint}" for _, each in caught.value.problems] == expected
    assert {file for file, _ in caught.value.problems} == {case}
    assert caught.value.exit_code == 2


def test_every_rule_that_judges_runbooks_has_a_refused_case() -> None:
    cited = {int(number) for case in CASES for number in re.findall(r"rule (\d+) \(", case.read_text())}
    assert cited >= {number for number, rule in RULES.items() if When.RUNBOOK in rule.judges}


def test_the_runbooks_that_ship_are_lawful_and_fit_the_example_catalog(catalog: Catalog) -> None:
    found = load_all(NAMES, library(None), catalog)
    assert list(library(None).files) == NAMES
    assert {name: book.mode.value for name, book in found.items() if book.live} == {
        "failback": "graceful",
        "failover": "ungraceful",
        "switchover": "graceful",
    }
    assert "protect" not in failover_path(found["failover"])
    assert all(step.manual for book in found.values() for step in book.steps)


def test_a_name_moved_by_record_edits_refuses_the_failover_although_the_runbook_is_the_same(catalog: Catalog) -> None:
    app = catalog.dns["app"].but(moved_by="record-edit")
    with pytest.raises(RunbookWrong) as caught:
        load("failover", library(None), catalog.but(dns={**catalog.dns, "app": app}))
    assert "rule 5 (static stability): `redirect` by record-edit needs Route53's record edits" in caught.value.fact
    assert load("failover", library(None)).name == "failover"


def test_a_home_has_runbooks_of_its_own_which_win_by_name(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "catalog.yaml").write_text(EXAMPLE.read_text())
    (home / "runbooks").mkdir()
    (home / "runbooks" / "failover.yaml").write_text((SHIPPED / "failover.yaml").read_text().replace('"1"', '"2"'))
    assert dr.run(["runbook", "list", "--json"]) == 0
    told = {each["name"]: each for each in json.loads(capsys.readouterr().out)["runbooks"]}
    assert told["failover"]["version"] == "2"
    assert told["failover"]["origin"] == "home"
    assert dr.run(["runbook", "list"]) == 0
    assert dr.run(["runbook", "validate"]) == 0
    assert "passed: 6 runbooks" in capsys.readouterr().out
    (home / "runbooks" / "failover.yaml").write_text("steps: []\n")
    assert dr.run(["runbook", "validate", "failover", "--json"]) == 2
    assert "a runbook without steps" in json.loads(capsys.readouterr().out)["error"]["fact"]
    assert dr.run(["runbook", "validate", "switchover"]) == 0
    assert dr.run(["runbook", "print", "nothing"]) == 2
    assert "the runbooks are drill" in capsys.readouterr().err


STOCK = {"cp", "mv", "rm", "ls", "mkdir", "touch", "test", "echo", "sed", "find", "tar", "zstd", "aws", "python3"}
"""What a database's own machine has, or is said to need."""


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("form", "suffix"),
    [("print markdown", "md"), ("print html", "html"), ("draw mermaid", "mmd"), ("draw svg", "svg")],
    ids=lambda each: each.split()[-1],
)
def test_printed_pages_of_the_example_catalog_are_golden(
    home: Path, capsys: pytest.CaptureFixture[str], name: str, form: str, suffix: str
) -> None:
    (home / "catalog.yaml").write_text(EXAMPLE.read_text())
    verb, kind = form.split()
    assert dr.run(["runbook", verb, name, "--as", kind]) == 0
    golden = ROOT / "tests" / "words" / "golden" / f"{name}.{suffix}"
    assert capsys.readouterr().out == golden.read_text(), f"if it is meant: dr runbook {verb} {name} --as {kind}"


def test_a_page_needs_nothing_from_elsewhere_and_no_tool_but_psql_aws_and_dig(catalog: Catalog) -> None:
    for name in NAMES:
        page = (ROOT / "tests" / "words" / "golden" / f"{name}.html").read_text()
        assert not re.search(r"<script|<link|<img|src=|@import|url\((?!#)|href=", page)
        commands = re.findall(r"<pre>(\S+)", page)
        assert set(commands) <= {"psql", "aws", "dig", "<i>there:</i>"}
        there = re.findall(r"<pre><i>there:</i> (\S+)", page)
        assert all(each in STOCK or each.startswith("/usr/lib/postgresql/18/bin/") for each in there)
        assert not re.search(r"\{[a-z.]+\??\}", re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL))
        assert "begun ____________ ended ____________ by ____________" in page


def test_a_page_goes_to_a_file_when_one_is_named(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "catalog.yaml").write_text(EXAMPLE.read_text())
    assert dr.run(["runbook", "print", "failover", "--out", str(home / "f.md"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"runbook": "failover", "form": "markdown", "file": str(home / "f.md")}
    assert (home / "f.md").read_text().startswith("# Failover: core from east to west")
    assert dr.run(["runbook", "print", "failover", "--out", str(home / "no" / "f.md")]) == 2
    assert dr.run(["runbook", "print", "failover", "--to", "mars"]) == 2
    assert "the sites that serve are east, west" in capsys.readouterr().err
    assert dr.run(["runbook", "print", "failover", "--to", "east"]) == 0
    assert "# Failover: core from west to east" in capsys.readouterr().out


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    binary, large = tmp_path / "binary.yaml", tmp_path / "large.yaml"
    binary.write_bytes(b"\xff\xfe")
    large.write_bytes(b"#" * 1_000_001)
    for file, fact in ((binary, "is not UTF-8"), (large, "is larger"), (tmp_path / "no.yaml", "cannot read")):
        with pytest.raises(BadInput, match=fact):
            load(file.stem, Library(files={file.stem: file}))


def test_a_long_word_is_broken_behind_its_commas_and_never_behind_a_dash() -> None:
    page = (ROOT / "tests" / "words" / "golden" / "failover.html").read_text()
    assert '<span>"run":"by-hand",</span><span>"at":"' in page
    typed = re.search(r"<pre>(aws s3 cp .*?by-hand.*?)</pre>", page)
    assert typed is not None
    assert '"primary":"west","run":"by-hand","at":"' in re.sub(r"</?span>", "", typed[1])
