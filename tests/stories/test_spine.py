"""The main job in the lab: backups, WAL at both sites, proofs of every sort, RPO against the workload's own record."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from deployments.lab import load as workload
from deployments.lab.agent import part as agent
from deployments.lab.demo import patiently
from deployments.lab.environment import for_python
from deployments.lab.postgres import server
from deployments.lab.world import World, down, up
from recovery.plan import Plan
from tasks import backing, keys, proving
from tasks.engine import Act
from tasks.evidence import verify
from tasks.home import Home, open_home
from tasks.postgres import looking
from tasks.store import Store

pytestmark = pytest.mark.lab
DB = "orders-db"


def dr(home: Path, *words: str) -> tuple[int, Any, str]:
    """The command line as its user runs it: exit code, the one JSON document, what went to stderr."""
    ran = subprocess.run(
        [sys.executable, "-m", "deployments.cli.main", *words, "--json", "--home", str(home)],
        capture_output=True, text=True, timeout=180, env={**os.environ, **for_python()}, check=False,
    )  # fmt: skip
    return ran.returncode, json.loads(ran.stdout), ran.stderr


def not_passed(said: Any) -> list[str]:
    return [
        f"{proof['sort']}: {check['name']} {check['outcome']}: {check['fact']}"
        for proof in said["proofs"]
        for check in proof["checks"]
        if check["outcome"] != "passed"
    ]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    raised = up(tmp_path_factory.mktemp("spine") / "home")
    workload.begin(raised, rate=30, seed=7)
    yield raised
    workload.end(raised)
    down(raised.home, wipe=True)


@pytest.fixture(scope="module")
def home(world: World) -> Home:
    """A home with a full backup, an incremental against it, and a mark, all at the recovery site too."""
    opened = open_home(world.home)
    for which in ("full", "incremental"):
        take(opened, which)
    backing.take_mark(opened, DB)
    until(lambda: proving.plan_proof(opened, proving.Wanted(resource=DB, sort="mark")))
    until(lambda: two_backups(opened.backups(DB, "west")))
    return opened


def two_backups(store: Store) -> None:
    assert len(looking.backups(store)) >= 2


def until(look: Callable[[], object]) -> None:
    """Within its patience, whatever it raises meanwhile."""
    deadline = time.monotonic() + 60
    while True:
        try:
            patiently(look, patience_seconds=60)
        except AssertionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return


def take(opened: Home, which: str) -> backing.Taken:
    plan = backing.plan_backup(opened, DB, which)  # type: ignore[arg-type]
    assert isinstance(plan, Plan)
    return backing.take(Act(home=opened), plan)


def test_the_daily_proof_is_met_with_content_equal_to_the_mark(home: Home) -> None:
    code, said, _ = dr(home.folder, "prove", DB)
    assert code == 0, not_passed(said)
    by_sort = {each["sort"]: each for each in said["proofs"]}
    assert set(by_sort) == {"mark", "latest"}
    outcomes = {check["name"]: check["outcome"] for check in by_sort["mark"]["checks"]}
    assert outcomes["catalog"] == outcomes["content"] == outcomes["isolation"] == "passed"
    assert by_sort["mark"]["rpo_seconds"] is None
    assert by_sort["latest"]["rpo_seconds"] < 20
    for each in said["proofs"]:
        assert each["leftovers"] == []
        total = sum(phase["seconds"] for phase in each["phases"])
        assert total == pytest.approx(each["rto_seconds"], rel=0.01)
    assert list((home.folder / "scratch").iterdir()) == []
    _, points, _ = dr(home.folder, "points", DB)
    by_site = {each["site"]: each["forecast"]["forecast_from"] for each in points["points"]}
    assert re.match(r"from ([2-9]|1\d) restores at west", by_site["west"]), "what these took is what comes next"
    assert by_site["east"].startswith("from usual rates")


def test_a_chosen_moment_has_the_last_commit_before_it_and_not_the_first_after(home: Home) -> None:
    moment = home.now() - timedelta(seconds=2)
    until(lambda: proving.plan_proof(home, proving.Wanted(resource=DB, sort="time", at=moment)))
    code, said, _ = dr(home.folder, "prove", DB, "--as-of", moment.isoformat())
    assert code == 0, not_passed(said)
    outcomes = {check["name"]: check["outcome"] for check in said["proofs"][0]["checks"]}
    assert outcomes["boundary"] == outcomes["target"] == "passed"
    assert said["proofs"][0]["rpo_seconds"] is None


def test_rpo_is_true_to_what_the_workload_was_told(world: World, home: Home, tmp_path: Path) -> None:
    """Every row acknowledged up to the claimed instant came back; the first missing one was acknowledged after it."""
    code, said, _ = dr(home.folder, "restore", DB, "--to", str(tmp_path / "kept"))
    assert code == 0, said
    claimed = datetime.fromisoformat(said["point"]["target"]["at"])
    restored, last_written = rows_of(Path(said["data_dir"]), world)
    book = [json.loads(line) for line in workload.acknowledgements(world).read_text().splitlines()]
    acknowledged = {line["seq"]: datetime.fromisoformat(line["acknowledged_at"]) for line in book}
    missing = [at for seq, at in acknowledged.items() if seq not in restored]
    assert missing, "the workload went on, so something must be missing"
    assert min(missing) > claimed
    assert claimed >= last_written, "the claim is not needlessly modest"
    assert all(seq in restored for seq, at in acknowledged.items() if at <= claimed)


def rows_of(data: Path, world: World) -> tuple[set[int], datetime]:
    """The rows of a restored data directory and when the last one was written, read from a server of its own."""
    bin_dir = Path(open_home(world.home).resource(DB).members["east"].bin_dir)
    server.configure(
        data, {"listen_addresses": "", "unix_socket_directories": ".", "port": "5432"}, file="postgresql.auto.conf"
    )
    (data / "postgresql.conf").write_text("")
    (data / "pg_hba.conf").write_text("local all all trust\n")
    process = server.start(bin_dir, data, log=data.parent / "again.log")
    try:
        server.wait_for_status(data, log=data.parent / "again.log", alive=lambda: process.poll() is None)
        dsn = f"host=/proc/{process.pid}/cwd user=postgres dbname=postgres"
        with psycopg.connect(dsn) as connection:
            rows = connection.execute("select seq, at from rows").fetchall()
            return {seq for seq, _ in rows}, max(at for _, at in rows)
    finally:
        server.stop(process)


def test_a_planted_fault_is_named_through_the_command_line(home: Home) -> None:
    for fault in ("base-flipped", "rows-altered"):  # the other stages are in the tour and in tests/hands
        code, said, _ = dr(home.folder, "prove", DB, "--mutate", fault)
        planted = said["proofs"][0]["planted"]
        assert (code, planted["detected"]) == (0, True), said
        assert said["proofs"][0]["verdict"] == "missed"
        assert said["proofs"][0]["leftovers"] == []


def test_a_kept_slot_needs_nothing_and_says_so(home: Home) -> None:
    code, said, _ = dr(home.folder, "backup", DB)
    assert code == 0
    assert said["outcome"] in ("already", "changed")
    again = dr(home.folder, "backup", DB)
    assert again[0] == 0
    assert again[1]["outcome"] == "already"
    assert "next:" in again[1]["why"]


def test_evidence_of_all_that_is_whole(home: Home) -> None:
    report = verify(home.ledger())
    assert report.troubles == ()
    code, _, said = dr(home.folder, "evidence", "verify")
    assert code == 0, said


@pytest.mark.slow
def test_encrypted_backups_and_wal_are_proven_too_and_need_their_key(world: World, home: Home) -> None:
    keys.make(home.folder / "keys", "backup", "backup")
    text = (home.folder / "catalog.yaml").read_text()
    (home.folder / "catalog.yaml").write_text(
        text.replace("    window: 7 days\n", "    window: 7 days\n    encryption: file:keys/backup.aes\n")
    )
    for site in ("east", "west"):
        agent.stop(world, site)
        agent.start(world, site)
    opened = open_home(home.folder)
    taken = take(opened, "full")
    assert opened.backups(DB, "east").head(f"base/{system_of(opened)}/{taken.id}/base.tar.zst.enc") is not None
    wanted = proving.Wanted(resource=DB, sort="latest")
    until(lambda: encrypted_point(opened, wanted, taken.id))
    assert proving.prove(Act(home=opened), wanted).verdict.value == "met"
    kept = (home.folder / "keys" / "backup.aes").rename(home.folder / "elsewhere.aes")
    code, said, _ = dr(home.folder, "prove", DB, "--latest")
    assert code == 2, said
    assert "backup.aes" in said["error"]["fact"]
    kept.rename(home.folder / "keys" / "backup.aes")


def encrypted_point(opened: Home, wanted: proving.Wanted, backup: str) -> None:
    point = proving.plan_proof(opened, wanted).pinned["point"]
    assert isinstance(point, dict)
    assert backup in point["backups"]  # type: ignore[operator]


def system_of(opened: Home) -> str:
    return looking.backups(opened.backups(DB, "east"))[0].system_id
