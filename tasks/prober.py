"""A prober: asks the probes of a service again and again, and knows since when each one fails.

Separate from its two homes, the agents (a part of each) and the process at a third place (tasks/service/vantage.py):
the engine may be started long after the outage began, and has to be told of the last moment at which all was well.
What it knows is of this process only: after a restart it has seen nothing yet.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated

from pydantic import Field, JsonValue

from recovery.step import Name
from recovery.value import Value, rfc3339
from tasks.probing import Answer, Outcome, Question, ask

Part = Callable[[threading.Event], None]
Route = Callable[[Mapping[str, str], bytes], JsonValue]
Ask = Callable[[Question, float], Answer]
STALE_SECONDS = 3.0
"""So much later than it is due an answer may come; after that nobody knows what the site would have said meanwhile."""


class Probed(Value):
    """A probe that is asked, with its name."""

    name: Name
    site: Name
    url: str
    expect: str = ""


class ProberConfig(Value):
    """What a prober is told (JSON). `name` is the vantage point's, `site` the place where it stands, if it is one."""

    name: Name
    site: Name | None = None
    every_seconds: Annotated[float, Field(gt=0, le=3600)] = 0.5
    patience_seconds: Annotated[float, Field(gt=0, le=60)] = 1.0
    probes: Annotated[tuple[Probed, ...], Field(max_length=200)] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """What is known of one probe. The two `…_mono` are this process's monotonic clock: when the last answer came, and
    the begin of the first question of an unbroken row of failures."""

    outcome: Outcome = "unproven"
    why: str = "it was not asked yet"
    at: datetime | None = None
    last_passed_at: datetime | None = None
    answered_mono: float | None = None
    failing_mono: float | None = None

    def after(self, answer: Answer, *, now: datetime, mono: float, due_seconds: float) -> Known:
        """With one more answer, which came at `now` (and `mono`); one is due every `due_seconds`. What could not be
        asked breaks the row of failures, and so does a time in which nobody asked (this process was stopped, or its
        machine): nobody knows what would have been answered."""
        begun = mono - answer.seconds
        unseen = self.answered_mono is not None and begun - self.answered_mono > due_seconds + STALE_SECONDS
        failing = begun if self.failing_mono is None or unseen else self.failing_mono
        return replace(
            self,
            outcome=answer.outcome,
            why=answer.why,
            at=now,
            answered_mono=mono,
            last_passed_at=now if answer.outcome == "passed" else self.last_passed_at,
            failing_mono=failing if answer.outcome == "failed" else None,
        )

    def told(self, mono: float) -> dict[str, JsonValue]:
        """As JSON. `failing_since` is the instant of the last pass before the failures, None when none was seen;
        `failing_seconds` counts the unbroken row of failures, `age_seconds` the time since the last answer."""
        failing = self.outcome == "failed"
        return {
            "outcome": self.outcome,
            "why": self.why,
            "at": _text(self.at),
            "age_seconds": None if self.answered_mono is None else round(mono - self.answered_mono, 3),
            "last_passed_at": _text(self.last_passed_at),
            "failing_since": _text(self.last_passed_at) if failing else None,
            "failing_seconds": round(mono - self.failing_mono, 3) if failing and self.failing_mono is not None else 0.0,
        }


class Prober:
    """Asks in a thread for each probe, so that one that hangs delays no other; `answer` is the route `GET /probes`."""

    def __init__(self, config: ProberConfig, ask: Ask | None = None) -> None:
        self.config = config
        self._ask = ask or _ask
        self._known = {probe.name: Known() for probe in config.probes}

    def run(self, stop: threading.Event) -> None:
        """Ask until `stop`. Ends within the patience; the threads are daemons for what hangs longer."""
        threads = [
            threading.Thread(target=self._watch, args=(probe, stop), name=f"probe-{probe.name}", daemon=True)
            for probe in self.config.probes
        ]
        for thread in threads:
            thread.start()
        stop.wait()
        deadline = time.monotonic() + self.config.patience_seconds
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _watch(self, probe: Probed, stop: threading.Event) -> None:
        question = Question(url=probe.url, expect=probe.expect)
        while not stop.is_set():
            begin = time.monotonic()
            answer = self._ask(question, self.config.patience_seconds)
            mono = time.monotonic()
            known, due = self._known[probe.name], self.config.every_seconds
            self._known[probe.name] = known.after(answer, now=datetime.now(UTC), mono=mono, due_seconds=due)
            stop.wait(max(0.0, begin + self.config.every_seconds - mono))

    def answer(self, _query: Mapping[str, str], _body: bytes) -> JsonValue:
        """All that is known now."""
        mono = time.monotonic()
        return {
            "name": self.config.name,
            "site": self.config.site,
            "every_seconds": self.config.every_seconds,
            "patience_seconds": self.config.patience_seconds,
            "probes": {name: known.told(mono) for name, known in self._known.items()},
        }


def part(config: ProberConfig) -> tuple[Part, Route]:
    """What an agent needs: the thread's body, and the route for `GET /probes`."""
    prober = Prober(config)
    return prober.run, prober.answer


def _ask(question: Question, patience_seconds: float) -> Answer:
    return ask(question, patience_seconds=patience_seconds)


def _text(at: datetime | None) -> str | None:
    return None if at is None else rfc3339(at)
