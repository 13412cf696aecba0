"""The witness dead: proofs are met, status and evidence answer within seconds and say it; afterwards nothing is missing
there and all is verified."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from troubled import DB, dr, until

from deployments.cli import main
from deployments.lab import breaking, faults
from deployments.lab.world import World
from tasks import proving
from tasks.engine import Act
from tasks.home import Home, ledger_seen, open_home
from tasks.ledger_mirrored import MirroredLedger, silent_of
from tasks.loop import Event

pytestmark = [pytest.mark.lab, pytest.mark.slow]
Lab = tuple[World, Home]


@contextmanager
def witness_broken(world: World, how: str) -> Iterator[None]:
    breaking.begin(world, faults.parse("witness", how))
    try:
        yield
    finally:
        breaking.end(world, "witness")


def says(home: Home, capsys: pytest.CaptureFixture[str], *words: str, within_seconds: float = 10.0) -> tuple[int, str]:
    """What a command says, and its exit code; it must answer within that."""
    capsys.readouterr()
    begun = time.monotonic()
    code = main.run([*words, "--json", "--home", str(home.folder)])
    assert time.monotonic() - begun < within_seconds, words
    return code, capsys.readouterr().out


@pytest.mark.parametrize(
    "how", ["blackhole", pytest.param("kill", marks=pytest.mark.slow), pytest.param("stop", marks=pytest.mark.slow)]
)
def test_a_dead_witness_hinders_no_proof_and_lacks_nothing_afterwards(
    troubled: Lab, how: str, capsys: pytest.CaptureFixture[str]
):
    world, home = troubled
    told: list[Event] = []
    with witness_broken(world, how):
        begun = time.monotonic()
        assert ledger_seen(open_home(home.folder)).home == "silent"
        assert time.monotonic() - begun < 2.5
        proof = proving.prove(
            Act(home=open_home(home.folder), tell=told.append), proving.Wanted(resource=DB, sort="latest")
        )
        assert proof.verdict.value == "met", proof
        notes = [each.text for each in told if each.word == "noted"]
        assert any("held at the recovery site" in each for each in notes), notes
        assert any("are not at s3://standfast-evidence at witness yet" in each for each in notes), notes
        code, out = says(home, capsys, "runs")
        assert code == 0
        document = json.loads(out)
        assert [each["outcome"] for each in document["runs"] if each["run"] == proof.run] == ["met"]
        assert list(document["silent"]) == ["s3://standfast-evidence at witness"]
        code, out = says(home, capsys, "evidence", "verify", "--run", proof.run)
        assert code == 3
        assert [each["outcome"] for each in json.loads(out)["runs"]] == ["passed"]
    until(lambda: says(home, capsys, "evidence", "sync", within_seconds=60)[0] == 0)
    ledger = open_home(home.folder).ledger()
    assert isinstance(ledger, MirroredLedger)
    at_home = set(ledger.ledgers[0].list(f"runs/{proof.run}/"))
    assert at_home == set(ledger.ledgers[1].list(f"runs/{proof.run}/"))
    assert len(at_home) > 5
    code, out = says(home, capsys, "evidence", "verify", "--run", proof.run, within_seconds=60)
    assert (code, json.loads(out)["silent"]) == (0, {})
    assert silent_of(ledger) == {}


@pytest.mark.slow
@pytest.mark.parametrize("how", ["kill", "stop", "blackhole"])
def test_every_command_answers_while_the_witness_is_dead(troubled: Lab, how: str):
    """Within what it takes on this machine now, and a few patiences."""
    world, home = troubled
    commands = (("status",), ("points",), ("evidence", "verify"), ("sweep",), ("runs",))
    usual = {words: dr(home.folder, *words, "--json").seconds for words in commands}
    with witness_broken(world, how):
        backed = dr(home.folder, "backup", DB, "--full", "--json")
        assert backed.code == 0, backed
        for words in commands:
            said = dr(home.folder, *words, "--json")
            assert said.seconds < 2 * usual[words] + 6, (words, usual[words], said)
            assert "Traceback" not in said.err, said
            assert said.document
    until(lambda: dr(home.folder, "evidence", "sync", "--json").code == 0)
