"""`make storm`, its second half: seeded failovers under load, each by standing consent, each against a user outside.

Separate from the storm of proofs: here the east is lost in ever other ways, the engine finds out and acts alone, people
bring the service home, and what the engine claims has to be what was seen: RTO within a second, missing rows listed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from deployments.lab import breaking, faults, observer
from deployments.lab.claimed import outage_of, unlisted
from deployments.lab.demo_failover import lists_of, moved, served_by
from recovery.errors import DrError, Failed

if TYPE_CHECKING:
    from deployments.lab.world import World
    from recovery.outcome import Changed
    from tasks.home import Home

SERVICE, CONSENT = "platform", "east-is-out"
WITHIN_SECONDS = 1.0
PATIENCE_SECONDS = 120.0
WAYS: tuple[tuple[str, tuple[tuple[str, str | None], ...]], ...] = (
    ("site lost", (("site:east", None),)),
    ("site silent", (("site:east", "blackhole"),)),
    ("database killed", (("postgres:east", "kill"),)),
    ("database frozen", (("postgres:east", "stop"),)),
    ("standby behind, then site lost", (("network:east-west", "cut"), ("site:east", None))),
)
"""A name for people, and what is broken one after the other."""


@dataclass(frozen=True, kw_only=True, slots=True)
class One:
    """One failover: how the east was lost, what was claimed, what was seen."""

    way: str
    changed: Changed
    observed_seconds: float
    missing: int
    unlisted: int
    home_again: str

    @property
    def claimed_seconds(self) -> float | None:
        """The engine's RTO."""
        return self.changed.rto_seconds

    @property
    def difference(self) -> float | None:
        """Claimed less observed."""
        return None if self.claimed_seconds is None else self.claimed_seconds - self.observed_seconds

    @property
    def held(self) -> bool:
        """Whether the claims are true."""
        near = self.difference is not None and abs(self.difference) <= WITHIN_SECONDS
        return near and self.unlisted == 0 and self.changed.outcome == "met" and self.home_again == "met"


def alone(world: World, home: Home, way: int, pause_seconds: float, say: Callable[[str], None]) -> One:
    """Lose the east, let standing consent act, and bring the service home. The observer is running. Raises Failed."""
    name, broken = WAYS[way]
    served_by(world, "east", 10)
    before = _missing(observer.look(world))
    watch = _watch(home, say)
    time.sleep(pause_seconds)
    for number, (fault, how) in enumerate(broken):
        time.sleep(1.0 if number else 0.0)
        breaking.begin(world, faults.parse(fault, how))
    say(f"{name}: {', '.join(fault for fault, _ in broken)}")
    changed = _acted(watch)
    served_by(world, "west", 5)
    breaking.end(world)
    back = moved(home, "failback", "east", "ann", lambda text: None)  # noqa: ARG005 -- the way home is told by its outcome
    served_by(world, "east", 5)
    seen = observer.look(world)
    outage = outage_of(changed, seen["outages"])
    missing = sorted(_missing(seen) - before)  # the observer's journal is of the whole storm
    return One(
        way=name,
        changed=changed,
        observed_seconds=float(outage["seconds"]) if outage else 0.0,
        missing=len(missing),
        unlisted=len(unlisted(missing, lists_of(home, changed.run))) if missing else 0,
        home_again=back.outcome,
    )


def _missing(seen: Mapping[str, Any]) -> set[int]:
    """Rows that were acknowledged and are gone, of all the observer's time."""
    return set(seen["missing"]) if isinstance(seen["missing"], list) else set()


def consent(home: Home) -> None:
    """Somebody signs in advance."""
    from tasks import approving

    approving.approve_standing(home, CONSENT, who="ann")


def _watch(home: Home, say: Callable[[str], None]) -> object:
    from tasks.service import look
    from tasks.standing_by import Watch

    watch = Watch(home=home, service=SERVICE, probes=look.probes, tell=lambda text: say(f"[dim]{text}[/]"))
    watch.warm()
    watch.look()
    return watch


def _acted(watch: object) -> Changed:
    from tasks.standing_by import Watch

    assert isinstance(watch, Watch)  # noqa: S101 -- narrows the argument; its import is lazy
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        begun = time.monotonic()
        if (changed := watch.act(watch.look())) is not None:
            if changed.stopped is not None:
                raise Failed(f"it stands still at {changed.stopped.step}: {changed.stopped.why}", hint="see 'dr show'")
            return changed
        time.sleep(max(0.0, 0.25 - (time.monotonic() - begun)))
    raise Failed("nobody acted", hint="see whether the standing approval applies: 'dr watch --once --act'")


def told(made: Sequence[One]) -> Table:
    """All of them, and the distribution."""
    table = Table(title=f"{len(made)} failovers by standing consent, claimed against observed")
    for head in ("how", "outcome", "claimed s", "observed s", "difference", "missing", "unlisted", "segments"):
        table.add_column(head, justify="left" if head in ("how", "outcome", "segments") else "right")
    for each in made:
        parts = each.changed.rto_segments.items()
        segments = " ".join(f"{name} {value if isinstance(value, str) else f'{value:.1f}'}" for name, value in parts)
        table.add_row(
            each.way, each.changed.outcome, _seconds(each.claimed_seconds), _seconds(each.observed_seconds),
            _seconds(each.difference), str(each.missing), str(each.unlisted), segments,
        )  # fmt: skip
    return table


def distribution(made: Sequence[One]) -> str:
    """In one line."""
    seen = sorted(each.observed_seconds for each in made)
    off = sorted(abs(each.difference) for each in made if each.difference is not None)
    middle = f"observed: min {seen[0]:.1f}, median {seen[len(seen) // 2]:.1f}, max {seen[-1]:.1f} s" if seen else ""
    far = f"; claimed differs by at most {off[-1]:.2f} s" if off else ""
    return f"{middle}{far}; {sum(each.held for each in made)} of {len(made)} claims hold"


def _seconds(figure: float | None) -> str:
    return "unproven" if figure is None else f"{figure:.2f}"


def main() -> int:
    """The command line."""
    words = argparse.ArgumentParser(prog="python -m deployments.lab.storm_changes", description=__doc__)
    words.add_argument("--failovers", type=int, default=10)
    words.add_argument("--seed", type=int, default=1)
    given = words.parse_args()
    console = Console(highlight=False, width=160)
    made: list[One] = []
    try:
        with tempfile.TemporaryDirectory(prefix="standfast-storm-") as folder:
            _all(Path(folder) / "home", given.failovers, Random(given.seed), made, console)  # noqa: S311 -- a seeded plan
    except DrError as trouble:
        sys.stderr.write(f"error: {trouble.fact}\nhint: {trouble.hint}\n")
        return trouble.exit_code
    finally:
        if made:
            console.print(told(made))
            console.print(distribution(made))
    return 0 if all(each.held for each in made) else 1


def _all(folder: Path, count: int, random: Random, made: list[One], console: Console) -> None:
    from deployments.lab.world import down, up
    from tasks.home import open_home

    try:
        world = up(folder)
        home = open_home(world.home)
        observer.begin(world)
        consent(home)
        for number in range(count):
            way = number if number < len(WAYS) else random.randrange(len(WAYS))
            console.print(f"[dim]{number + 1}/{count}[/] {WAYS[way % len(WAYS)][0]}")
            made.append(alone(world, home, way % len(WAYS), random.uniform(1.0, 3.0), console.print))
    finally:
        down(folder, wipe=True)


if __name__ == "__main__":
    sys.exit(main())
