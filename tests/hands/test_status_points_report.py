"""`dr points`, `status`, `runs`, `show`, `report` over a home with silent servers, whose buckets are folders."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import zstandard

from deployments.cli.main import run
from deployments.cli.points_drawn import _line_drawn
from recovery.point import Backup
from recovery.standing import ServerFacts
from recovery.value import canonical
from tasks import keys
from tasks.dir_store import DirStore
from tasks.journal import Journal
from tasks.ledger_dir import DirectoryLedger
from tasks.standing import _of_servers
from tests.thought.ledger_scene import CATALOG, proof_facts

SIZE = 16 * 1024 * 1024
NOW = datetime.now(UTC)
Dr = Callable[..., tuple[int, dict[str, Any]]]


def backup(name: str, at: datetime, segment: int) -> Backup:
    return Backup(
        id=name, resource="orders", system_id="77", timeline=1, kind="full", begin_lsn=segment * SIZE + 40,
        end_lsn=segment * SIZE + 300, begun_at=at, ended_at=at + timedelta(seconds=2), server_version=180000,
        size_bytes=2_000_000, stored_bytes=500_000,
    )  # fmt: skip


def fill(store: DirStore, *segments: int) -> None:
    made = backup("20261124T000000Z-full", NOW - timedelta(minutes=30), 2)
    store.put(f"base/77/{made.id}/backup.json", canonical(made))
    for number in segments:
        store.put(f"wal/77/00000001/0000000100000000{number:016X}"[:-16] + f"{number:08X}.zst", b"not wal")


@pytest.fixture
def dr(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Dr:
    member = {"dsn": "host=127.0.0.1 port=1 connect_timeout=1", "data_dir": "/d", "bin_dir": "/b"}
    members = {"east": member, "west": {**member, "agent": "http://127.0.0.1:1"}}
    resources = {"orders": {**CATALOG["resources"]["orders"], "members": members}}
    text = json.dumps({**CATALOG, "ledger": {"home": "directory:ledger"}, "resources": resources})
    (home / "catalog.yaml").write_text(text)
    keys.make(home / "keys", "engine", "engine")

    def folder(
        endpoint: object, bucket: str, prefix: str = "", *, region: str, patience_seconds: float = 0
    ) -> DirStore:
        return DirStore(home / f"bucket-{region}")

    monkeypatch.setattr("tasks.s3_store.open_store", folder)
    fill(DirStore(home / "bucket-a"), 2, 3, 4)
    fill(DirStore(home / "bucket-b"), 2, 3, 5)

    def call(*arguments: str) -> tuple[int, dict[str, Any]]:
        capsys.readouterr()
        code = run([*arguments, "--json"])
        out = capsys.readouterr().out
        assert out.count("\n") == 1, "exactly one document"
        document: dict[str, Any] = json.loads(out)
        return code, document

    return call


def prove(home: Path, name: str, sort: str, **changes: Any) -> None:
    """Write a proof's run to the ledger as the engine does."""
    journal = Journal(DirectoryLedger(home / "ledger"), name, who="me", generation=1, clock=lambda: datetime.now(UTC))
    arguments = {"resource": "orders", "sort": sort, "level": "daily"}
    journal.append("run.begun", "orders", facts={"purpose": "prove", "arguments": arguments})
    journal.append("step.begun", "orders", facts={"step": "fetch", "attempt": 1, "verb": "fetch"})
    if changes.pop("open", False):
        return
    facts = proof_facts(NOW, run=name, sort=sort, point="20261124T000000Z-full", **changes)
    journal.append("step.ended", "orders", end=datetime.now(UTC), facts={"step": "fetch", "attempt": 1, "result": {}})
    journal.append("proof", "orders", facts=facts, end=datetime.now(UTC))
    journal.end(str(facts["verdict"]), keys.signer(home / "keys", "engine"))


def test_points_tell_windows_and_gaps_by_file_at_each_site(home: Path, dr: Dr) -> None:
    prove(home, "a1" * 32, "mark")
    code, document = dr("points")
    assert code == 1
    east, west = document["points"]
    assert (east["site"], east["timelines"][0]["gaps"]) == ("east", [])
    assert [gap["first"] for gap in west["timelines"][0]["gaps"]] == ["000000010000000000000004"]
    window = west["timelines"][0]["windows"][0]
    assert (window["stops"], window["to_lsn"]) == ("gap", "0/4000000")
    assert east["backups"][0]["proven"]["run"] == "a1" * 32
    assert east["why"], "the end of an archive that is no WAL can't be read, and it is said"


