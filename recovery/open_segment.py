"""When the WAL segment that is written has to be ended: no commit waits longer for the archive than promised. Pure.

Separate from asking the server. Postgres ends segments after `archive_timeout` by itself, but not in the first minutes
after a start: its checkpointer begins while recovery still counts as running, and then sleeps for a whole
`checkpoint_timeout` (measured on 15 and 18, after a crash and after a clean stop alike).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

GRACE_SECONDS = 2.0
"""What the server has beyond its own setting, which it keeps to the second."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenSegment:
    """The file's name, when it was first seen (seconds of any steady clock), and the next transaction's number at the
    last look before it and at the last look of all: where they are the same, nothing in it has to be kept."""

    name: str
    since_seconds: float
    before_xid: int
    last_xid: int


def looked(before: OpenSegment | None, *, name: str, xid: int, at_seconds: float) -> OpenSegment:
    """After one more look. What was written before the first one is unknown, so it counts."""
    if before is None:
        return OpenSegment(name=name, since_seconds=at_seconds, before_xid=0, last_xid=xid)
    if before.name != name:
        return OpenSegment(name=name, since_seconds=at_seconds, before_xid=before.last_xid, last_xid=xid)
    return replace(before, last_xid=xid)


def is_overdue(segment: OpenSegment, *, at_seconds: float, timeout_seconds: float) -> bool:
    """Whether it has to be ended now. `timeout_seconds`: the server's `archive_timeout`; 0 bounds nothing."""
    age = at_seconds - segment.since_seconds
    return 0 < timeout_seconds < age - GRACE_SECONDS and segment.last_xid > segment.before_xid


def ended(segment: OpenSegment, *, at_seconds: float) -> OpenSegment:
    """After the order to end it: not again at once, since the name stays where the server had nothing to end."""
    return replace(segment, since_seconds=at_seconds, before_xid=segment.last_xid)
