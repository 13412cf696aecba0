"""The catalog's file: the example carries every figure of the reference platform; a wrong file is told all at once."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from deployments.cli import main as dr
from recovery.catalog import Catalog
from recovery.errors import BadInput
from tasks import yaml_positions
from tasks.aws import credentials
from tasks.catalog_file import CatalogWrong, judge, load
from tasks.yaml_positions import read

EXAMPLE = Path(__file__).resolve().parents[2] / "deployments" / "catalog.example.yaml"

WRONG = """\
schema: 1
name: wrong
sites:
  east: {role: primary, region: us-east-1, colour: blue}
  west: {role: recovry, region: us-west-2}
ledger: {home: mars}
objectives:
  critical: {category: c, rpo: 15, rto: 30 min, prof_age: 1 day}
  fine: {category: c, rpo: 10 s, rto: 30 min}
backups:
  daily:
    full:
      schedule: {cron: "0 3 * *"}
      keep: 3 days
    marks: {cron: "15 * * * *"}
    window: 7 days
    window: 8 days
    copies: [east]
proofs:
  daily: {schedule: {cron: "0 5 * * *"}, site: west}
services:
  a: {owner: x, resources: [db]}
  b: {owner: y, resources: [db, nodb]}
resources:
  db:
    kind: postgres
    objective: fine
    backup: daily
    proof: daily
    owner: x
    bucket: b
    members:
      east: {dsn: a, data_dir: b}
operations:
  limits:
    Frontend: {cpus: 1, memory: 2 GB, disk: 100 MB/s, network: 1 Gbps}
    backend: {cpus: 1, memory: 2 XB, disk: 100 MB/s, network: 1 Gbps}
