"""What the agent remembers: how far WAL was archived and shipped, and its alerts. On disk, so a kill loses nothing.

Separate because archiver, shipper, heartbeat and status share it and none of them owns it. Thread-safe.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from pydantic import Field, JsonValue, ValidationError

from recovery.value import Instant, Value, canonical

_ALERT_FILE_BYTES = 4 * 1024 * 1024


def utc_now() -> datetime:
    """The clock of this machine."""
    return datetime.now(UTC)


class Position(Value):
    """Up to where WAL is safe: the segment, its end (exclusive), and since when."""

    segment: str
    lsn: int
    at: Instant


class Positions(Value):
    """Archived by timeline, shipped by site and timeline (`west/1`)."""

    archived: dict[str, Position] = Field(default_factory=dict)
    shipped: dict[str, Position] = Field(default_factory=dict)


class Alert(Value):
    """A trouble that a person should see; `subject` names it once, `over` says that it passed."""

    at: Instant
    subject: str
    fact: str
    hint: str
    over: bool = False


class Memory:
    """Positions, kept in `positions.json` of the agent's state folder by atomic replacement."""

    def __init__(self, state_dir: Path, *, system: str = "") -> None:
        self._path = state_dir / (f"positions-{system}.json" if system else "positions.json")
        self._lock = threading.Lock()
        state_dir.mkdir(parents=True, exist_ok=True)
        self._now = self._load()

    def archived(self, timeline: int) -> Position | None:
        """How far a timeline was archived without a gap known, or None."""
        with self._lock:
            return self._now.archived.get(str(timeline))

    def newest(self) -> Position | None:
        """The archived position of the newest timeline."""
        with self._lock:
            return max(self._now.archived.items(), key=lambda item: int(item[0]), default=("", None))[1]

    def shipped(self, site: str) -> Position | None:
        """The position at a site on the newest timeline that it has."""
        with self._lock:
            mine = {int(k.rpartition("/")[2]): v for k, v in self._now.shipped.items() if k.rpartition("/")[0] == site}
        return mine[max(mine)] if mine else None

    def set_archived(self, timeline: int, position: Position) -> None:
        """Remember; a position never moves back."""
        with self._lock:
            known = self._now.archived.get(str(timeline))
            if known is None or position.lsn > known.lsn:
                self._save(
                    Positions(archived={**self._now.archived, str(timeline): position}, shipped=self._now.shipped)
                )

    def set_shipped(self, site: str, timeline: int, position: Position) -> None:
        """Remember; a position never moves back."""
        with self._lock:
            known = self._now.shipped.get(f"{site}/{timeline}")
            if known is None or position.lsn > known.lsn:
                shipped = {**self._now.shipped, f"{site}/{timeline}": position}
                self._save(Positions(archived=self._now.archived, shipped=shipped))

    def _load(self) -> Positions:
        try:
            return Positions.model_validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return Positions()
        except ValidationError:
            # It is only a cache of what the buckets tell; a torn one is kept aside for whoever wonders.
            self._path.replace(self._path.with_suffix(".damaged"))
            return Positions()

    def _save(self, positions: Positions) -> None:
        fresh = self._path.with_suffix(".new")
        fresh.write_bytes(canonical(positions))
        fresh.replace(self._path)
        self._now = positions


class Alerts:
    """Alerts: those that stand, in memory; every beginning and end, in `alerts.jsonl`."""

    def __init__(self, state_dir: Path, *, now: Callable[[], datetime] = utc_now) -> None:
        state_dir.mkdir(parents=True, exist_ok=True)
        self._path = state_dir / "alerts.jsonl"
        self._now = now
        self._lock = threading.Lock()
        self._standing: dict[str, Alert] = {}

    def tell(self, subject: str, fact: str, hint: str) -> None:
        """A trouble stands. Told again with the same fact it is not written again."""
        with self._lock:
            known = self._standing.get(subject)
            if known is not None and known.fact == fact:
                return
            self._standing[subject] = alert = Alert(at=self._now(), subject=subject, fact=fact, hint=hint)
            self._write(alert)

    def over(self, subject: str) -> None:
        """The trouble passed; nothing happens when there was none."""
        with self._lock:
            known = self._standing.pop(subject, None)
            if known is not None:
                self._write(known.model_copy(update={"at": self._now(), "over": True}))

    def standing(self) -> list[JsonValue]:
        """Those that stand, oldest first, as JSON."""
        with self._lock:
            return [each.model_dump(mode="json") for each in sorted(self._standing.values(), key=lambda one: one.at)]

    def _write(self, alert: Alert) -> None:
        if self._path.exists() and self._path.stat().st_size > _ALERT_FILE_BYTES:
            self._path.replace(self._path.with_suffix(".1.jsonl"))
        with self._path.open("ab") as sink:
            sink.write(canonical(alert) + b"\n")
            sink.flush()
            os.fsync(sink.fileno())
