"""A place that fell silent rests: it costs its patience once, not for each question. One circuit a place and process.

Separate from the ledger because a site's records and its leases lie behind one door: who found it silent spares the
other the wait.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from recovery.errors import DrError, Failed

T = TypeVar("T")
Silence = type[DrError] | tuple[type[DrError], ...]
REST_SECONDS = 30.0


class Circuit:
    """Whether a place may be asked now. Thread-safe. `now_seconds` is a monotonic clock.

    While it rests nobody need ask it; after that the next question finds out.
    """

    def __init__(
        self, *, rest_seconds: float = REST_SECONDS, now_seconds: Callable[[], float] = time.monotonic
    ) -> None:
        self._rest_seconds = rest_seconds
        self._now = now_seconds
        self._lock = threading.Lock()
        self._rests_until = 0.0
        self._trouble = ""
        self._silence: DrError | None = None

    @property
    def trouble(self) -> str:
        """Why the place did not answer when it was asked last, or nothing."""
        return self._trouble

    def demand(self, do: Callable[[], T]) -> T:
        """The answer; or the silence is raised, as it is met now or, while the place rests, as it was met before."""
        if self.rests and self._silence is not None:
            raise self._silence
        try:
            answer = do()
        except Failed as error:
            self._fell_silent(error)
            raise
        self._answered()
        return answer

    @property
    def rests(self) -> bool:
        """Whether it fell silent so lately that it is not worth a patience."""
        return self._now() < self._rests_until

    def wake(self) -> None:
        """Let the next question be asked, however lately it was silent."""
        with self._lock:
            self._rests_until = 0.0

    def ask(self, do: Callable[[], T], *, silence: Silence = Failed) -> tuple[T] | None:
        """The answer, or None when the place is silent: it then rests. Asks even one that rests.

        `silence` is what counts as that. By default refused credentials, or a bucket that is not there, do not.
        """
        try:
            answer = do()
        except silence as error:
            self._fell_silent(error)
            return None
        self._answered()
        return (answer,)

    def _fell_silent(self, error: DrError) -> None:
        with self._lock:
            self._silence, self._trouble, self._rests_until = error, error.fact, self._now() + self._rest_seconds

    def _answered(self) -> None:
        with self._lock:
            self._silence, self._trouble, self._rests_until = None, "", 0.0
