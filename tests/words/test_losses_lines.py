"""`dr losses` lists what a failover gave up, exports it once, and says `unproven` before the old data was read."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from recovery.losses import WAL, Losses, Lost, Row, losses_key
from recovery.value import canonical
from tasks.ledger_dir import DirectoryLedger
from tests.words.consent_home import House

AT = datetime(2026, 11, 24, 3, tzinfo=UTC)


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> House:
    return House(tmp_path, monkeypatch, capsys)


def lost(run: str) -> bytes:
    row = Row(relation="shop.public.orders", xid=7, row={"id": 1})
    one = Lost(xid=7, lsn=4096, at=AT, klass="rows", changes={"shop.public.orders": {"insert": 1}}, rows=(row,))
    beat = Lost(xid=8, lsn=5000, at=AT, klass="heartbeat")
    return canonical(
        Losses(
            resource="validation-db", site="east", system_id="7", timeline=1, from_lsn=4000, to_lsn=6000,
            transactions=(one, beat), unread={"shop.public.big": "its file is gone"},
        )
    )  # fmt: skip


def test_what_was_lost_is_listed_and_exported_once(house: House, tmp_path: Path) -> None:
    run = house.plan()
    assert "is not listed yet" in house.refused("losses", run[:8], code=3)
    DirectoryLedger(house.folder / "ledger").put(losses_key(run, "validation-db"), lost(run))
    told = house.dr("losses", run[:8])
    assert (told["run"], told["lost_commits"]) == (run, 1)
    assert [each["xid"] for each in told["databases"][0]["transactions"]] == [7], "the heartbeat is no commit of users"
    assert told["databases"][0]["classes"] == {"rows": 1, "heartbeat": 1}
    shown = house.people("losses", run[:8])
    for words in ("1 commit lost, only east had them", "1 insert shop.public.orders", "its file is gone", "0/1000"):
        assert words in shown
    file = tmp_path / "lost.json"
    assert house.dr("losses", run, "--export", str(file))["file"] == str(file)
    whole = json.loads(file.read_text())["losses"][0]
    assert [each["xid"] for each in whole["transactions"]] == [7, 8]
    assert "exists already" in house.refused("losses", run, "--export", str(file), code=2)
    nowhere = str(tmp_path / "no" / "such")
    assert "no such file or directory" in house.refused("losses", run, "--export", nowhere, code=2)


def test_wal_that_was_not_read_to_its_end_is_no_zero(house: House) -> None:
    run = house.plan()
    torn = Losses(
        resource="validation-db", site="east", system_id="7", timeline=1, from_lsn=4000, to_lsn=6000,
        unread={WAL: "a place at 0/1770 can't be read"},
    )  # fmt: skip
    DirectoryLedger(house.folder / "ledger").put(losses_key(run, "validation-db"), canonical(torn))
    shown = house.people("losses", run[:8])
    assert "no commit of users was lost" not in shown
    for words in ("it is not known what was lost", "more may have been lost: a place at 0/1770"):
        assert words in shown


def test_a_run_that_is_not_known_has_no_losses(house: House) -> None:
    assert "no run or plan begins with abcdefab" in house.refused("losses", "abcdefab", code=2)
    assert "is no run or plan" in house.refused("losses", "east", code=2)
