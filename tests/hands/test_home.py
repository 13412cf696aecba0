"""What a home knows of its places: who answers now, whoever was silent before."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from deployments.schedules import lab_catalog
from recovery.errors import Failed
from tasks.home import Home, ledger_seen


def silent(*_: object) -> None:
    raise Failed("nobody answers there", hint="see whether it is up")


def test_a_place_that_answers_again_need_not_rest_for_its_old_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(folder=tmp_path, catalog=lab_catalog())
    for site in ("witness", "west"):
        assert home.circuit(site).ask(silent) is None
        assert home.circuit(site).rests
    monkeypatch.setattr(Home, "scout", lambda self, site: SimpleNamespace(head=silent if site == "west" else len))
    seen = ledger_seen(home)
    assert seen.home == "answers"
    assert "west" not in seen.mirrors
    assert not home.circuit("witness").rests
    assert home.circuit("west").rests, "it is still silent"
