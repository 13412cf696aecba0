"""Every planted fault is found by a check that names it, in WAL, in files and in data of real Postgres."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest
from restored_scene import Scene, files, one, scene, started

from recovery.check import Finding, findings_of
from recovery.mark import compare
from tasks.postgres.checks import integrity, table, walls
from tasks.postgres.checks.context import CheckContext, Target
from tasks.postgres.faults import catalogue
from tasks.postgres.faults.fault import NotPlantable, OpenCopy, RestoredFiles, Stage, WalCopy
from tasks.postgres.fingerprint import fingerprint


@pytest.fixture(scope="module")
def source() -> Iterator[Scene]:
    folder = Path(tempfile.mkdtemp(prefix="sf-"))
    with scene(folder) as ready:
        yield ready
    shutil.rmtree(folder)


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="sf-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def restored(source: Scene) -> Iterator[tuple[CheckContext, Path]]:
    """Files that are restored once; each fault breaks a copy of them."""
    path = Path(tempfile.mkdtemp(prefix="sf-"))
    context = files(source, path, Target(kind="lsn", lsn=source.mark.lsn))
    (path / "config").write_text((context.data_dir / "postgresql.auto.conf").read_text())
    (context.data_dir / "postgresql.auto.conf").write_text("")
    yield dataclasses.replace(context, config=path / "config"), path
    shutil.rmtree(path)


def copy_of(context: CheckContext, folder: Path) -> CheckContext:
    assert context.config is not None
    shutil.copytree(context.data_dir, folder / "data", copy_function=shutil.copyfile)
    shutil.copy(context.config, folder / "config")
    return dataclasses.replace(
        context, data_dir=folder / "data", wal_dir=folder / "data" / "pg_wal", config=folder / "config"
    )


@pytest.mark.parametrize("name", catalogue.names(Stage.WAL_COPY))
def test_a_fault_in_the_wal_names_its_file(name: str, restored: tuple[CheckContext, Path], folder: Path) -> None:
    original, _ = restored
    assert original.wal_dir is not None
    wal = folder / "wal"
    shutil.copytree(original.wal_dir, wal)
    context = dataclasses.replace(original, wal_dir=wal)
    fault = catalogue.of(name)
    copy = WalCopy(folder=wal, names=tuple(walls.needed(context)), timeline=1, random=Random(name))
    planted = fault.plant(copy)
    findings = findings_of(check for check in table.before_start(context) if check.name == "wal")
    assert fault.detected(findings, planted), (planted, findings)


@pytest.mark.parametrize("name", catalogue.names(Stage.FILES))
def test_a_fault_in_the_files_is_named_before_the_server_starts(
    name: str, source: Scene, restored: tuple[CheckContext, Path], folder: Path
) -> None:
    context = copy_of(restored[0], folder)
    assert context.config is not None
    fault = catalogue.of(name)
    attempt = RestoredFiles(data_dir=context.data_dir, config=context.config, moment=source.moment, random=Random(name))
    planted = fault.plant(attempt)
    findings = findings_of(table.before_start(context))
    assert fault.detected(findings, planted), (planted, findings)


def test_files_without_a_fault_have_no_finding(restored: tuple[CheckContext, Path]) -> None:
    assert findings_of(table.before_start(restored[0])) == ()


SAMPLE = frozenset({
    *("index-dropped", "constraint-not-validated", "trigger-disabled", "sequence-reset"),
    *("role-dropped", "table-unlogged", "generated-column-altered", "large-object-altered"),
    *("rows-missing", "rows-extra", "foreign-key-orphan"),
})  # fmt: skip


@pytest.mark.parametrize(
    "chosen", [SAMPLE, pytest.param(frozenset(catalogue.names(Stage.SQL)), marks=pytest.mark.slow)]
)
def test_faults_in_the_data_are_named_and_a_promoted_copy_without_one_equals_the_mark(
    source: Scene, folder: Path, chosen: frozenset[str]
) -> None:
    """One promoted copy; each fault is compared with the copy as it was just before, the first with the mark."""
    context = files(source, folder, Target(kind="lsn", lsn=source.mark.lsn))
    with started(context):
        assert one(context.dsn, "select pg_promote()")
        now = datetime.now(UTC)
        before = fingerprint(context.dsn, now=now, patience_seconds=30)
        assert compare(source.mark, before) == ()
        assert (before.timeline, before.lsn) == (source.mark.timeline, source.mark.lsn)
        missed = []
        for name in sorted(chosen, key=lambda name: (name.endswith(("dropped", "unlogged")), name)):
            fault = catalogue.of(name)
            try:
                planted = fault.plant(OpenCopy(dsn=context.dsn, random=Random(name)))
            except NotPlantable as error:
                missed.append((name, error.fact))
                continue
            after = fingerprint(context.dsn, now=now, patience_seconds=30)
            findings: tuple[Finding, ...] = compare(before, after)
            if name == "foreign-key-orphan":
                findings = integrity.foreign_keys(dataclasses.replace(context, promoted=True), "foreign keys").findings
            if not fault.detected(findings, planted):
                missed.append((name, f"{planted.what}: {findings}"))
            before = after
        assert missed == []
