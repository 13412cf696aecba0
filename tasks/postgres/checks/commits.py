"""The commits around a moment, read from the WAL itself by pg_waldump: what a boundary check is judged by.

Recovery to a moment stops at the first commit in the order of the WAL that is later, so order decides here too.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from recovery.errors import Unproven
from recovery.point import lsn_number, lsn_text, segment_name
from tasks.postgres.checks.context import Boundary, Commit

_SEGMENT = re.compile(r"^[0-9A-F]{24}$")
_COMMIT = re.compile(
    r"tx:\s*(\d+), lsn: ([0-9A-F]+/[0-9A-F]+), prev \S+, desc: COMMIT(?:_PREPARED (\d+):)? ?"
    r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)\.?(\d*) UTC"
)

SET_BACK = timedelta(seconds=1)
"""Commits that overlap may be dated a little out of order; more than this is a clock that was set back."""


def boundary(
    *, wal_dir: Path, bin_dir: Path, timeline: int, begin_lsn: int, at: datetime, patience_seconds: float = 600
) -> Boundary:
    """The last commit before or at `at` and the first after it, from `begin_lsn` on, on one timeline."""
    last: Commit | None = None
    after: Commit | None = None
    for commit in commits(
        wal_dir=wal_dir, bin_dir=bin_dir, timeline=timeline, begin_lsn=begin_lsn, patience_seconds=patience_seconds
    ):
        if after is None and commit.at <= at:
            last = commit
        elif after is None:
            after = commit
        elif commit.at < at - SET_BACK:
            return Boundary(last_before=last, first_after=after, behind=commit)
    return Boundary(last_before=last, first_after=after)


def commits(
    *, wal_dir: Path, bin_dir: Path, timeline: int, begin_lsn: int, patience_seconds: float = 600
) -> Iterator[Commit]:
    """All commits in raw WAL files, in order. Raises Unproven when pg_waldump cannot read the first of them."""
    argv = [str(bin_dir / "pg_waldump"), "--rmgr=Transaction", "-p", str(wal_dir), "-t", str(timeline)]
    done = subprocess.run(
        [*argv, "-s", lsn_text(begin_lsn), "-e", lsn_text(_end(wal_dir, timeline, begin_lsn))],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        timeout=patience_seconds,
        env={"LC_ALL": "C", "PATH": "/usr/bin:/bin", "TZ": "UTC"},
    )
    if done.returncode and "error in WAL record" not in done.stderr and "could not find file" not in done.stderr:
        said = done.stderr.strip().splitlines()
        raise Unproven(
            f"the WAL cannot be read: {said[-1] if said else 'pg_waldump failed'}", hint="is its first segment there?"
        )
    for match in _COMMIT.finditer(done.stdout):
        moment = datetime.fromisoformat(f"{match[4]}.{match[5].ljust(6, '0')}").replace(tzinfo=UTC)
        yield Commit(xid=int(match[3] or match[1]), lsn=lsn_number(match[2]), at=moment)


def _end(wal_dir: Path, timeline: int, begin_lsn: int) -> int:
    """The end of the last segment without a gap: beyond it pg_waldump would wait seconds for a file to appear."""
    first = next((path for path in wal_dir.iterdir() if _SEGMENT.match(path.name)), None)
    if first is None:
        raise Unproven("there is no WAL to read commits from", hint="is the folder the one that it was fetched to?")
    size = first.stat().st_size
    number = begin_lsn // size
    while (wal_dir / segment_name(timeline, number * size, size)).exists():
        number += 1
    return max(number * size, begin_lsn)
