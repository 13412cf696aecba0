"""Recovery points: LSNs, WAL names, backups and archives as values, and the choice of what to restore from. Pure.

The names and sizes of WAL segments are Postgres's own (src/include/access/xlog_internal.h): timeline, log, segment as
24 hexadecimal digits, 4 GiB of WAL a log.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from recovery.value import Instant, Value

SEGMENT_BYTES = 16 * 1024 * 1024


class Backup(Value):
    """A complete backup as its commit marker describes it. LSNs are integers (bytes of WAL since the beginning).

    `key` is the folder in the bucket; `parent` is the id of the full that an incremental needs.
    """

    schema_version: Literal[1] = 1
    id: str
    resource: str
    system_id: str
    timeline: Annotated[int, Field(ge=1)]
    kind: Literal["full", "incremental"]
    parent: str | None = None
    begin_lsn: Annotated[int, Field(ge=0)]
    end_lsn: Annotated[int, Field(ge=0)]
    begun_at: Instant
    ended_at: Instant
    server_version: int
    segment_bytes: int = SEGMENT_BYTES
    size_bytes: Annotated[int, Field(ge=0)]
    stored_bytes: Annotated[int, Field(ge=0)]
    objects: dict[str, str] = {}
    """Name of each object under the folder → its SHA-256, hexadecimal."""
    encrypted_with: str | None = None
    """The fingerprint of the key, never the key."""
    hold: bool = False
    """Retention leaves it alone. Not the marker's word, which is written once: an object beside it says so."""


def lsn_text(lsn: int) -> str:
    """Postgres's own form, `16/B374D848`."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def lsn_number(text: str) -> int:
    """The number of an LSN in Postgres's form. Raises ValueError for anything else."""
    high, _, low = text.partition("/")
    return (int(high, 16) << 32) | int(low, 16)


def segment_name(timeline: int, lsn: int, segment_bytes: int = SEGMENT_BYTES) -> str:
    """The WAL file that holds the byte at `lsn`."""
    per_log = 0x100000000 // segment_bytes
    number = lsn // segment_bytes
    return f"{timeline:08X}{number // per_log:08X}{number % per_log:08X}"
