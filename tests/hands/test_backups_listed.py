"""What is listed as a backup: complete ones only, and a damaged marker by its name."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from recovery.check import Severity
from recovery.errors import Failed
from recovery.point import Backup
from recovery.value import canonical
from tasks.dir_store import DirStore
from tasks.postgres.engines.native import Native, complete, readable

NOW = datetime(2026, 11, 24, 3, tzinfo=UTC)
WHOLE = Backup(
    id="20261124T030000Z-full", resource="db", system_id="7", timeline=1, kind="full", begin_lsn=1, end_lsn=2,
    begun_at=NOW, ended_at=NOW, server_version=180006, size_bytes=1, stored_bytes=1,
)  # fmt: skip


def test_without_its_marker_a_backup_does_not_exist_and_a_damaged_marker_is_named(tmp_path: Path) -> None:
    store = DirStore(tmp_path)
    store.put("base/7/20261124T020000Z-full/base.tar.zst", b"half")
    store.put(f"base/7/{WHOLE.id}/backup.json", canonical(WHOLE))
    assert complete(store) == (WHOLE,)
    store.put("base/7/20261124T040000Z-full/backup.json", b'{"id": ')
    with pytest.raises(Failed, match=r"20261124T040000Z-full/backup\.json"):
        complete(store)


def test_the_others_stay_in_use_and_the_damage_is_a_warning_beside_them(tmp_path: Path) -> None:
    store = DirStore(tmp_path)
    store.put(f"base/7/{WHOLE.id}/backup.json", canonical(WHOLE))
    store.put("base/7/20261124T040000Z-full/backup.json", b"[]")
    engine = Native(store=store)
    assert engine.backups() == (WHOLE,)
    (warning,) = engine.stored(WHOLE).findings
    assert (warning.severity, "20261124T040000Z-full/backup.json" in warning.fact) == (Severity.WARNING, True)
    assert readable(store)[1] == (warning.fact,)


def test_a_marker_that_was_copied_to_another_folder_is_no_second_backup(tmp_path: Path) -> None:
    store = DirStore(tmp_path)
    for folder in (f"base/7/{WHOLE.id}", "base/7/20261124T050000Z-full", f"base/8/{WHOLE.id}"):
        store.put(f"{folder}/backup.json", canonical(WHOLE))
    found, damaged = readable(store)
    assert found == (WHOLE,)
    assert [f"is that of base/7/{WHOLE.id}" in each for each in damaged] == [True, True]
    with pytest.raises(Failed, match="somebody copied it there"):
        complete(store)