def test_status_without_any_server_counts_from_the_last_confirmation(home: Path, dr: Dr) -> None:
    prove(home, "a1" * 32, "mark")
    prove(home, "b2" * 32, "latest")
    code, document = dr("status")
    resource = document["resources"][0]
    assert [each["role"] for each in resource["servers"]] == ["silent", "silent"]
    deciding = [each for each in resource["exposure"] if each["judged"] == "decides"]
    assert [(each["site"], each["copy"]) for each in deciding] == [("west", "bucket")]
    since_collection = (datetime.now(UTC) - NOW).total_seconds()  # the bucket's moments lie before NOW, not before now
    assert 1700 < deciding[0]["exposure_seconds"] - since_collection < 2000
    assert (code, document["verdict"]) == (1, "missed")
    assert "exposure" in {each["subject"] for each in resource["reasons"] if each["outcome"] == "missed"}
    assert "agent west" in {each["subject"] for each in resource["reasons"] if each["outcome"] == "warning"}
    assert [(each["sort"], each["state"]) for each in resource["proofs"]] == [("mark", "fresh"), ("latest", "fresh")]


def test_nobody_is_told_to_start_an_old_primary_that_a_failover_keeps_stopped() -> None:
    silent, serves = ServerFacts(site="east", role="silent", why="gone"), ServerFacts(site="west", role="primary")
    at_home = frozenset({"east"})
    (told,) = _of_servers([silent, serves], at_home)
    assert "don't start it by hand; 'dr plan failback'" in told.hint
    (alone,) = _of_servers([silent], at_home)
    (standby,) = _of_servers([ServerFacts(site="east", role="primary"), silent.but(site="west")], at_home)
    assert alone.hint == standby.hint == "see whether it runs: 'dr check'"


def test_a_timeline_of_which_only_the_archive_tells_is_a_doubt_in_points_and_status(home: Path, dr: Dr) -> None:
    raw = b"1\t0/4000020\tno reason\n"
    metadata = {"sha256": hashlib.sha256(raw).hexdigest(), "size": str(len(raw))}
    store = DirStore(home / "bucket-a")
    store.put("wal/77/00000002/00000002.history.zst", zstandard.compress(raw), metadata)
    code, said = dr("points")
    doubts = {place["site"]: place["doubt"] for place in said["points"]}
    assert code == 1
    assert "timeline 2, which left timeline 1" in doubts["east"]
    assert doubts["west"] == ""
    (shown,) = dr("status")[1]["resources"]
    reasons = [each for each in shown["reasons"] if each["subject"] == "timeline"]
    assert [(each["outcome"], each["fact"]) for each in reasons] == [("unproven", doubts["east"])]


def test_unfinished_runs_are_visible_everywhere(home: Path, dr: Dr) -> None:
    prove(home, "c3" * 32, "mark", open=True)
    assert [each["run"] for each in dr("status")[1]["unfinished"]] == ["c3" * 32]
    assert [each["outcome"] for each in dr("runs", "--unfinished")[1]["runs"]] == ["unfinished"]
    shown = dr("show", "c3")[1]
    assert (shown["outcome"], shown["steps"][0]["state"]) == ("unfinished", "underway")
    assert shown["verification"]["outcome"] == "unproven"


def test_a_drill_past_its_date_is_missed_until_one_was_run_and_then_it_says_by_whom(
    home: Path, dr: Dr, capsys: pytest.CaptureFixture[str]
) -> None:
    due = NOW - timedelta(days=2)
    schedule = {"cron": f"{due:%M %H %d %m} *", "late_after": "1 day"}
    drill = {"what": "all of it", "schedule": schedule, "runbook": "drill"}
    catalog = json.loads((home / "catalog.yaml").read_text())
    catalog["operations"] = {**catalog.get("operations", {}), "drills": {"full": drill}}
    (home / "catalog.yaml").write_text(json.dumps(catalog))

    def ran(name: str, at: datetime, purpose: str) -> None:
        journal = Journal(DirectoryLedger(home / "ledger"), name, who="ann@host", generation=1, clock=lambda: at)
        journal.append("run.begun", "core", facts={"purpose": purpose, "arguments": {}})
        journal.end("met", keys.signer(home / "keys", "engine"))

    ran("a0" * 32, NOW - timedelta(days=9), "drill")
    code, document = dr("status")
    assert (code, [each["state"] for each in document["drills"]]) == (1, ["late"])
    run(["status"])
    assert "drill full" in capsys.readouterr().out
    ran("a1" * 32, NOW - timedelta(hours=1), "drill")
    (told,) = dr("status")[1]["drills"]
    assert (told["state"], told["last_who"], told["last_run"]) == ("kept", "ann@host", "a1" * 32)


def test_a_run_is_shown_by_the_beginning_of_its_name_and_an_ambiguous_one_is_refused(home: Path, dr: Dr) -> None:
    prove(home, "ab1" + "0" * 61, "mark")
    prove(home, "ab2" + "0" * 61, "latest")
    shown = dr("show", "ab1")[1]
    assert shown["verification"]["outcome"] == "passed"
    assert shown["said"]["facts"]["sort"] == "mark"
    code, refused = dr("show", "ab")
    assert code == 2
    assert "ab1000000000, ab2000000000" in refused["error"]["fact"]
    assert dr("show", "ff")[0] == 2
    assert dr("show", "zz")[0] == 2


