"""How long a plan will take, from how long its steps took before: the critical path, at p50 and p95. Pure.

Separate from measuring past runs. Each past run is replayed through the plan's graph as a whole, because the steps of
one run are slow together; a step that a run lacks takes its median. What was never measured makes the forecast a lower
bound, and says so: it is not counted as zero silently.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from statistics import median

from recovery.plan import in_order
from recovery.step import Mode, Step
from recovery.value import Value


class Forecast(Value):
    """`p50_seconds` and `p95_seconds` of the critical path; None without any past run. `path`: the steps that decide,
    at the median. `unmeasured`: steps that no past run has; with any of them the figures are the least it can take."""

    p50_seconds: float | None
    p95_seconds: float | None
    runs: int
    path: tuple[str, ...]
    unmeasured: tuple[str, ...]

    @property
    def words(self) -> str:
        """For people: `p50 41 s, p95 63 s from 10 runs`."""
        if self.p50_seconds is None or self.p95_seconds is None:
            return "no forecast: no past run has these steps"
        least = f" at least ({', '.join(self.unmeasured)} never measured)" if self.unmeasured else ""
        plural = "s" if self.runs != 1 else ""
        p50, p95 = round(self.p50_seconds, 1), round(self.p95_seconds, 1)
        return f"p50 {p50:g} s, p95 {p95:g} s{least}, from {self.runs} run{plural}"


def forecast(
    steps: Sequence[Step],
    past: Sequence[Mapping[str, float]],
    *,
    until: str | None = None,
    mode: Mode = Mode.UNGRACEFUL,
) -> Forecast:
    """The forecast of a plan's steps. `past`: for each run, step id → seconds. `until`: the step whose end counts
    (users are served again), default all of them."""
    counted = _counted(steps, until)
    done = [step for step in counted if not step.omitted_in(mode)]
    known = {step.id: [run[step.id] for run in past if step.id in run] for step in done}
    middle = {name: median(seconds) for name, seconds in known.items() if seconds}
    unmeasured = tuple(step.id for step in done if step.id not in middle)
    runs = [run for run in past if any(name in run for name in middle)]
    _, path = _critical(counted, middle)
    if not runs:
        return Forecast(p50_seconds=None, p95_seconds=None, runs=0, path=path, unmeasured=unmeasured)
    lengths = sorted(
        _critical(counted, {name: run.get(name, seconds) for name, seconds in middle.items()})[0] for run in runs
    )
    return Forecast(
        p50_seconds=_quantile(lengths, 0.50),
        p95_seconds=_quantile(lengths, 0.95),
        runs=len(runs),
        path=path,
        unmeasured=unmeasured,
    )


def _counted(steps: Sequence[Step], until: str | None) -> list[Step]:
    """In order, all that has to be done before the end that counts. Raises KeyError when there is no such step."""
    ordered = in_order(steps)
    if until is None:
        return ordered
    needs = {step.id: step.needs for step in ordered}
    wanted, left = {until}, [until]
    while left:
        fresh = [need for need in needs[left.pop()] if need not in wanted]
        wanted.update(fresh)
        left += fresh
    return [step for step in ordered if step.id in wanted]


def _critical(steps: Sequence[Step], seconds: Mapping[str, float]) -> tuple[float, tuple[str, ...]]:
    """The longest way through the graph, and the steps on it. What has no seconds takes none."""
    ends: dict[str, float] = {}
    after: dict[str, str | None] = {}
    for step in steps:
        last = max(step.needs, key=lambda need: ends[need], default=None)
        after[step.id] = last
        ends[step.id] = (ends[last] if last is not None else 0.0) + seconds.get(step.id, 0.0)
    here: str | None = max(ends, key=lambda name: ends[name], default=None)
    length = ends[here] if here is not None else 0.0
    path: list[str] = []
    while here is not None:
        path.append(here)
        here = after[here]
    return length, tuple(reversed(path))


def _quantile(lengths: Sequence[float], share: float) -> float:
    """The nearest rank: a length that really happened."""
    return lengths[max(0, ceil(share * len(lengths)) - 1)]
