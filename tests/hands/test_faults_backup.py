"""Every planted fault in a backup's objects is found by their check, and in the base by the restore too."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest
from restored_scene import GARDEN, run

from deployments.lab.scratch_cluster import cluster
from recovery.catalog import Member
from recovery.check import Finding, Outcome
from recovery.errors import DrError
from recovery.point import Backup
from tasks.dir_store import DirStore
from tasks.host import LocalHost
from tasks.postgres import basebackup, unpack
from tasks.postgres.checks.bucket import backup_objects
from tasks.postgres.faults import catalogue
from tasks.postgres.faults.backup_copy import copied
from tasks.postgres.faults.fault import BackupCopy, Stage

Taken = tuple[DirStore, Backup]


@pytest.fixture(scope="module")
def taken() -> Iterator[Taken]:
    folder = Path(tempfile.mkdtemp(prefix="sf-"))
    with cluster(folder / "source") as source:
        run(source.dsn, GARDEN.read_text())
        store = DirStore(folder / "bucket")
        member = Member(dsn=source.dsn, data_dir=str(source.data_dir), bin_dir=str(source.bin_dir))
        backup = basebackup.take(
            member, store, host=LocalHost(), resource="garden", kind="full", clock=lambda: datetime.now(UTC)
        )
    yield store, backup
    shutil.rmtree(folder)


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="sf-"))
    yield path
    shutil.rmtree(path)


def copy_of(taken: Taken, folder: Path, seed: str) -> BackupCopy:
    store, backup = taken
    copy = BackupCopy(store=DirStore(folder / "copy"), backup=backup, random=Random(seed))
    copied(store, copy)
    return copy


def test_a_plain_copy_has_no_finding_and_restores(taken: Taken, folder: Path) -> None:
    copy = copy_of(taken, folder, "none")
    assert backup_objects(copy.store, copy.backup).outcome is Outcome.PASSED
    assert unpack.restore(copy.store, copy.backup, folder / "data").files > 900


@pytest.mark.parametrize("name", catalogue.names(Stage.BACKUP_COPY))
def test_a_fault_in_the_objects_is_named(name: str, taken: Taken, folder: Path) -> None:
    copy = copy_of(taken, folder, name)
    fault = catalogue.of(name)
    planted = fault.plant(copy)
    check = backup_objects(copy.store, copy.backup)
    assert check.outcome is Outcome.FAILED
    assert fault.detected(check.findings, planted), (planted, check.findings)
    if name.startswith("base-"):
        with pytest.raises(DrError) as caught:
            unpack.restore(copy.store, copy.backup, folder / "data")
        found = Finding(check="fetch", fact=caught.value.fact, hint=caught.value.hint)
        assert fault.detected([found], planted), (planted, found)
