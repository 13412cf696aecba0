"""The engine killed, interrupted or doubled at each step of a proof, a backup and a restore: the same command ends as
if nothing had been, every effect once, nothing left, and it says what it discarded."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from troubled import DB, Running, Said, dr, evidence_troubles, left, living, runs_of, servers_of, swept, until

from deployments.lab.world import World
from tasks import proving
from tasks.engine import Act
from tasks.home import Home
from tasks.postgres import looking

pytestmark = pytest.mark.lab
Lab = tuple[World, Home]

STEPS = ("fetch", "verify", "recover", "check", "discard")
MOMENTS = [f"{step}: {word}" for step in STEPS for word in ("begun", "ended")]
SAMPLE = {"recover: begun"}


def sampled(moments: list[str], sample: set[str]) -> list[object]:
    return [pytest.param(each, marks=() if each in sample else pytest.mark.slow) for each in moments]


def proves_again(home: Home, killed: Said, before: dict[str, str | None]) -> None:
    """The same again: met, the killed run is cancelled, and it says so; nothing is left; evidence verifies."""
    told: list[str] = []
    act = Act(home=home, tell=lambda event: told.append(event.text))
    again = proving.prove(act, proving.Wanted(resource=DB, sort="latest"))
    assert again.verdict.value == "met", again
    after = {run: ended for run, ended in runs_of(home, "prove").items() if run not in before}
    first, last = list(after.items())
    assert (first[1], last[1]) in {("cancelled", "met"), ("met", "met")}
    if first[1] == "cancelled":
        assert any(text.startswith(f"run {first[0][:8]} ") and "is discarded" in text for text in told), told
    assert left(home) == []
    assert evidence_troubles(home, after) == []


@pytest.mark.parametrize("inside_seconds", [0.0, pytest.param(0.15, marks=pytest.mark.slow)])
@pytest.mark.parametrize("moment", sampled(MOMENTS, SAMPLE))
def test_a_proof_whose_engine_is_killed_is_done_again_by_the_same_command(
    troubled: Lab, moment: str, inside_seconds: float
):
    _, home = troubled
    before = runs_of(home, "prove")
    running = Running(home.folder, "prove", DB, "--latest", "--json")
    running.await_line(moment)
    time.sleep(inside_seconds)  # not to wait for anything: the moment of the kill is what varies
    killed = running.kill()
    assert killed.code in {-signal.SIGKILL, 0}
    proves_again(home, killed, before)


@pytest.mark.parametrize("moment", sampled(["recover: begun", "recover: ended", "check: begun"], {"recover: begun"}))
def test_a_proof_whose_programs_are_killed_makes_a_fresh_attempt(troubled: Lab, moment: str):
    _, home = troubled
    running = Running(home.folder, "prove", DB, "--latest", "--json")
    running.await_line(moment)
    until(lambda: "postgres" in [each.name() for each in running.children()], patience_seconds=10)
    for process in running.children():
        with suppress(psutil.NoSuchProcess):  # a server's workers come and go
            process.kill()
    said = running.end()
    proof = said.document["proofs"][0]
    assert (said.code, proof["verdict"]) == (0, "met"), said
    assert "fetch: begun attempt 2" in said.err, "the kill came when the proof was done"
    assert "the scratch server" in said.err
    assert left(home) == []


@pytest.mark.parametrize("moment", sampled(MOMENTS, set()))
def test_ctrl_c_ends_a_proof_at_once_and_says_how_to_go_on(troubled: Lab, moment: str):
    _, home = troubled
    before = runs_of(home, "prove")
    running = Running(home.folder, "prove", DB, "--latest", "--json")
    running.await_line(moment)
    begun = time.monotonic()
    said = running.kill(signal.SIGINT)
    assert time.monotonic() - begun < 5
    if said.code == 0:
        pytest.skip("the proof was done before the signal came")
    assert said.code == 130, said
    assert "stopped by Ctrl-C" in said.err
    assert "the same command again" in said.err
    assert servers_of(home.scratch) == []
    proves_again(home, said, before)


@pytest.mark.parametrize("inside_seconds", sampled([0.0, 0.1, 0.3, 0.6], {0.1}))  # type: ignore[arg-type]
def test_a_killed_backup_is_invisible_and_the_next_one_is_whole(troubled: Lab, inside_seconds: float):
    _, home = troubled
    store = home.backups(DB, "east")
    before = {each.id for each in looking.backups(store)}
    running = Running(home.folder, "backup", DB, "--full", "--json")
    running.await_line("take: begun")
    time.sleep(inside_seconds)  # the moment of the kill is what varies
    programs = running.children()
    killed = running.kill()
    if killed.code == 0 or list(runs_of(home, "backup").values())[-1] == "met":
        pytest.skip("the backup was done before the signal came")
    kept = {each.id for each in looking.backups(store)} - before
    assert len(kept) <= (inside_seconds > 0.1), "what was killed early is invisible; a late one may have been whole"
    again = dr(home.folder, "backup", DB, "--full", "--json")
    assert again.code == 0, again
    assert "was unfinished and is discarded" in again.err
    assert {each.id for each in looking.backups(store)} - before - kept == {again.document["id"]}
    assert living(programs) == []
    until(lambda: again.document["id"] in {each.id for each in looking.backups(home.backups(DB, "west"))})
    swept(home)  # after the agent's copy of the new one: an unfinished copy looks like what a killed backup left
    assert left(home) == []
    assert list(runs_of(home, "backup").values())[-2:] == ["cancelled", "met"]
    assert evidence_troubles(home, list(runs_of(home, "backup"))[-2:]) == []


@pytest.mark.parametrize("moment", sampled(["fetch: begun", "recover: begun", "settle: begun"], {"recover: begun"}))
def test_a_killed_restore_is_cleared_and_done_again_into_the_same_folder(troubled: Lab, tmp_path: Path, moment: str):
    _, home = troubled
    into = tmp_path / "restored"
    running = Running(home.folder, "restore", DB, "--to", str(into), "--json")
    running.await_line(moment)
    assert running.kill().code == -signal.SIGKILL
    again = dr(home.folder, "restore", DB, "--to", str(into), "--json")
    assert again.code == 0, again
    assert "was unfinished and is discarded" in again.err
    assert (into / "data" / "PG_VERSION").exists()
    assert servers_of(into) == []
    assert list(runs_of(home, "restore").values())[-2:] == ["cancelled", "met"]


def test_a_deep_proof_ends_its_server_itself_and_restores_once(troubled: Lab):
    _, home = troubled
    told: list[str] = []
    act = Act(home=home, tell=lambda event: told.append(f"{event.step} {event.word}"))
    proof = proving.prove(act, proving.Wanted(resource=DB, sort="latest", level="deep"))
    assert proof.verdict.value == "met", proof
    assert (told.count("fetch begun"), told.count("check begun")) == (1, 1)
    assert left(home) == []


def test_two_engines_on_one_proof_are_one_proof_and_one_refusal(troubled: Lab):
    _, home = troubled
    first = Running(home.folder, "prove", DB, "--latest", "--json")
    first.await_line("fetch: begun")
    os.kill(first.process.pid, signal.SIGSTOP)
    try:
        runs = runs_of(home, "prove")
        second = dr(home.folder, "prove", DB, "--latest", "--json")
    finally:
        os.kill(first.process.pid, signal.SIGCONT)
    assert second.code == 4, second
    run = list(runs)[-1]
    assert f"is being driven by {home.who}" in second.err
    assert run in second.err
    assert "fetch" not in second.err
    ended = first.end()
    assert ended.code == 0, ended
    assert runs_of(home, "prove") == {**runs, run: "met"}
    assert left(home) == []
