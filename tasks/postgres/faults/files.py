"""Faults in restored files before the server starts: damaged pages, lost files, configuration that came with them."""

from __future__ import annotations

import re
from pathlib import Path

from tasks.postgres.faults.fault import Attempt, Fault, Planted, RestoredFiles, Stage, not_plantable

PAGE_BYTES = 8192
_RELATION = re.compile(r"^\d+$")


def _files(attempt: Attempt) -> RestoredFiles:
    if not isinstance(attempt, RestoredFiles):
        raise TypeError("this fault is planted in restored files")
    return attempt


def _relation(files: RestoredFiles) -> Path:
    """The main file of some relation with at least a page."""
    found = sorted(
        path
        for path in (files.data_dir / "base").glob("*/*")
        if _RELATION.match(path.name) and path.stat().st_size >= PAGE_BYTES
    )
    if not found:
        raise not_plantable("relation file")
    return files.random.choice(found)


def _planted(files: RestoredFiles, path: Path, what: str) -> Planted:
    name = path.relative_to(files.data_dir).as_posix()
    return Planted(what=f"{name} {what}", expects=(name,))


def _flipped(attempt: Attempt) -> Planted:
    files = _files(attempt)
    path = _relation(files)
    place = files.random.randrange(path.stat().st_size)
    with path.open("r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 0x01]))
    return _planted(files, path, f"has one bit flipped at byte {place}")


def _missing(attempt: Attempt) -> Planted:
    files = _files(attempt)
    path = _relation(files)
    path.unlink()
    return _planted(files, path, "is gone")


def _truncated(attempt: Attempt) -> Planted:
    files = _files(attempt)
    path = _relation(files)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - PAGE_BYTES)
    return _planted(files, path, "lost its last page")


def _appended(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def _second_target(attempt: Attempt) -> Planted:
    files = _files(attempt)
    _appended(files.data_dir / "postgresql.auto.conf", "\nrecovery_target_name = 'left behind'\n")
    return Planted(what="postgresql.auto.conf holds a second recovery target", expects=("recovery_target_name",))


def _no_signal(attempt: Attempt) -> Planted:
    files = _files(attempt)
    (files.data_dir / "recovery.signal").unlink()
    return Planted(what="recovery.signal is gone", expects=("recovery.signal",))


def _no_label(attempt: Attempt) -> Planted:
    files = _files(attempt)
    (files.data_dir / "backup_label").unlink()
    return Planted(what="backup_label is gone", expects=("backup_label",))


def _wrong_zone(attempt: Attempt) -> Planted:
    """The target as a person in another office would write it: no offset, and the server's zone is not UTC."""
    files = _files(attempt)
    kept = [
        line
        for line in files.config.read_text().splitlines()
        if not line.strip().startswith(("recovery_target_lsn", "recovery_target_time", "timezone"))
    ]
    naive = files.moment.strftime("%Y-%m-%d %H:%M:%S.%f")
    files.config.write_text("\n".join([*kept, f"recovery_target_time = '{naive}'", "timezone = 'Asia/Tokyo'", ""]))
    return Planted(
        what="the recovery target has no zone, and the server is set to Tokyo", expects=("recovery_target_time",)
    )


def _archiving(attempt: Attempt) -> Planted:
    """The source's archive settings came with the data directory (hazard 5)."""
    files = _files(attempt)
    _appended(files.data_dir / "postgresql.auto.conf", "\narchive_mode = 'on'\narchive_command = 'false %p'\n")
    return Planted(what="the copy archives with the source's command", expects=("archive_mode",))


FAULTS = tuple(
    Fault(name=name, stage=Stage.FILES, description=description, act=act)
    for name, description, act in (
        ("page-flipped", "one bit of a relation's page is flipped", _flipped),
        ("file-missing", "a relation's file is missing", _missing),
        ("file-truncated", "a relation's file lost its last page", _truncated),
        ("second-target", "a stale postgresql.auto.conf holds a second recovery target", _second_target),
        ("signal-removed", "recovery.signal is missing", _no_signal),
        ("label-removed", "backup_label is missing", _no_label),
        ("zone-wrong", "the target is read in another time zone", _wrong_zone),
        ("clone-archiving", "the copy would archive into the source's archive", _archiving),
    )
)
