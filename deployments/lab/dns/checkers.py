"""The health checkers: a thread for each endpoint check, probing for real at its scaled interval."""

from __future__ import annotations

import threading

from deployments.lab.dns.neutral import Neutral
from deployments.lab.dns.probing import probe
from deployments.lab.dns.zone import Check

PROBED = frozenset({"HTTP", "HTTP_STR_MATCH", "TCP"})


class Checkers:
    """The threads; `keep` starts and ends them as checks are published and withdrawn."""

    def __init__(self, neutral: Neutral, *, patience_seconds: float) -> None:
        self.neutral, self.patience_seconds = neutral, patience_seconds
        self._running: dict[str, tuple[Check, threading.Event]] = {}

    def keep(self, checks: tuple[Check, ...]) -> None:
        """Probe exactly these from now on; a check that was changed begins anew with its settings."""
        wanted = {check.id: check for check in checks if check.type in PROBED and not check.disabled}
        for check_id, (check, ended) in list(self._running.items()):
            if wanted.get(check_id) != check:
                ended.set()
                del self._running[check_id]
        for check_id, check in wanted.items():
            if check_id not in self._running:
                ended = threading.Event()
                self._running[check_id] = (check, ended)
                threading.Thread(target=self._watch, args=(check, ended), daemon=True).start()

    def _watch(self, check: Check, ended: threading.Event) -> None:
        while not ended.is_set():
            well, why = probe(check, patience_seconds=self.patience_seconds)
            if not ended.is_set():
                self.neutral.told(check.id, well, why)
            ended.wait(check.every_seconds * self.neutral.scale)
