"""What each part of the lab gives when it was started: the same few facts, so that status and faults need no more."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A running part: its process name (`east.postgres`), pid, the real address it listens on and its ports by role."""

    name: str
    pid: int
    address: str
    ports: dict[str, int] = field(default_factory=dict)


class Unwell(Exception):
    """A self-test used the part and did not get what it must give."""
