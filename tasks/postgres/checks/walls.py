"""What is wrong with a folder of raw WAL files: gaps, sizes, headers, order, records. Separate for its byte formats.

The long page header at the beginning of each segment (src/include/access/xlog_internal.h): magic, info, timeline, page
address, remaining length, system identifier, segment size, block size.
"""

from __future__ import annotations

import re
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

from recovery.check import Finding
from recovery.point import lsn_number, lsn_text, segment_name
from tasks.postgres import waldump
from tasks.postgres.checks.context import CheckContext

HEADER = struct.Struct("<HHIQIxxxxQII")
LONG_HEADER = 2
_SEGMENT = re.compile(r"^[0-9A-F]{24}$")
_HISTORY = re.compile(r"^([0-9A-F]{8})\.history$")
_RECORD_AT = re.compile(r"error in WAL record at ([0-9A-F]+/[0-9A-F]+)")
_HINT = "fetch it again from the other site's bucket; if it is so there too, choose an earlier target or another point"


def troubles(context: CheckContext, check: str) -> list[Finding]:
    """All findings about the WAL folder; the records are only read when the files are right."""
    folder = context.wal_dir
    if folder is None:
        return []
    found = [
        Finding(check=check, fact=fact, hint=_HINT) for fact in (*_files(context, folder), *_histories(context, folder))
    ]
    return found or [Finding(check=check, fact=fact, hint=_HINT) for fact in _records(context, folder)]


def needed(context: CheckContext) -> list[str]:
    """The segments from the backup's beginning to `wal_end`, on the backup's timeline."""
    end = max(context.wal_end or context.backup.end_lsn, context.backup.end_lsn)
    size = context.segment_bytes
    first, last = context.backup.begin_lsn // size, max(context.backup.begin_lsn, end - 1) // size
    return [segment_name(context.backup.timeline, number * size, size) for number in range(first, last + 1)]


def _files(context: CheckContext, folder: Path) -> Iterator[str]:
    there = {path.name: path for path in folder.iterdir() if _SEGMENT.match(path.name)}
    followed = {name[8:] for name in there if int(name[:8], 16) <= context.timeline}
    for name in needed(context):
        if name[8:] not in followed:
            yield f"WAL segment {name} is missing"
    for name, path in sorted(there.items()):
        yield from _segment(context, name, path)


def _segment(context: CheckContext, name: str, path: Path) -> Iterator[str]:
    size = path.stat().st_size
    if size != context.segment_bytes:
        yield f"WAL segment {name} has {size} bytes instead of {context.segment_bytes}"
        return
    with path.open("rb") as file:
        magic, info, timeline, address, _, system_id, _, _ = HEADER.unpack(file.read(HEADER.size))
    per_log = 0x100000000 // context.segment_bytes
    expected = (int(name[8:16], 16) * per_log + int(name[16:24], 16)) * context.segment_bytes
    if not magic or not info & LONG_HEADER:
        yield f"WAL segment {name} does not begin like one"
    elif address != expected:
        other = segment_name(timeline, address, context.segment_bytes)
        yield f"WAL segment {name} holds the content of {other}"
    elif str(system_id) != context.backup.system_id:
        yield f"WAL segment {name} is of system {system_id}, not {context.backup.system_id}"
    elif timeline > int(name[:8], 16) or int(name[:8], 16) > context.timeline:
        yield f"WAL segment {name} is of timeline {timeline}, the recovery follows timeline {context.timeline}"


def _histories(context: CheckContext, folder: Path) -> Iterator[str]:
    for path in sorted(folder.iterdir()):
        match = _HISTORY.match(path.name)
        if match and int(match[1], 16) > context.timeline:
            yield f"{path.name} belongs to a timeline that this recovery does not follow ({context.timeline})"


def _records(context: CheckContext, folder: Path) -> Iterator[str]:
    """pg_waldump checks every record's CRC, through every switch of timelines on the way."""
    end = max(context.wal_end or 0, context.backup.end_lsn)
    begin = context.backup.begin_lsn
    with waldump.as_one(folder, context.timeline) as files:
        argv = [str(context.bin_dir / "pg_waldump"), "-q", "-p", str(files), "-t", str(context.timeline)]
        done = subprocess.run(
            [*argv, "-s", lsn_text(begin), "-e", lsn_text(end)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=context.patience_seconds,
            env={"LC_ALL": "C", "PATH": "/usr/bin:/bin", "TZ": "UTC"},
        )
    if done.returncode == 0:
        return
    said = (done.stderr.strip().splitlines() or ["pg_waldump failed"])[-1].partition("error: ")[
        2
    ] or done.stderr.strip()
    place = _RECORD_AT.search(said)
    at = lsn_number(place[1]) if place else begin
    yield f"WAL segment {segment_name(context.timeline, at, context.segment_bytes)} holds a broken record: {said}"
