"""The index of a base backup as it lies in the bucket (`base.idx`): JSON, one list per frame and per tar member.

Separate because packing writes it, restoring and explaining read it, and its form must stay readable for years.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from recovery.errors import Failed
from tasks.postgres.pack import FRAME_BYTES, Frame, Packed
from tasks.postgres.seal import HEADER_BYTES
from tasks.postgres.tar_index import Member

VERSION = 1
BASE, SEALED, INDEX, MANIFEST, MARKER, BEGUN = (
    "base.tar.zst", "base.tar.zst.enc", "base.idx", "backup_manifest.zst", "backup.json", "begun.json",
)  # fmt: skip
HOLD = "hold.json"
"""Beside the marker, which is written once: while it is there, retention leaves the backup alone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BaseIndex:
    """Frames in order with where each begins in the object and in the raw stream; members in order of the stream."""

    frames: list[Frame]
    stored_begin: list[int]
    raw_begin: list[int]
    members: list[Member]
    salt: bytes | None


def encoded(packed: Packed) -> bytes:
    """The bytes of the index."""
    told: dict[str, Any] = {
        "version": VERSION,
        "frame_bytes": FRAME_BYTES,
        "frame": ["stored_bytes", "raw_bytes", "crc64nvme"],
        "frames": [[frame.stored, frame.raw, f"{frame.crc:016x}"] for frame in packed.frames],
        "member": ["name", "kind", "mode", "size_bytes", "raw_begin", "target"],
        "members": [list(member) for member in packed.members],
        "salt": packed.salt.hex() if packed.salt else None,
    }
    return json.dumps(told, separators=(",", ":")).encode()


def decoded(body: bytes) -> BaseIndex:
    """The index. Raises Failed when it is not of this form."""
    try:
        told = json.loads(body)
        if told["version"] != VERSION:
            raise Failed(
                f"the backup's index has version {told['version']}, this program knows {VERSION}",
                hint="restore with the version of the program that wrote it, or by the printed instructions",
            )
        frames = [Frame(stored, raw, int(crc, 16)) for stored, raw, crc in told["frames"]]
        members = [Member(*member) for member in told["members"]]
        salt = bytes.fromhex(told["salt"]) if told["salt"] else None
    except (ValueError, KeyError, TypeError) as error:
        raise Failed(
            f"the backup's index can't be read ({type(error).__name__})",
            hint="restore from another backup or another site's copy, or by the printed instructions",
        ) from None
    first = HEADER_BYTES if salt else 0
    return BaseIndex(
        frames=frames,
        stored_begin=list(accumulate((frame.stored for frame in frames), initial=first))[:-1],
        raw_begin=list(accumulate((frame.raw for frame in frames), initial=0))[:-1],
        members=members,
        salt=salt,
    )
