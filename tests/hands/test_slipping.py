"""Slots that slipped: found with no engine running, told to people, on record once, and taken back when wrong."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from deployments.cli.main import run
from recovery.check import Outcome
from recovery.errors import Failed, Refused
from recovery.plan import NothingToDo
from recovery.slipped import Slipped, SlotFound
from tasks import channels, evidence, keys, routine, slipping
from tasks.asking import Which
from tasks.engine import Act
from tasks.home import Home, open_home
from tasks.journal import Journal
from tasks.ledger_dir import DirectoryLedger
from tasks.loop import Event
from tasks.scoring import pasts
from tests.hands.site_scene import site
from tests.thought.ledger_scene import CATALOG, NOON


class World:
    """A home with a ledger in a folder, a clock that is set, and people who can be told or not."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        services = {"platform": {**CATALOG["services"]["platform"], "notify": {"team": "env:TEAM"}}}
        made = {**CATALOG, "ledger": {"home": "directory:ledger"}, "services": services}
        self.folder = folder
        self.write(made)
        keys.make(folder / "keys", "engine", "engine")
        self.at = NOON
        self.told: list[tuple[str, str]] = []
        self.hears = "told"
        monkeypatch.setattr(channels, "tell", self._tell)

    def write(self, made: dict[str, Any]) -> None:
        self.catalog = made
        (self.folder / "catalog.yaml").write_text(json.dumps(made))

    def _tell(self, home: Home, found: Any, whom: Any, *, title: str, text: str) -> dict[str, str]:
        self.told.append((title, text))
        return {"team": self.hears}

    def home(self) -> Home:
        return open_home(self.folder, now=lambda: self.at)

    def act(self, tell: Any = lambda event: None) -> Act:
        return Act(home=self.home(), tell=tell)

    def find(self) -> Slipped | NothingToDo:
        act = self.act()
        return slipping.find(act, "orders", pasts(act.home.ledger()).runs)

    def backed_up(self, at: datetime, name: str, kind: str = "full") -> None:
        """A backup's run, as the engine writes it."""
        journal = Journal(DirectoryLedger(self.folder / "ledger"), name, who="me", generation=1, clock=lambda: at)
        arguments = {"resource": "orders", "kind": kind}
        journal.append("run.begun", "orders", facts={"purpose": "backup", "arguments": arguments})
        journal.append("backup", "orders", facts={"id": name[:8], "kind": kind}, end=at)
        journal.end("met", keys.signer(self.folder / "keys", "engine"))

    def on_record(self) -> list[tuple[str, str, str]]:
        """(duty, hour and minute of the slot, state), in the order in which they were put on record."""
        runs = sorted(pasts(self.home().ledger()).runs, key=lambda each: (each.begun_at, each.run))
        said = [each.said for each in runs if each.said is not None and each.said.kind == "slots"]
        slots = [SlotFound.model_validate(each) for record in said for each in record.facts["slots"]]  # type: ignore[union-attr]
        return [(each.what, f"{each.slot:%H:%M}", each.state) for each in slots]


