"""What ended runs said is kept in the home: not read again, not gone by when the ledger differs, never needed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from tasks import remembered
from tasks.journal import Journal
from tasks.ledger_dir import DirectoryLedger
from tasks.remembered import pasts_of
from tests.hands.test_slipping import World
from tests.thought.ledger_scene import NOON


class Read:
    """The documents that a look reads."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    @property
    def runs(self) -> set[str]:
        return {key.split("/")[1] for key in self.keys}


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Read:
    found = Read()
    get = DirectoryLedger.get

    def counted(self: DirectoryLedger, key: str) -> bytes | None:
        found.keys.append(key)
        return get(self, key)

    monkeypatch.setattr(DirectoryLedger, "get", counted)
    return found


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(tmp_path, monkeypatch)
    for number in range(3):
        made.backed_up(NOON + timedelta(hours=number), f"{number}" * 64)
    return made


def kept(world: World) -> Path:
    (path,) = (world.folder / remembered.FOLDER).iterdir()
    return path


def test_a_second_look_reads_only_what_is_new_and_what_has_not_ended(world: World, read: Read) -> None:
    Journal(DirectoryLedger(world.folder / "ledger"), "d" * 64, who="me", generation=1, clock=lambda: NOON).append(
        "run.begun", "orders", facts={"purpose": "mark"}
    )
    first = pasts_of(world.home())
    assert len(first.runs) == 4
    assert kept(world).stat().st_mode & 0o777 == 0o600
    read.keys.clear()
    assert pasts_of(world.home()) == first
    assert read.runs == {"d" * 64}
    world.backed_up(NOON + timedelta(hours=4), "4" * 64)
    read.keys.clear()
    assert [each.run[0] for each in pasts_of(world.home()).runs[:2]] == ["4", "2"]
    assert read.runs == {"d" * 64, "4" * 64}


def test_what_is_kept_is_gone_by_only_while_the_ledger_lists_it_so(world: World, read: Read) -> None:
    pasts_of(world.home())
    runs = world.folder / "ledger" / "runs"
    (runs / ("0" * 64) / "manifest.json").unlink()
    more = runs / ("1" * 64) / "00000002.json"
    more.with_name("00000003.json").write_bytes(more.read_bytes())
    for each in (runs / ("2" * 64)).iterdir():
        each.unlink()
    read.keys.clear()
    found = {each.run[0]: each.sealed for each in pasts_of(world.home()).runs}
    assert found == {"0": "open", "1": "signed"}, "a run that is gone is told by nobody's memory"
    assert read.runs == {"0" * 64, "1" * 64}


@pytest.mark.parametrize("spoil", ["torn", "emptied", "a folder", "garbage"])
def test_a_memory_that_is_lost_or_torn_costs_time_and_nothing_else(world: World, read: Read, spoil: str) -> None:
    first = pasts_of(world.home())
    path = kept(world)
    body = path.read_bytes()
    if spoil == "a folder":
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes({"torn": body[: len(body) - 40], "emptied": b"", "garbage": b"\xff\n{}\n\n[1]"}[spoil])
    assert pasts_of(world.home()) == first
    read.keys.clear()
    assert pasts_of(world.home()) == first
    assert (read.keys == []) == (spoil != "a folder")


def test_another_ledger_s_runs_are_not_taken_for_this_one_s(world: World, read: Read) -> None:
    pasts_of(world.home())
    world.write({**world.catalog, "ledger": {"home": "directory:other"}})
    (world.folder / "ledger").rename(world.folder / "other")
    read.keys.clear()
    assert len(pasts_of(world.home()).runs) == 3
    assert len(read.runs) == 3


def test_several_looks_at_once_lose_nothing_of_each_other(world: World, read: Read) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: pasts_of(world.home()), range(4)))
    assert all(each == found[0] for each in found)
    read.keys.clear()
    assert pasts_of(world.home()) == found[0]
    assert read.keys == []
