"""Keys in a home: made once, private to their owner, followed up without losing anything."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deployments.cli.main import run as dr
from recovery.check import Outcome
from recovery.errors import BadInput
from tasks import keys
from tasks.evidence import public_keys, verify
from tasks.journal import Journal
from tasks.leases import wall_clock
from tasks.ledger_dir import DirectoryLedger
from tasks.signatures import valid


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "keys"


def test_a_key_is_made_once_and_is_private(folder: Path) -> None:
    card = keys.make(folder, "alice", "approver")
    assert (card.role, card.retired, card.private) == ("approver", False, True)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "alice.ed25519").stat().st_mode & 0o777 == 0o600
    assert (folder / "alice.pub").read_bytes().startswith(b"-----BEGIN PUBLIC KEY-----")
    with pytest.raises(BadInput, match="a key named alice already"):
        keys.make(folder, "alice", "backup")
    assert not list(folder.glob(".*")), "nothing unfinished is left"


@pytest.mark.parametrize("name", ["", "Alice", "../x", "a b", "-x", "a.b", "x" * 64])
def test_a_name_that_is_no_name_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(BadInput, match="is not a name for a key"):
        keys.make(folder, name, "approver")
    assert not folder.exists()


@pytest.mark.parametrize(("name", "role"), [("engine", "approver"), ("alice", "engine"), ("engine-2", "backup")])
def test_an_engines_name_and_role_go_together(folder: Path, name: str, role: keys.Role) -> None:
    with pytest.raises(BadInput, match="cannot have the role"):
        keys.make(folder, name, role)


def test_a_private_key_that_others_can_read_is_not_used(folder: Path) -> None:
    keys.make(folder, "alice", "approver")
    (folder / "alice.ed25519").chmod(0o644)
    with pytest.raises(BadInput, match="can be read by others") as caught:
        keys.signer(folder, "alice")
    assert "chmod 600" in caught.value.hint


def test_a_key_that_is_not_there_is_asked_for_by_its_command(folder: Path) -> None:
    with pytest.raises(BadInput, match="no private key of bob") as caught:
        keys.signer(folder, "bob")
    assert "dr keys make bob" in caught.value.hint
    with pytest.raises(BadInput, match="can't be read"):
        keys.backup_keys(folder, "backup")


def test_rotation_keeps_the_old_public_key_and_what_it_signed(folder: Path) -> None:
    first = keys.make(folder, "alice", "approver")
    signed = keys.signer(folder, "alice")(b"x")
    card, before = keys.rotate(folder, "alice")
    assert before is not None
    assert before.fingerprint == first.fingerprint != card.fingerprint
    assert keys.signer(folder, "alice").fingerprint == card.fingerprint
    pems = keys.public_pems(folder)
    assert set(pems) == {first.fingerprint, card.fingerprint}
    assert valid(b"x", signed, pems[first.fingerprint])
    states = [(each.fingerprint, each.retired, each.private) for each in keys.cards(folder)]
    assert states == [(card.fingerprint, False, True), (first.fingerprint, True, False)]


def test_a_rotation_that_was_killed_before_its_public_half_heals(folder: Path) -> None:
    keys.make(folder, "alice", "approver")
    stale = (folder / "alice.pub").read_bytes()
    card, _ = keys.rotate(folder, "alice")
    (folder / "alice.pub").write_bytes(stale)
    assert keys.cards(folder)[0].fingerprint == card.fingerprint, "the private key decides"
    again, before = keys.rotate(folder, "alice")
    assert before is not None
    assert before.fingerprint == card.fingerprint
    assert again.fingerprint != card.fingerprint


def test_a_backup_key_that_was_rotated_still_opens_old_backups(folder: Path) -> None:
    first = keys.make(folder, "backup", "backup")
    assert (folder / "backup.aes").stat().st_mode & 0o777 == 0o600
    card, before = keys.rotate(folder, "backup")
    assert before is None
    ring = keys.backup_keys(folder, "backup")
    assert list(ring) == [card.fingerprint, first.fingerprint], "new backups use the first"
    keys.rotate(folder, "backup")
    assert len(keys.backup_keys(folder, "backup")) == 3


def _dr(capsys: pytest.CaptureFixture[str], *argv: str) -> list[dict[str, object]]:
    assert dr(["keys", *argv, "--json"]) == 0
    found: list[dict[str, object]] = json.loads(capsys.readouterr().out)["keys"]
    return found


def test_dr_keys_makes_lists_and_rotates_and_losing_a_key_loses_no_history(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = ("--home", str(tmp_path))
    assert _dr(capsys, "list", *home) == []
    made = _dr(capsys, "make", "engine", "--role", "engine", *home)[0]
    ledger = DirectoryLedger(tmp_path / "ledger")
    assert set(public_keys(ledger)) == {made["fingerprint"]}
    _ended(ledger, folder, "a" * 64)
    rotated = _dr(capsys, "rotate", "engine", *home)
    assert [card["retired"] for card in rotated] == [False, True]
    _ended(ledger, folder, "b" * 64)
    assert dr(["evidence", "verify", *home]) == 0
    assert verify(ledger, trusted=[str(made["fingerprint"])]).outcome is Outcome.PASSED, "the old key vouched"
    (folder / "engine.ed25519").unlink()
    assert dr(["evidence", "verify", *home]) == 0
    assert dr(["keys", "make", "Bad Name", *home]) == 2


def _ended(ledger: DirectoryLedger, folder: Path, run: str) -> None:
    book = Journal(ledger, run, who="engine", generation=1, clock=wall_clock)
    book.append("step.begun", "db")
    book.end("held", keys.signer(folder, "engine"))
