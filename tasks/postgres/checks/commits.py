"""The commits around a moment, read from the WAL itself by pg_waldump: what a boundary check is judged by.

Recovery to a moment stops at the first commit in the order of the WAL that is later, so order decides here too.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

from recovery.errors import Unproven
from recovery.point import lsn_text
from tasks.postgres import waldump
from tasks.postgres.checks.context import Boundary, Commit

SET_BACK = timedelta(seconds=1)
"""Commits that overlap may be dated a little out of order; more than this is a clock that was set back."""


def boundary(
    *, wal_dir: Path, bin_dir: Path, timeline: int, begin_lsn: int, at: datetime, patience_seconds: float = 600
) -> Boundary:
    """The last commit before or at `at` and the first after it, from `begin_lsn` on, up to `timeline`."""
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
    if not any(each.is_file() for each in wal_dir.iterdir()):
        raise Unproven("there is no WAL to read commits from", hint="is the folder the one that it was fetched to?")
    with waldump.as_one(wal_dir, timeline) as folder:
        found = waldump.stretch(folder, timeline, begin_lsn)
        if found is None:
            raise Unproven(
                f"the WAL at {lsn_text(begin_lsn)} is not among the files", hint="were they fetched for this backup?"
            )
        span = waldump.Span(
            bin_dir=bin_dir, wal_dir=folder, timeline=timeline, begin_lsn=begin_lsn, end_lsn=max(found[1], begin_lsn)
        )
        for line in waldump.lines(span, "--rmgr=Transaction", patience_seconds=patience_seconds):
            if (commit := waldump.commit_of(line)) is not None:
                yield Commit(xid=commit.xid, lsn=commit.lsn, at=commit.at)
