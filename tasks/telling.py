"""A run's events as lines of a log, for whoever watches it on a screen. No Prefect: `log` is asked for at every line,
since each task run has one of its own.

Separate from the door, which makes the task runs that these lines appear in.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from tasks.loop import Event

TOLD_EVERY_SHARE = 0.25
Log = logging.Logger | logging.LoggerAdapter[logging.Logger]


@dataclass(frozen=True, kw_only=True, slots=True)
class Teller:
    """The loop's events as lines of the run's log; of a step's progress every quarter, and what is new, only."""

    log: Callable[[], Log]
    _shares: dict[str, float] = field(default_factory=dict)
    _texts: dict[str, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, event: Event) -> None:
        """See tasks.loop.Loop.tell."""
        if event.word == "moved" and not self._moved_far(event):
            return
        if event.word in ("begun", "ended"):
            self._shares.pop(event.step, None)
            self._texts.pop(event.step, None)
        word = event.text if event.word == "moved" else f"{event.word} {event.text}".strip()
        share = "" if event.share is None else f" {event.share:.0%}"
        level = logging.ERROR if event.word == "failed" else logging.INFO
        self.log().log(level, "%s: %s%s", event.step, word, share)

    def _moved_far(self, event: Event) -> bool:
        with self._lock:
            if event.share is None:
                known = self._texts.get(event.step, "")
                self._texts[event.step] = event.text
                return event.text != known
            if event.share < self._shares.get(event.step, 0.0) + TOLD_EVERY_SHARE:
                return False
            self._shares[event.step] = event.share
            return True
