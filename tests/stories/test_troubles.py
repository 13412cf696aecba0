"""Bad input, full disks, S3 and Postgres in every sort of trouble: a clear message with a hint, an exit code, nothing
lost, nothing left, and the next run goes on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import psutil
import psycopg
import pytest
from troubled import DB, Running, Said, back_up, dr, left, living, runs_of, swept, until, words, write

from deployments.cli import main
from deployments.lab import breaking, faults
from deployments.lab.environment import for_python
from deployments.lab.world import World
from tasks import proving
from tasks.engine import Act
from tasks.home import Home, open_home
from tasks.postgres import looking

pytestmark = pytest.mark.lab
Lab = tuple[World, Home]
PROVE = ("prove", DB, "--latest", "--json")


@contextmanager
def broken(world: World, name: str, how: str) -> Iterator[None]:
    breaking.begin(world, faults.parse(name, how))
    try:
        yield
    finally:
        breaking.end(world, name)


def proves(home: Home) -> None:
    def met() -> bool:
        made = proving.prove(Act(home=home), proving.Wanted(resource=DB, sort="latest"))
        return made.verdict.value == "met"

    assert until(met)
    assert left(home) == []


def told_well(said: Said, *codes: int) -> None:
    """An exit code of those, a fact and a hint, and no secret."""
    assert said.code in codes, said
    assert "Traceback" not in said.err + said.out, said
    assert "hint" in said.err + said.out, said


@pytest.mark.parametrize(
    ("asked", "fact"),
    [
        (("prove", "nowhere"), "the catalog has no resource 'nowhere'"),
        (("backup", "nowhere"), "the catalog has no resource 'nowhere'"),
        (("prove", DB, "--as-of", "FUTURE"), "is in the future"),
        (("prove", DB, "--as-of", "2020-01-01T00:00:00Z"), "no point for 2020-01-01"),
        (("prove", DB, "--as-of", "2026-11-24T03:00:00"), "zone"),
        (("prove", DB, "--as-of", "soon"), "soon"),
        (("restore", DB, "--to", "OWN"), "is the data directory of the server"),
    ],
)
def test_bad_input_is_refused_and_nothing_is_written(
    troubled: Lab, asked: tuple[str, ...], fact: str, capsys: pytest.CaptureFixture[str]
):
    world, home = troubled
    future = (home.now() + timedelta(hours=1)).isoformat()
    asked = tuple({"FUTURE": future, "OWN": str(world.data_dir("west"))}.get(each, each) for each in asked)
    keys = list(home.ledger().list(""))
    code = main.run([*asked, "--json", "--home", str(home.folder)])
    told = capsys.readouterr()
    told_well(Said(code=code, out=told.out, err=told.err, seconds=0), 2)
    assert fact in told.err
    assert list(home.ledger().list("")) == keys
    assert left(home) == []


@pytest.mark.parametrize("how", [pytest.param("kill", marks=pytest.mark.slow), "stop"])
def test_a_proof_needs_no_primary_and_decides_within_seconds_when_there_is_none(troubled: Lab, how: str):
    world, home = troubled
    with ExitStack() as stack:
        for site in ("east", "west"):
            stack.enter_context(broken(world, f"postgres:{site}", how))
        begun = time.monotonic()
        plan = proving.plan_proof(home, proving.Wanted(resource=DB, sort="latest"))
        assert time.monotonic() - begun < 8
        assert plan.pinned["site"] == "west"
        assert proving.prove(Act(home=home), proving.Wanted(resource=DB, sort="latest")).verdict.value == "met"
        said = dr(home.folder, "backup", DB, "--full", "--json")
        told_well(said, 1)
        assert f"no primary of {DB} answers" in said.err
    until(lambda: [each.place for each in looking.members(home.resource(DB)) if each.place is None] == [])
    assert left(home) == []


def test_a_server_without_a_connection_to_spare_is_named_and_the_next_backup_goes_on(troubled: Lab):
    world, home = troubled
    with ExitStack() as stack:
        take_all_connections(world, stack)
        said = dr(home.folder, "backup", DB, "--full", "--json")
        told_well(said, 1)
        assert "clients" in said.err or "slots" in said.err
    until(lambda: looking.primary_of(looking.members(home.resource(DB))))
    assert back_up(home).kind == "full"


def take_all_connections(world: World, stack: ExitStack) -> None:
    """Until the server says that there are no more."""
    for _ in range(1000):
        try:
            stack.enter_context(psycopg.connect(world.dsn("east"), autocommit=True))
        except psycopg.OperationalError:
            return
    raise AssertionError("the server takes any number of connections")


@pytest.mark.slow
@pytest.mark.parametrize("how", ["kill", "blackhole"])
def test_s3_that_is_gone_is_named_and_the_next_proof_goes_on(troubled: Lab, how: str):
    world, home = troubled
    with broken(world, "s3:west", how):
        said = dr(home.folder, *PROVE)
        told_well(said, 1)
        assert "bucket backups at http" in said.err
        assert "AKIA" not in said.err
    proves(home)


@pytest.mark.parametrize("moment", ["fetch: begun", pytest.param("recover: begun", marks=pytest.mark.slow)])
def test_s3_that_stops_underway_is_waited_for_within_a_patience(troubled: Lab, moment: str):
    world, home = troubled
    running = Running(home.folder, *PROVE)
    running.await_line(moment)
    with broken(world, "s3:west", "stop"):
        time.sleep(3)  # how long the trouble lasts
    said = running.end(120)
    assert said.code == 0, said
    assert left(home) == []


def test_a_silent_mirror_of_the_ledger_does_not_slow_a_proof(troubled: Lab):
    world, home = troubled
    with broken(world, "s3:east", "blackhole"):
        proof = proving.prove(Act(home=open_home(home.folder)), proving.Wanted(resource=DB, sort="latest"))
    assert proof.verdict.value == "met"
    waited = sum(each.seconds for each in proof.phases if each.name == "decide")
    assert waited < 6, proof.phases


@pytest.mark.parametrize(
    ("change", "fact"),
    [("credentials", "refused the credentials"), ("bucket", "there is no bucket nothing at")],
)
def test_wrong_credentials_and_a_missing_bucket_are_bad_input(troubled: Lab, tmp_path: Path, change: str, fact: str):
    world, home = troubled
    other = tmp_path / "home"
    other.mkdir()
    shutil.copytree(home.folder / "keys", other / "keys")
    text = (home.folder / "catalog.yaml").read_text()
    wrong = tmp_path / "wrong.json"
    wrong.write_text(json.dumps({"access_key_id": "nobody", "secret_access_key": "not-the-secret"}))
    if change == "credentials":
        text = text.replace(str(world.s3_credentials("west")), str(wrong))
    else:
        text = text.replace("bucket: backups", "bucket: nothing")
    (other / "catalog.yaml").write_text(text)
    said = dr(other, *PROVE)
    told_well(said, 2)
    assert fact in said.err
    assert "not-the-secret" not in said.err + said.out


def test_a_disk_too_small_for_a_restore_is_told_before_anything_is_written(troubled: Lab, tmp_path: Path):
    said = on_a_small_disk(troubled[1], tmp_path, "20m")
    told_well(said, 1)
    assert "free" in said.err
    assert "LEFT: []" in said.out


def test_a_disk_that_fills_up_with_wal_fails_with_a_hint_and_leaves_nothing(troubled: Lab, tmp_path: Path):
    world, home = troubled
    for _ in range(3):
        write(world, "fills a segment", count=1)
    until(lambda: proving.plan_proof(home, proving.Wanted(resource=DB, sort="latest")))
    said = on_a_small_disk(home, tmp_path, "125m")
    told_well(said, 1)
    assert "space" in said.err
    assert "LEFT: []" in said.out
    proves(home)


def on_a_small_disk(home: Home, tmp_path: Path, size: str) -> Said:
    """`dr restore` into a file system of that size, in a mount namespace of its own, and what it left there."""
    into = tmp_path / "small"
    into.mkdir()
    line = (
        f'mount -t tmpfs -o size={size} none "$1" || exit 99; shift_to="$1"; shift; "$@"; code=$?; '
        'echo "LEFT: [$(ls -A "$shift_to")]"; exit $code'
    )
    argv = ["unshare", "-Urm", "sh", "-c", line, "sh", str(into), *words(home.folder, "restore", DB, "--to", str(into))]
    begun = time.monotonic()
    ran = subprocess.run(
        argv, capture_output=True, text=True, timeout=180, check=False, env={**os.environ, **for_python()}
    )
    if ran.returncode == 99 or "unshare" in ran.stderr:
        pytest.skip("this machine has no user and mount namespaces")
    return Said(code=ran.returncode, out=ran.stdout, err=ran.stderr, seconds=time.monotonic() - begun)


def test_no_secret_shows_in_what_is_said_logged_recorded_or_listed(troubled: Lab, tmp_path: Path):
    world, home = troubled
    secrets = {json.loads(world.s3_credentials(place).read_text())["secret_access_key"] for place in ("east", "west")}
    secrets |= {line.rpartition(":")[2] for line in world.passfile.read_text().splitlines() if ":" in line}
    secrets = {each for each in secrets if len(each) > 7}
    assert secrets
    seen: list[str] = []
    for asked in (("backup", DB, "--full"), PROVE[:-1], ("restore", DB, "--to", str(tmp_path / "kept"))):
        running = Running(home.folder, "--debug", *asked)
        while running.process.poll() is None:
            seen += alive(running)
            time.sleep(0.1)  # a sample of the list of processes
        said = running.end()
        assert said.code == 0, said
        seen += [said.out, said.err]
    ledger = home.ledger()
    seen += [(ledger.get(key) or b"").decode("utf-8", "replace") for key in ledger.list("")]
    logs = [*home.folder.glob("log/*"), *home.folder.glob("lab/log/*")]
    seen += [each.read_text(errors="replace") for each in logs if each.is_file()]
    assert len(seen) > 20
    assert [each[:80] for each in seen if any(secret in each for secret in secrets)] == []


def alive(running: Running) -> list[str]:
    """The command lines of `dr` and all below it."""
    found = []
    with suppress(psutil.Error):
        for each in (psutil.Process(running.process.pid), *running.children()):
            with suppress(psutil.Error):
                found.append(" ".join(each.cmdline()))
    return found


@pytest.mark.slow
def test_a_server_that_restarts_during_a_backup_is_told_and_the_next_backup_is_whole(troubled: Lab):
    world, home = troubled
    running = Running(home.folder, "backup", DB, "--full", "--json")
    running.await_line("take: begun")
    with broken(world, "postgres:east", "kill"):
        pass
    said = running.end(120)
    if said.code != 0:
        told_well(said, 1)
    until(lambda: looking.primary_of(looking.members(home.resource(DB))))
    assert until(lambda: dr(home.folder, "backup", DB, "--full", "--json").code == 0)
    assert list(runs_of(home, "backup").values())[-1] == "met"
    swept(home)
    assert left(home) == []


def test_a_backup_of_a_stopped_server_is_ended_by_ctrl_c_at_once(troubled: Lab):
    world, home = troubled
    running = Running(home.folder, "backup", DB, "--full", "--json")
    running.await_line("take: begun")
    with broken(world, "postgres:east", "stop"):
        begun = time.monotonic()
        programs = running.children()
        said = running.kill(signal.SIGINT)
        assert time.monotonic() - begun < 5
    assert said.code in {0, 130}
    assert living(programs) == []
    swept(home)
    assert left(home) == []
