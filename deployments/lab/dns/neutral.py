"""What the neutral name servers know at this moment: the published state, the probes' standings, ARC's controls.

It is told of changes by the checkers and the watcher, and gives the answers that follow. Lives from files: the last
published zone, the last verdicts (a restart must not move a name), and the replicas of ARC's state.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from deployments.lab.arc.replica import agreed
from deployments.lab.dns import verdict
from deployments.lab.dns.answers import Answers
from deployments.lab.dns.files import Watched, write
from deployments.lab.dns.verdict import Standing
from deployments.lab.dns.zone import Published


class Neutral:
    """One name server's knowledge. `scale`: how much of the real interval the lab waits between two probes."""

    def __init__(self, folder: Path, *, scale: float, arc: tuple[Path, ...] = ()) -> None:
        self.scale = scale
        self.published = Published()
        self.controls: dict[str, bool] = {}
        self._verdicts = folder / "verdicts.json"
        self.standings = self._remembered()
        self._zone = Watched(folder / "zone.json")
        self._arc = [Watched(path) for path in arc]
        self._replicas: dict[int, Any] = {}
        self._lock = threading.Lock()
        self.healthy: dict[str, bool] = {}
        self.answers = Answers(self.published, lambda _: True)

    def look(self) -> bool:
        """Read what has changed in the files; gives whether another zone was published."""
        changed = False
        if (content := self._zone.fresh()) is not None:
            try:
                self.published, changed = Published.model_validate(content), True
            except ValidationError as wrong:
                print(f"the published zone is not usable, the last one stays: {wrong}", flush=True)  # noqa: T201
        for number, each in enumerate(self._arc):
            if (replica := each.fresh()) is not None:
                self._replicas[number] = replica
        controls = agreed(list(self._replicas.values()), of=len(self._arc))
        moved = controls is not None and controls != self.controls
        if controls is not None:
            self.controls = controls
        if changed or moved:
            self._settle(fresh=changed)
        return changed

    def respond(self, wire: bytes, stream: bool) -> bytes | None:
        """The answer to a question by what is known now."""
        return self.answers.respond(wire, stream)

    def told(self, check_id: str, well: bool, why: str) -> None:
        """Take one probe's result."""
        with self._lock:
            check = next((each for each in self.published.checks if each.id == check_id), None)
            if check is None:
                return
            before = self.standings.get(check_id, Standing())
            self.standings[check_id] = verdict.after(before, check, well, why, now=time.time())
            turned = self.standings[check_id].well != before.well
            if turned:
                write(self._verdicts, {key: each.model_dump(mode="json") for key, each in self.standings.items()})
        if turned:
            self._settle()

    def _settle(self, *, fresh: bool = False) -> None:
        """Take new answers when the zone or a verdict is another."""
        with self._lock:
            checks = {check.id: check for check in self.published.checks}
            well = {each: verdict.healthy(each, checks, self.standings, self.controls) for each in checks}
            if fresh or well != self.healthy:
                self.healthy = well
                self.answers = Answers(self.published, lambda each: well.get(each, True))

    def tell(self) -> dict[str, Any]:
        """The verdicts with what they rest on, intervals real and scaled."""
        with self._lock:
            standings = dict(self.standings)
        checks = []
        for check in self.published.checks:
            standing = standings.get(check.id, Standing())
            checks.append(
                {
                    "id": check.id,
                    "reference": check.reference,
                    "type": check.type,
                    "healthy": self.healthy.get(check.id, True),
                    "inverted": check.inverted,
                    "disabled": check.disabled,
                    "failures": check.failures,
                    "interval_seconds": check.every_seconds,
                    "scaled_interval_seconds": check.every_seconds * self.scale,
                    "why": "disabled, which counts as healthy" if check.disabled else standing.why,
                    "probed_at": standing.probed_at,
                    "turned_at": standing.turned_at,
                }
            )
        return {"scale": self.scale, "serial": self.published.serial, "checks": checks}

    def _remembered(self) -> dict[str, Standing]:
        known = Watched(self._verdicts).fresh() or {}
        return {key: Standing.model_validate(each) for key, each in known.items()}
