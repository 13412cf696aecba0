"""Live progress for people, on stderr: each step with its state and share on a terminal, plain lines elsewhere.

Separate because every acting command shows a run in the same way and none of them knows what a terminal is.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from deployments.cli.output import aside

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from tasks.loop import Event

_SIGNS = {"begun": "[cyan]…[/]", "moved": "[cyan]…[/]", "ended": "[green]✓[/]", "failed": "[red]✗[/]"}


@contextmanager
def watching(
    title: str, *, quiet: bool = False, expected: Mapping[str, float] | None = None
) -> Iterator[Callable[[Event], None]]:
    """A watcher for a loop's events. `quiet` shows nothing (`--json` into a pipe still shows plain lines on stderr).
    `expected`: step → the seconds that it took before, for elapsed time to be read against."""
    if quiet:
        yield lambda event: None  # noqa: ARG005 -- nobody watches
    elif sys.stderr.isatty():
        with _bars() as progress:
            progress.console.print(f"[bold]{title}[/]")
            yield _Bars(progress, expected or {}).tell
    else:
        sys.stderr.write(f"{title}\n")
        yield Lines(expected or {}).tell


AWAITED_SECONDS = 10.0
"""A step that takes longer says what it waits for, and again at most so often, where that is another thing."""


class Lines:
    """A line for each beginning and each end, and now and then for what a step waits for meanwhile."""

    def __init__(self, expected: Mapping[str, float], clock: Callable[[], float] = time.monotonic) -> None:
        self._expected = expected
        self._clock = clock
        self._told: dict[str, tuple[float, str]] = {}

    def tell(self, event: Event) -> None:
        """Show one event."""
        now = self._clock()
        told_at, told = self._told.setdefault(event.step, (now, ""))
        if event.word == "moved" and (event.text in ("", told) or now - told_at < AWAITED_SECONDS):
            return
        self._told[event.step] = now, event.text
        if event.word == "noted":
            line = event.text
        elif event.word == "moved":
            line = f"{event.step}: {event.text}"
        else:
            usual = _usual(self._expected.get(event.step)) if event.word == "begun" else ""
            line = " ".join(each for each in (f"{event.step}: {event.word}", event.text, usual) if each)
        sys.stderr.write(f"  {line}\n")
        sys.stderr.flush()


def _usual(seconds: float | None) -> str:
    return "" if seconds is None else f"(usually {seconds:.1f} s)"


@contextmanager
def _bars() -> Iterator[Progress]:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("  {task.fields[sign]} {task.description:<10}"),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.fields[usual]}[/]"),
        TextColumn("{task.fields[text]}"),
    )
    with Progress(*columns, console=aside(), refresh_per_second=8) as progress:
        yield progress


class _Bars:
    """One bar a step."""

    def __init__(self, progress: Progress, expected: Mapping[str, float]) -> None:
        self._progress = progress
        self._expected = expected
        self._ids: dict[str, TaskID] = {}

    def tell(self, event: Event) -> None:
        """Show one event. What is only noted has no bar."""
        if event.word == "noted":
            self._progress.console.print(f"  {event.text}", markup=False)
            return
        if event.step not in self._ids:
            usual = _usual(self._expected.get(event.step))
            self._ids[event.step] = self._progress.add_task(event.step, total=None, sign="", text="", usual=usual)
        bar = self._ids[event.step]
        done = event.word in ("ended", "failed")
        share = 1.0 if done else event.share
        total = 1.0 if done or share is not None else None
        text = event.text.replace("[", "\\[")
        self._progress.update(bar, total=total, completed=share or 0, sign=_SIGNS[event.word], text=text)
        if done:
            self._progress.stop_task(bar)
