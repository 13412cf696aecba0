"""The end of an archive: its last record and its last commit.

Separate from wal.py, which moves files: here their content decides what a target means.
"""

from __future__ import annotations

from pathlib import Path

from recovery.choose import End
from recovery.errors import Failed
from recovery.wal import Segment, parse
from tasks.postgres import waldump


def read_end(bin_dir: Path, file: Path, segment_bytes: int) -> End | None:
    """The last record that begins in the file, the last commit, the file's end; None when no record begins in it."""
    ran = waldump.file(bin_dir, file, patience_seconds=waldump.PATIENCE_SECONDS)
    if waldump.reads_nothing(ran):
        raise Failed(
            f"{file.name} cannot be read: {ran.err.strip()[:200]}",
            hint="bin_dir may be of another major version than the WAL, or the file is damaged",
        )
    begins = waldump.begins(ran.out)
    if not begins:
        return None
    name = parse(file.name, segment_bytes)
    number = name.number if isinstance(name, Segment) else 0
    at = waldump.newest(list(waldump.commits(ran.out)))
    return End(lsn=(number + 1) * segment_bytes, record_lsn=begins[-1], at=at)