def test_a_changed_record_is_told_by_runs_and_by_the_report(home: Path, dr: Dr) -> None:
    prove(home, "a1" * 32, "mark")
    broken = home / "ledger" / "runs" / ("a1" * 32) / "00000003.json"
    broken.chmod(0o600)
    broken.write_bytes(broken.read_bytes().replace(b'"met"', b'"mot"') + b" ")
    assert [each["run"] for each in dr("runs")[1]["unreadable"]] == ["a1" * 32]
    report = dr("report")[1]
    assert report["verification"]["outcome"] == "failed"


def test_the_page_is_whole_by_itself(home: Path, dr: Dr) -> None:
    odd: list[Any] = [{"name": "<script>", "outcome": "failed", "fact": "a & b <i>"}]
    prove(home, "a1" * 32, "mark", checks=odd, verdict="missed")
    prove(home, "b2" * 32, "latest")
    code, document = dr("report", "--html", str(home / "page.html"))
    page = (home / "page.html").read_text()
    assert code == 1
    assert document["scorecard"]["resources"][0]["rpo"]["newest_seconds"] == 1.5
    assert not re.search(r"""(?:src|href|url\()\s*=?\s*["']?(?:https?:)?//|@import|<script|<link""", page)
    assert "&lt;script&gt;" in page
    assert "<svg" in page
    assert dr("report", "--html", str(home / "none" / "page.html"))[0] == 2


def test_people_get_tables_that_fit_80_columns(
    home: Path, dr: Dr, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    prove(home, "a1" * 32, "mark")
    for command in (["points"], ["status"], ["runs"], ["show", "a1"], ["report"]):
        capsys.readouterr()
        run(command)
        out = capsys.readouterr().out
        assert out.strip()
        assert max(len(line) for line in out.splitlines()) <= 80, command
        assert "…" not in out.replace("…/0", ""), command


def test_a_backup_is_held_and_released_by_name_at_every_site_and_on_record(home: Path, dr: Dr) -> None:
    name = "20261124T000000Z-full"

    def holds() -> list[str]:
        return [each["hold"] for place in dr("points")[1]["points"] for each in place["backups"]]

    assert holds() == ["none", "none"]
    assert dr("backup", "orders", "--hold", name)[0] == 2  # without a reason
    assert dr("backup", "orders", "--hold", "nothing", "--why", "audit")[0] == 2
    code, held = dr("backup", "orders", "--hold", name, "--why", "audit 4711")
    assert (code, held["outcome"], sorted(held["sites"])) == (0, "changed", ["east", "west"])
    assert holds() == ["held", "held"]
    assert (
        json.loads((DirStore(home / "bucket-a").get(f"base/77/{name}/hold.json") or (b"",))[0])["why"] == "audit 4711"
    )
    assert dr("backup", "orders", "--hold", name, "--why", "again")[1]["outcome"] == "already"
    kept = [each for site in dr("sweep")[1]["sites"]["orders"] for each in site["kept"]]
    assert f"{name}: under hold" in kept
    assert dr("backup", "orders", "--release", name, "--why", "it is over")[1]["outcome"] == "changed"
    assert holds() == ["none", "none"]
    assert dr("backup", "orders", "--release", name)[1]["outcome"] == "already"
    purposes = [each["purpose"] for each in dr("runs")[1]["runs"]]
    assert sorted(purposes) == ["hold", "release"]
    assert dr("evidence", "verify")[0] == 0


@pytest.mark.parametrize(
    ("asked", "fact"),
    [
        (("prove", "orders", "--as-of", "2999-01-01T00:00:00Z"), "is in the future"),
        (("restore", "orders", "--to", "new", "--as-of", "2999-01-01T00:00:00Z"), "is in the future"),
        (("restore", "orders", "--to", "/proc/new/folder"), "cannot be made"),
        (("prove", "orders", "--latest", "--timeline", "77"), "tells of timeline 77"),
        (("prove", "orders", "--mutate", ""), "an empty word behind --mutate"),
        (("prove", "orders", "--latest", "--mutate", "rows-missing"), "compared with a mark alone"),
    ],
)
def test_what_cannot_be_meant_is_bad_input_whatever_the_archive_is_like(
    home: Path, dr: Dr, asked: tuple[str, ...], fact: str, tmp_path: Path
) -> None:
    asked = tuple(str(tmp_path / each) if each == "new" else each for each in asked)
    code, told = dr(*asked)
    assert (code, fact in told["error"]["fact"], bool(told["error"]["hint"])) == (2, True, True)
    assert dr("runs")[1]["runs"] == []


def test_where_an_archive_has_several_timelines_each_window_stands_below_the_name_of_its_own() -> None:
    window = {"stops": "end of archive", "from_at": "2026-11-24T03:00:00Z", "to_at": "2026-11-24T04:00:00Z"}
    window |= {"from_lsn": "0/1", "to_lsn": "0/2", "backup": "a-full", "missing": ""}
    lines = [{"timeline": number, "windows": [window], "gaps": [], "marks": [], "why": ""} for number in (1, 2)]
    several = {"timeline": 2, "timelines": lines}
    assert "timeline 2" in str(_line_drawn(lines[1], several, True)[0])
    assert "window" in str(_line_drawn(lines[1], {**several, "timelines": lines[1:]}, True)[0])
