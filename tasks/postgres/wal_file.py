"""What a WAL file on disk says of itself, and which system a data directory belongs to.

Separate from the archiver because these byte layouts are Postgres's (access/xlog_internal.h, catalog/pg_control.h), not
ours: XLogLongPageHeaderData begins each segment, the system identifier begins pg_control.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from recovery.errors import BadInput, Failed, Refused
from recovery.point import SEGMENT_BYTES
from recovery.wal import HistoryFile, Label, Partial, Segment, WalName, name_of, parse

_PAGE = struct.Struct("=HHIQI4xQII")
_LONG_HEADER = 0x0002
_NOT_WAL_HINT = "leave it where it is and look at what wrote it; archive only what Postgres itself puts into pg_wal"


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """The long header of a segment's first page."""

    magic: int
    timeline: int
    begin_lsn: int
    system_id: str
    segment_bytes: int


def system_id(data_dir: Path) -> str:
    """The system identifier from pg_control, decimal. Raises Failed when there is no data directory."""
    control = data_dir / "global" / "pg_control"
    try:
        with control.open("rb") as source:
            return str(struct.unpack("=Q", source.read(8))[0])
    except (OSError, struct.error) as error:
        raise Failed(
            f"{control} can't be read ({type(error).__name__})",
            hint="check data_dir in the agent's configuration and that the agent may read it",
        ) from None


def header(path: Path) -> Header:
    """The segment's header. Raises Refused when the file is no WAL segment."""
    with path.open("rb") as source:
        page = source.read(_PAGE.size)
    if len(page) < _PAGE.size:
        raise Refused(f"{path.name} has only {len(page)} bytes: no WAL segment", hint=_NOT_WAL_HINT)
    magic, info, timeline, begin_lsn, _, system, size, _ = _PAGE.unpack(page)
    if magic >> 8 != 0xD1 or not info & _LONG_HEADER:
        raise Refused(f"{path.name} does not begin like a WAL segment", hint=_NOT_WAL_HINT)
    return Header(magic=magic, timeline=timeline, begin_lsn=begin_lsn, system_id=str(system), segment_bytes=size)


def segment_bytes(pg_wal: Path) -> int:
    """The segment size of the cluster, from any segment in pg_wal; 16 MiB when there is none."""
    for path in sorted(pg_wal.iterdir()):
        if len(path.name) == 24 and path.is_file():
            try:
                return header(path).segment_bytes
            except (Refused, FileNotFoundError):  # preallocated for later, or recycled just now: the next one tells
                continue
    return SEGMENT_BYTES


def checked(path: Path, *, system: str, size: int) -> WalName:
    """The name of a WAL file whose inside agrees with it. Raises BadInput for other names, Refused for content."""
    try:
        name = parse(path.name, size)
    except ValueError as error:
        raise BadInput(str(error), hint=_NOT_WAL_HINT) from None
    match name:
        case HistoryFile() | Label():
            return name
        case Segment() | Partial():
            _check(path, name, system)
            return name


def _check(path: Path, name: Segment | Partial, system: str) -> None:
    found = header(path)
    actual = path.stat().st_size
    if found.system_id != system:
        raise Refused(
            f"{path.name} belongs to system {found.system_id}, this agent archives for system {system}",
            hint="one agent serves one cluster: correct archive_command or data_dir; nothing was stored",
        )
    if actual != found.segment_bytes:
        raise Refused(
            f"{path.name} has {actual} bytes, a segment of this system has {found.segment_bytes}", hint=_NOT_WAL_HINT
        )
    if found.begin_lsn != name.number * found.segment_bytes or found.timeline > name.timeline:
        inside = name_of(found.timeline, found.begin_lsn // found.segment_bytes, found.segment_bytes)
        raise Refused(f"{path.name} has the content of {inside}", hint=_NOT_WAL_HINT)
