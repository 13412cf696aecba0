"""What a stopped server's control file says, and exactly where its WAL ends.

Separate from wal_file.py because this is about a whole server: that it was shut down cleanly, and that its shutdown
checkpoint is the last record. Offsets are catalog/pg_control.h's, the same from PostgreSQL 14 to 18; a record begins
with its length (access/xlogrecord.h).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from recovery.errors import Failed
from recovery.point import segment_name
from tasks.postgres import wal_file

_CONTROL = struct.Struct("=QIIi4xqQQI")
SHUT_DOWN, SHUT_DOWN_IN_RECOVERY = 1, 2
_PAGE_BYTES = 8192
_SHORT_HEADER, _LONG_HEADER = 24, 40
_STATES = ("starting up", "shut down", "shut down in recovery", "shutting down", "in crash recovery",
           "in archive recovery", "in production")  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Control:
    """`checkpoint_lsn` is where the last checkpoint's record begins; `state` in pg_controldata's words."""

    system_id: str
    state: str
    clean: bool
    checkpoint_lsn: int
    timeline: int


def read(data_dir: Path) -> Control:
    """The control file. Raises Failed when there is none."""
    path = data_dir / "global" / "pg_control"
    try:
        raw = path.read_bytes()[: _CONTROL.size]
        system, _, _, state, _, checkpoint, _, timeline = _CONTROL.unpack(raw)
    except (OSError, struct.error) as error:
        raise Failed(
            f"{path} can't be read ({type(error).__name__})", hint="check data_dir, and that its disk is there"
        ) from None
    return Control(
        system_id=str(system),
        state=_STATES[state] if 0 <= state < len(_STATES) else f"state {state}",
        clean=state in (SHUT_DOWN, SHUT_DOWN_IN_RECOVERY),
        checkpoint_lsn=checkpoint,
        timeline=timeline,
    )


def shutdown_end(data_dir: Path) -> int | None:
    """The end of a cleanly stopped primary's last record, its shutdown checkpoint; None when it is anything else."""
    control = read(data_dir)
    if control.state != _STATES[SHUT_DOWN]:
        return None
    size = wal_file.segment_bytes(data_dir / "pg_wal")
    begin = control.checkpoint_lsn
    file = data_dir / "pg_wal" / segment_name(control.timeline, begin, size)
    try:
        with file.open("rb") as source:
            source.seek(begin % size)
            (length,) = struct.unpack("=I", source.read(4))
    except (OSError, struct.error):
        return None
    return record_end(begin, length, size)


def record_end(begin: int, length: int, segment_bytes: int) -> int:
    """Where a record of that length ends: pages have headers, records are aligned to eight bytes."""
    at, left = begin, length
    while left > (room := _PAGE_BYTES - at % _PAGE_BYTES):
        left -= room
        at += room
        at += _LONG_HEADER if at % segment_bytes == 0 else _SHORT_HEADER
    return (at + left + 7) // 8 * 8


def facts(data_dir: Path) -> dict[str, JsonValue]:
    """For an agent's word about a stopped server: where its WAL ends if that is proved (`lsn`, else None)."""
    found = read(data_dir)
    return {
        "system_id": found.system_id,
        "control": found.state,
        "clean": found.clean,
        "timeline": found.timeline,
        "lsn": shutdown_end(data_dir),
    }