@pytest.fixture
def world(home: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(home, monkeypatch)
    made.backed_up(NOON - timedelta(minutes=5), "a1" * 32)
    return made


def test_a_slot_is_put_on_record_once_whoever_looks_and_verifies_as_any_run(world: World) -> None:
    assert isinstance(world.find(), Slipped)  # the schedules, in force from now on
    assert isinstance(world.find(), NothingToDo)
    assert world.told == []
    world.at = NOON + timedelta(minutes=41)
    for _ in range(3):
        world.find()
    assert world.on_record() == [("mark", "12:15", "overdue"), ("incremental", "12:30", "overdue")]
    (told,) = world.told
    assert told[0] == "platform: orders: 2 overdue"
    assert "incremental, slot of 2026-11-24T12:30Z: overdue" in told[1]
    world.at += timedelta(minutes=3)
    world.backed_up(world.at, "b2" * 32, "incremental")
    world.find()
    assert world.on_record()[2:] == [("incremental", "12:30", "late")]
    report = evidence.verify(world.home().ledger(), trusted=keys.engine_fingerprints(world.folder / "keys"))
    assert report.outcome is Outcome.PASSED
    assert len(report.runs) == 5


def test_two_finders_at_once_write_one_run(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world.find()
    world.at = NOON + timedelta(minutes=41)
    runs = pasts(world.home().ledger()).runs  # both have read before either writes
    held = threading.Event()
    inside = threading.Event()

    def slow(*given: Any, **more: Any) -> dict[str, str]:
        inside.set()
        assert held.wait(20)
        return {"team": "told"}

    monkeypatch.setattr(channels, "tell", slow)
    first = threading.Thread(target=lambda: slipping.find(world.act(), "orders", runs))
    first.start()
    assert inside.wait(20)
    monkeypatch.setattr("tasks.owner.owner_here", lambda: "another@elsewhere")
    with pytest.raises(Refused):
        slipping.find(world.act(), "orders", runs)
    switch = slipping.DeadMan(act=world.act(), resources=["orders"], tell=print)
    switch.look()
    assert "orders" not in str(capsys.readouterr().out), "another one is at it: that is no trouble"
    held.set()
    first.join()
    again = slipping.find(world.act(), "orders", runs)
    assert isinstance(again, Slipped)
    assert len(again.slots) == 2
    assert len(world.on_record()) == 2


def test_a_finder_that_was_killed_is_gone_on_with_and_people_are_told(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.find()
    world.at = NOON + timedelta(minutes=41)

    def killed(*given: Any, **more: Any) -> dict[str, str]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(channels, "tell", killed)
        with pytest.raises(KeyboardInterrupt):
            world.find()
    assert world.on_record() == []
    world.at += timedelta(minutes=4)
    world.find()
    assert len(world.told) == 1
    assert len(world.on_record()) == 2
    assert [each.run for each in pasts(world.home().ledger()).runs if not each.outcome] == []


def test_what_nobody_heard_is_told_again_and_then_no_more(world: World) -> None:
    world.find()
    world.at, world.hears = NOON + timedelta(minutes=41), "failed"
    world.find()
    world.at += timedelta(minutes=15)
    world.hears = "told"
    world.find()
    world.at += timedelta(minutes=14)
    world.find()
    assert [each[0] for each in world.told] == ["platform: orders: 2 overdue"] * 2


def test_the_dead_man_finds_what_no_engine_did_and_says_its_own_trouble_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    switch = slipping.DeadMan(act=world.act(), resources=["orders"], tell=said.append)
    switch.look()
    world.at = NOON + timedelta(hours=20)  # nothing ran: no worker, no Prefect
    switch.look()
    switch.look()
    assert said[0].startswith("platform: orders: ")
    assert "missed" in said[0]
    assert len(world.told) == 1
    assert {each[0] for each in world.on_record()} >= {"full backup", "incremental", "mark", "proof, latest"}
    said.clear()
    (world.folder / "keys").rename(world.folder / "away")
    world.at += timedelta(hours=1)
    switch.look()
    switch.look()
    assert len(said) == 1
    assert "could not be put on record" in said[0]
    (world.folder / "away").rename(world.folder / "keys")
    switch.look()
    assert len(world.told) == 2


def test_the_dead_man_goes_on_until_it_is_stopped_whatever_happens(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slipping, "LOOK_SECONDS", 0.01)
    looks: list[int] = []
    said: list[str] = []
    stop = threading.Event()

    def look(self: slipping.DeadMan) -> None:
        looks.append(1)
        if len(looks) == 3:
            stop.set()
        raise ValueError("a defect")

    monkeypatch.setattr(slipping.DeadMan, "look", look)
    slipping.DeadMan(act=world.act(), resources=["orders"], tell=said.append).go_on(stop)
    assert len(looks) == 3
    assert said == ["what slipped could not be looked for: unexpected ValueError: a defect; it is tried again"]


def test_dr_watch_alone_finds_what_was_missed_while_nothing_ran(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole process, as it stands by: no Prefect, no worker, no engine."""
    world = World(home, monkeypatch)
    world.backed_up(datetime.now(UTC) - timedelta(days=3), "a1" * 32)
    watch = subprocess.Popen(
        [sys.executable, "-m", "deployments.cli.main", "watch", "--every", "1 s", "--home", str(home)],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    patience = threading.Timer(120, watch.kill)
    patience.start()
    try:
        assert watch.stderr is not None
        said = next((line for line in watch.stderr if "missed" in line), "")
    finally:
        patience.cancel()
        watch.terminate()
        watch.communicate()
    assert "platform: orders: " in said
    assert "not configured" in said, "the service's channel is behind a variable that is not set"
    assert ("full backup", "03:00", "missed") in world.on_record()


def test_what_slipped_goes_on_record_behind_what_was_due_also_where_that_failed_and_never_in_its_way(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.find()
    world.at = NOON + timedelta(minutes=41)
    monkeypatch.setattr(
        routine, "_backup", lambda act, resource, which: world.backed_up(world.at, "b2" * 32, "incremental")
    )
    routine.back_up(world.act(), "orders", Which.DUE)
    assert world.on_record() == [("mark", "12:15", "overdue"), ("incremental", "12:30", "late")]

    def down(act: Act, resource: str, which: str) -> None:
        raise Failed("no primary of orders answers", hint="see whether they run")

    monkeypatch.setattr(routine, "_backup", down)
    world.at += timedelta(minutes=60)
    with pytest.raises(Failed, match="no primary"):
        routine.back_up(world.act(), "orders", Which.DUE)
    assert ("incremental", "13:30", "overdue") in world.on_record()
    told: list[Event] = []
    (world.folder / "keys").rename(world.folder / "away")
    world.at += timedelta(minutes=60)
    with pytest.raises(Failed, match="no primary"):
        routine.back_up(world.act(told.append), "orders", Which.DUE)
    assert "could not be put on record" in told[0].text
    with pytest.raises(Failed, match="no primary"):
        routine.back_up(world.act(told.append), "orders", Which.FULL)
    assert len(told) == 1


def test_status_report_and_list_show_it_and_looking_writes_nothing(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime.now(UTC)
    world.at = now
    (world.folder / "ledger").rename(world.folder / "old")
    world.backed_up(now - timedelta(hours=30), "a1" * 32)
    world.find()
    before = sorted((world.folder / "ledger").rglob("*"))

    def said(*words: str) -> tuple[int, dict[str, Any]]:
        capsys.readouterr()
        code = run([*words, "--json"])
        document: dict[str, Any] = json.loads(capsys.readouterr().out)
        return code, document

    code, status = said("status")
    noted = status["resources"][0]["slots_on_record"]
    assert code == 1
    assert {each["found"]["state"] for each in noted} >= {"missed"}
    code, report = said("report")
    assert code == 1
    assert report["scorecard"]["resources"][0]["slipped"] == noted
    assert [each["purpose"] for each in said("runs")[1]["runs"]] == ["slots", "backup"]
    assert "missed" in [each["outcome"] for each in said("evidence", "list")[1]["runs"]]
    assert said("evidence", "verify")[0] == 0
    page = world.folder / "page.html"
    run(["report", "--html", str(page)])
    assert "Slots on record as late or missed" in page.read_text()
    capsys.readouterr()
    run(["report"])
    assert "on record    " in capsys.readouterr().out
    assert sorted((world.folder / "ledger").rglob("*")) == before
    shown = said("show", noted[0]["run"][:8])[1]
    assert shown["said"]["kind"] == "slots"
    run(["show", noted[0]["run"][:8]])
    assert "Z: missed" in capsys.readouterr().out


def test_a_backup_that_was_swept_has_kept_its_slot(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    now = datetime.now(UTC)
    world.backed_up(now - timedelta(hours=3), "c3" * 32)
    run(["status", "--json"])  # no bucket answers: the ledger alone tells of the backup
    duties = json.loads(capsys.readouterr().out)["resources"][0]["duties"]
    assert next(each for each in duties if each["what"] == "incremental")["last_at"] is not None


def test_people_are_told_over_a_real_channel(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        made = World(home, patch)
        made.backed_up(NOON - timedelta(minutes=5), "a1" * 32)
    with site() as chat:
        monkeypatch.setenv("TEAM", f"json://127.0.0.1:{chat.url.rpartition(':')[2]}/s3cret")
        made.at = NOON + timedelta(minutes=41)
        found = made.find()
        assert isinstance(found, Slipped)
        assert (found.told, found.channels) == ("told", {"team": "told"})
        assert json.loads(chat.asked[0][3])["title"] == "platform: orders: 2 overdue"
    ledger = b"".join(each.read_bytes() for each in (home / "ledger").rglob("*.json"))
    assert b"s3cret" not in ledger
