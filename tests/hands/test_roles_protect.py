"""The new primary is as safe as the old one was: its WAL arrives on the new timeline, a full backup is complete."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import zstandard

from recovery.drive import Truth
from recovery.errors import Failed, Refused
from recovery.point import Backup
from recovery.step import Step
from recovery.value import canonical
from recovery.wal import parse
from tasks.postgres.agent_memory import Alerts, Memory
from tasks.postgres.archived import key_of
from tasks.postgres.archiver import Archiver
from tasks.postgres.roles.promote import Promote
from tasks.postgres.roles.protect import Protect
from tests.hands.memory_store import MemoryStore
from tests.hands.role_scene import DB, STEPS, Pair, one, pair, perform, run, scene_of

STEPS_HERE = (*STEPS[1:], Step(id="protect", verb="protect", resource=DB))


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Pair]:
    with pair(tmp_path) as found:
        yield found


class AgentOfTest(threading.Thread):
    """Archives what the new primary has to archive, as the agent at its site does."""

    def __init__(self, two: Pair) -> None:
        super().__init__(daemon=True)
        self.two, self.over = two, threading.Event()
        self.system = str(one(two.west.dsn, "select system_identifier::text from pg_control_system()")[0])

    def run(self) -> None:
        folder = self.two.west.data_dir.parent / "west-archive"
        while not self.over.wait(0.02):
            for path in sorted(folder.iterdir()):
                raw = path.read_bytes()
                metadata = {"sha256": hashlib.sha256(raw).hexdigest(), "size": str(len(raw))}
                key = key_of(self.system, parse(path.name), path.name)
                if key not in self.two.archive.objects and (path.suffix == ".history" or len(raw) == 1 << 20):
                    self.two.archive.put(key, zstandard.compress(raw), metadata)


def archiving(two: Pair) -> None:
    folder = two.west.data_dir.parent / "west-archive"
    folder.mkdir()
    run(two.west.dsn, f"alter system set archive_command = 'cp %p {folder}/%f'")
    run(two.west.dsn, "select pg_reload_conf()")


def test_a_new_primary_is_protected_once_its_wal_and_a_full_backup_of_its_timeline_are_stored(tmp_path: Path) -> None:
    with pair(tmp_path, standby_archives=True) as two:
        archiving(two)
        two.east.kill()
        plan = two.plan(steps=STEPS_HERE)
        stage = two.stage(plan)
        perform(Promote(stage=stage), plan, "promote")
        asked: list[str] = []

        def back_up(name: str) -> str:
            asked.append(name)
            now = datetime.now(UTC)
            system = str(one(two.west.dsn, "select system_identifier::text from pg_control_system()")[0])
            made = Backup(
                id="20261124T030000Z-full", resource=name, system_id=system, timeline=2, kind="full", begin_lsn=1,
                end_lsn=2, begun_at=now, ended_at=now, server_version=180006, size_bytes=1, stored_bytes=1,
            )  # fmt: skip
            two.archive.put(f"base/{system}/{made.id}/backup.json", canonical(made))
            return made.id

        verb = Protect(stage=stage, back_up=back_up, exposed=lambda name: {"bucket west": 0.0})
        assert verb.observe(plan.step("protect"), scene_of(plan)).truth is Truth.ABSENT
        agent = AgentOfTest(two)
        agent.start()
        facts = perform(verb, plan, "protect")
        assert (facts["timeline"], facts["backup"], facts["backup_taken"]) == (2, "20261124T030000Z-full", True)
        assert str(facts["history"]).endswith("/00000002/00000002.history.zst")
        assert verb.observe(plan.step("protect"), scene_of(plan, {"protect": facts})).truth is Truth.HOLDS
        assert perform(verb, plan, "protect")["backup_taken"] is False
        assert asked == [DB]
        two.archive.objects.pop(str(facts["marker"]))
        assert verb.observe(plan.step("protect"), scene_of(plan, {"protect": facts})).truth is Truth.ABSENT
        agent.over.set()
        agent.join()


def test_a_primary_that_does_not_archive_is_not_protected(two: Pair) -> None:
    two.east.kill()
    plan = two.plan(steps=STEPS_HERE)
    perform(Promote(stage=two.stage(plan)), plan, "promote")
    with pytest.raises(Failed, match="archive_mode is off"):
        perform(Protect(stage=two.stage(plan)), plan, "protect")


def test_an_old_primary_may_not_archive(tmp_path: Path) -> None:
    why = ["west is the primary since generation 1"]
    alerts = Alerts(tmp_path / "state")
    store = MemoryStore()
    archiver = Archiver(
        store=store, data_dir=tmp_path, memory=Memory(tmp_path / "state"), alerts=alerts,
        offer=lambda key, body, metadata: None, barred=lambda: why[0],
    )  # fmt: skip
    with pytest.raises(Refused, match="west is the primary since generation 1"):
        archiver.archive(tmp_path / "pg_wal" / "000000010000000000000001")
    assert store.objects == {}
    assert [each["subject"] for each in alerts.standing()] == ["barred"]  # type: ignore[index, call-overload]
    why[0] = ""
    with pytest.raises(Refused, match="is not in"):
        archiver.archive(tmp_path / "pg_wal" / "000000010000000000000001")
    assert "barred" not in str(alerts.standing())
    archiver.close()
