"""The end of an archive: its last record and its last commit, by pg_waldump.

Separate from wal.py, which moves files: here their content decides what a target means.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

from recovery.choose import End
from recovery.errors import Failed
from recovery.point import lsn_number
from recovery.wal import Segment, parse
from tasks.host import LocalHost

_ENV = {"LC_ALL": "C", "TZ": "UTC", "PGTZ": "UTC"}
_RECORD = re.compile(r"lsn: ([0-9A-F]+/[0-9A-F]+), prev")
_COMMITTED = re.compile(r"desc: COMMIT(?:_PREPARED)? (?:\S+: )?(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+) UTC")
PATIENCE_SECONDS = 120.0


def read_end(bin_dir: Path, file: Path, segment_bytes: int) -> End | None:
    """The last record that begins in the file, the last commit, the file's end; None when no record begins in it."""
    out = _dump(bin_dir, file)
    begins = _RECORD.findall(out)
    if not begins:
        return None
    seen = [_instant(at) for at in _COMMITTED.findall(out)]
    name = parse(file.name, segment_bytes)
    number = name.number if isinstance(name, Segment) else 0
    return End(lsn=(number + 1) * segment_bytes, record_lsn=lsn_number(begins[-1]), at=max(seen, default=None))


def _instant(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%d %H:%M:%S.%f").replace(tzinfo=UTC)


def _dump(bin_dir: Path, file: Path) -> str:
    ran = LocalHost().run([str(bin_dir / "pg_waldump"), str(file)], env=_ENV, patience_seconds=PATIENCE_SECONDS)
    if not ran.out and ran.code != 0 and "could not find a valid record" not in ran.err:
        raise Failed(
            f"{file.name} cannot be read: {ran.err.strip()[:200]}",
            hint="bin_dir may be of another major version than the WAL, or the file is damaged",
        )
    return ran.out
