"""The second half of `make demo`: the east is lost whole, the west takes over, and claims meet an outside observer.

Separate from demo.py, which proves backups: here a plan is shown, a person approves it, it is acted on, and each figure
that the engine claims stands beside what a user outside saw.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from deployments.cli.progress import watching
from deployments.lab import breaking, faults, observer
from deployments.lab.claimed import Row, rows
from deployments.lab.process import wait_until
from recovery.errors import Failed

if TYPE_CHECKING:
    from deployments.lab.world import World
    from recovery.failover import Proposal
    from recovery.outcome import Changed
    from tasks.home import Home

PERSON = "ann"
BEFORE, AFTER = 20, 10
"""How many writes the observer has acknowledged before the loss, and at the west before it is asked what it saw."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """What the failover came to: the engine's document, and its figures beside the observer's."""

    changed: Changed
    rows: tuple[Row, ...]


def lose_and_recover(world: World, home: Home, say: Callable[[str], None]) -> Told:
    """The east is lost under load; plan, consent, act, compare. The fault stands at the end, the observer has ended."""
    observer.begin(world)
    try:
        _await(world, "east", BEFORE)
        say(f"a user outside writes {observer.RATE:g} rows/s by name")
        breaking.begin(world, faults.parse("site:east", None))
        say("[bold red]the east is lost[/]: database, objects, control plane, agent and application")
        lost = time.monotonic()
        made = _planned(home)
        _show_plan(made, say)
        _approve(home, made)
        say(f"[bold]{PERSON}[/] approves it, {time.monotonic() - lost:.1f} s after the loss")
        changed = _act(home, made)
        _show_outcome(changed, say)
        _await(world, changed.target, AFTER)
    finally:
        observer.end(world)
    return Told(changed=changed, rows=rows(changed, observer.look(world)))


def table(told: Told) -> Table:
    """Claimed against observed, for people."""
    drawn = Table("", "claimed", "observed", "difference", box=None, pad_edge=False, title_justify="left")
    for each in told.rows:
        drawn.add_row(f"[bold]{each.what}[/]", *(_figure(one, each.unit) for one in (each.claimed, each.observed)),
                      "-" if each.difference is None else f"{each.difference:+.2f}")  # fmt: skip
    return drawn


def show(told: Told, console: Console) -> None:
    """The table, and what its lines count."""
    console.print("  [bold]claimed by the engine, observed by a user outside[/]")
    console.print(table(told))
    for each in told.rows:
        console.print(f"  [dim]{each.what}: {each.meaning}[/]")


def _figure(figure: float | str, unit: str) -> str:
    if isinstance(figure, str):
        return f"[yellow]{figure}[/]"
    return f"{figure:.2f} s" if unit == "s" else f"{figure:g} {unit}"


def _planned(home: Home) -> Proposal:
    from recovery.plan import NothingToDo
    from tasks import changing

    made = changing.plan(home, "failover", to="west")
    if isinstance(made, NothingToDo):
        raise Failed(f"no failover was planned: {made.why}", hint="report this as a defect")
    return made


def _approve(home: Home, made: Proposal) -> None:
    from recovery.accepting import acceptances, limits_of
    from tasks import approving

    accepted = acceptances(["all"], made.hazards, limits_of(made.plan)) if made.hazards else ()
    approving.approve(home, made.plan, who=PERSON, accepted=accepted, lasts=timedelta(hours=1))


def _show_plan(made: Proposal, say: Callable[[str], None]) -> None:
    groups = " → ".join(" + ".join(group) for group in made.groups)
    say(f"[bold]plan {made.plan.digest[:12]}[/]: {groups}")
    for each in made.hazards:
        say(f"hazard: {escape(each.text or each.words)}")


def _show_outcome(changed: Changed, say: Callable[[str], None]) -> None:
    colour = {"met": "green", "missed": "red"}.get(changed.outcome, "yellow")
    since = f" since {changed.served_at:%H:%M:%S.%f} UTC" if changed.served_at else ""
    say(f"[{colour}]{changed.outcome}[/]: served from {changed.target}{since}")
    parts = (
        f"{name} {each if isinstance(each, str) else f'{each:.2f} s'}" for name, each in changed.rto_segments.items()
    )
    say(f"[dim]{' · '.join(parts)}[/]")
    for each in changed.findings:
        say(f"[yellow]{escape(each)}[/]")


def _act(home: Home, made: Proposal) -> Changed:
    from tasks import changing
    from tasks.engine import Act

    with watching(f"failover {made.plan.service} · east → west · {made.plan.digest[:12]}") as tell:
        changed = changing.act(Act(home=home, tell=tell), made.plan)
    if changed.stopped is not None:
        raise Failed(
            f"the failover stands still at {changed.stopped.step}: {changed.stopped.why}", hint=changed.stopped.hint
        )
    return changed


def _await(world: World, site: str, count: int) -> None:
    def enough() -> bool:
        seen = [each for session in observer.sessions(world)[-1:] for each in session]
        return sum(each.outcome == "acknowledged" and each.site == site for each in seen) >= count

    wait_until(
        enough, what=f"{count} acknowledged writes at {site}", patience_seconds=30, hint="dr lab observer tells more"
    )