"""

EXPECTED = [
    (4, "unknown key `colour`", "what is known here: role, region, s3"),
    (5, "`role`: input should be", "write 'primary'"),
    (6, "there is no site `mars`", "name one of east, west"),
    (8, "`rpo`: 15 is not a duration", "like '15 min'"),
    (8, "unknown key `prof_age`", "did you mean `proof_age`?"),
    (11, "WAL segments are archived up to 1 min apart, slower than the RPO of `db`", "make it more frequent"),
    (13, "'0 3 * *' has 4 fields", "write five fields"),
    (14, "full backups are kept for 3 days, shorter than the window", "promise a shorter window"),
    (17, "`window` is written twice, first in line 16", "keep one"),
    (20, "`db` is proven at `west`, where its backups have no copy", "add `west` to the copies"),
    (23, "`db` has two owners: x by service `a` and y by service `b`", "give both services one owner"),
    (23, "there is no resource `nodb`", "name one of db"),
    (33, "`bin_dir` is missing", "add `bin_dir`"),
    (33, "`dsn` is no connection string of Postgres", "it is no row of name=value"),
    (36, "`Frontend` is no name", "use a-z"),
    (37, "`memory`: '2 XB' is not a size", "like '2 GB'"),
]


def test_the_example_is_a_good_catalog_and_reads_the_same_when_written_as_json() -> None:
    catalog = load(EXAMPLE)
    assert Catalog.model_validate(catalog.model_dump(mode="json", by_alias=True)) == catalog


def test_the_example_carries_the_reference_platforms_figures() -> None:
    catalog = load(EXAMPLE)
    minutes = {
        name: (each.rpo / timedelta(minutes=1), each.rto / timedelta(minutes=1))
        for name, each in catalog.objectives.items()
    }
    assert minutes == {"critical": (15, 30), "video": (60, 120), "configuration": (240, 60), "logs": (1440, 240)}
    operations = catalog.operations
    levels, scaling = operations.service_levels, operations.scaling
    assert levels is not None
    assert levels.availability == {
        "core": 99.9,
        "video": 99.5,
        "api": 99.95,
        "authentication": 99.99,
        "database": 99.9,
        "file-storage": 99.99,
    }
    assert {name: (each.replicas.at_least, each.replicas.at_most) for name, each in scaling.items()} == {
        "frontend": (2, 20),
        "backend": (3, 50),
        "video-processing": (2, 10),
    }
    assert operations.health is not None
    assert [each.above for each in operations.health.levels] == [95, 80, 60, 40, None]
    assert operations.alerting is not None
    assert [each.after / timedelta(minutes=1) for each in operations.alerting.escalation] == [0, 15, 30, 60]
    assert operations.checklist is not None
    points = operations.checklist
    assert len(points.infrastructure) == len(points.application) == len(points.operations) == 8
    assert all(value for value in operations.model_dump().values()), "a part of the reference platform is left out"


def test_everything_that_is_wrong_is_told_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "catalog.yaml"
    file.write_text(WRONG)
    with pytest.raises(CatalogWrong) as caught:
        load(file)
    told = [(each.at.line, each.fact, each.hint) for each in caught.value.problems]
    assert [line for line, _, _ in told] == [line for line, _, _ in EXPECTED]
    for (_, fact, hint), (_, begins, has) in zip(told, EXPECTED, strict=True):
        assert fact.startswith(begins)
        assert has in hint
    assert re.search(rf"{re.escape(str(file))}:4:\d+: unknown key `colour`; what is known here", caught.value.fact)
    assert caught.value.exit_code == 2


def test_dr_check_tells_a_wrong_catalog_to_people_and_to_programs(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "catalog.yaml").write_text(WRONG)
    assert dr.run(["check"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == len(EXPECTED) + 2
    assert dr.run(["check", "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert [each["line"] for each in error["problems"]] == [line for line, _, _ in EXPECTED]


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("", "the catalog: input should be"),
        ("- a\n- b\n", "the catalog: input should be"),
        ("a: [1\n", "not YAML"),
        ("a: 1\n b: 2\n", "not YAML"),
        ("\tname: x\n", "not YAML"),
        ("a: 1\n---\nb: 2\n", "not YAML"),
        ("name: !!python/object:os.system x\n", "the tag"),
        ("<<: {name: x}\n", "a key that is not a word"),
        ("? [a, b]\n: 1\n", "a key that is not a word"),
        ("name: *nobody\n", "not YAML"),
        ("name: \x01\n", "not YAML"),
    ],
)
def test_what_is_no_catalog_at_all_is_told_with_a_line(text: str, fact: str) -> None:
    catalog, problems = judge(read(text))
    assert catalog is None
    assert any(each.fact.startswith(fact) for each in problems), problems
    assert all(each.hint and each.at.line >= 1 for each in problems)


def test_aliases_of_aliases_end() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    _, problems = judge(read("\n".join(lines)))
    assert any("more than 50000 values" in each.fact for each in problems)


def test_scalars_are_what_they_look_like_and_dates_stay_text() -> None:
    text = "{a: 0x10, b: 1.5, c: true, d: null, e: 2026-11-24, f: '1', g: 007, h: on, i: .inf}"
    assert read(text).data == {
        "a": 16, "b": 1.5, "c": True, "d": None, "e": "2026-11-24", "f": "1", "g": "007", "h": "on", "i": float("inf"),
    }  # fmt: skip


@pytest.mark.parametrize(("body", "fact"), [(b"\xff\xfe", "not UTF-8"), (b"#" * 1_000_001, "larger than")])
def test_what_is_no_text_is_refused(tmp_path: Path, body: bytes, fact: str) -> None:
    file = tmp_path / "catalog.yaml"
    file.write_bytes(body)
    with pytest.raises(BadInput, match=fact):
        load(file)


def test_no_file_is_bad_input_with_a_hint(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BadInput, match="no such file"):
        load(home / "catalog.yaml")
    assert dr.run(["check"]) == 2
    assert "--home" in capsys.readouterr().err


def test_references_to_files_count_from_the_home_from_whatever_folder_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = EXAMPLE.read_text()
    text = text.replace('"profile:standfast-east"', '"file:keys/east.json"')
    text = text.replace('"profile:standfast-west"', '"file:/etc/west.json"')
    text = re.sub(r"encryption: \S+", "encryption: file:keys/backup.aes", text)
    (tmp_path / "catalog.yaml").write_text(text)
    monkeypatch.chdir(tmp_path.parent)
    for named in (tmp_path, Path(tmp_path.name)):
        catalog = load(named / "catalog.yaml")
        references = [site.s3.credentials for site in catalog.sites.values()]
        assert references[:2] == [f"file:{tmp_path}/keys/east.json", "file:/etc/west.json"]
        assert references[2].startswith("profile:")
        encryption = {policy.encryption for policy in catalog.backups.values()} - {None}
        assert encryption == {f"file:{tmp_path}/keys/backup.aes"}
    with pytest.raises(BadInput, match=f"{tmp_path}/keys/east.json can't be read") as caught:
        credentials(catalog.sites[next(iter(catalog.sites))].s3.credentials)
    assert "counts from the home" in caught.value.hint


ODD = """\
a: &x [1, {b: 'é', c: "\\u00e9"}]
again: *x
words: [yes, no, On, ~, null, true, FALSE, 012, 0o14, 0x1F, 1_000, 1e3, .inf, 1:30, 2026-11-28, 10 min, +1, '1']
text: |
  two
  lines
folded: >-
  one
  line
empty:
"""


@pytest.mark.parametrize("text", [EXAMPLE.read_text(), WRONG, ODD, "", "# nothing", "a: 1\na: 2\n", "a: !odd x\n"])
def test_both_readers_of_yaml_say_the_same_of_every_key_and_place(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    by_libyaml = read(text)
    monkeypatch.setattr(yaml_positions, "_composed", YAML(typ="safe", pure=True).compose)
    assert by_libyaml == read(text)


@pytest.mark.parametrize("text", ["a: [1, 2\nb: 3\n", "a: 1\n b: 2\n", "a: 1\n---\nb: 2\n", "a: *nobody\n"])
def test_what_is_no_yaml_is_told_in_the_same_words_by_whichever_reads_it(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_libyaml = read(text)
    assert by_libyaml.problems
    monkeypatch.setattr(yaml_positions, "_composed", YAML(typ="safe", pure=True).compose)
    assert by_libyaml == read(text)
