"""The second half of `make demo`: the east is lost whole, the west takes over, all go home; claims meet an observer.

Separate from demo.py, which proves backups: here plans are shown, persons approve them, they are acted on, and each
figure that the engine claims stands beside what a user outside saw.
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
from deployments.lab.claimed import Row, rows, unlisted
from deployments.lab.process import wait_until
from recovery.errors import Failed

if TYPE_CHECKING:
    from deployments.lab.world import World
    from recovery.failover import Proposal
    from recovery.losses import Losses
    from recovery.outcome import Changed
    from tasks.home import Home

BEFORE, AFTER = 20, 10
"""How many writes the observer has acknowledged before the loss, and at a new primary before the demo goes on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """What became of a change of roles: the engine's document, and its figures beside the observer's."""

    changed: Changed
    rows: tuple[Row, ...]


def there_and_home(world: World, home: Home, say: Callable[[str], None]) -> tuple[Told, ...]:
    """The east is lost under load and the west takes over; the east comes back and the service goes home to it."""
    observer.begin(world)
    try:
        served_by(world, "east", BEFORE)
        say(f"a user outside, who knows only the name, writes {observer.RATE:g} rows/s")
        breaking.begin(world, faults.parse("site:east", None))
        say("[bold red]the east is lost[/]: database, objects, control plane, agent and application")
        away = moved(home, "failover", "west", "ann", say)
        served_by(world, "west", AFTER)
        breaking.end(world)
        say("the east is back with its old data; its database is kept stopped, since there is a newer primary")
        back = moved(home, "failback", "east", "bob", say)
        served_by(world, "east", AFTER)
    finally:
        observer.end(world)
    seen, lists = observer.look(world), lists_of(home, away.run)
    stray = unlisted(seen["missing"], lists) if isinstance(seen["missing"], list) else []
    if stray:
        raise Failed(
            f"{len(stray)} acknowledged rows are missing and in no list of losses, {stray[0]} first",
            hint="report this as a defect: the list is to hold every one of them",
        )
    return (
        Told(changed=away, rows=rows(away, seen, listed=sum(each.count for each in lists) if lists else None)),
        Told(changed=back, rows=rows(back, seen)),
    )


def show(every: tuple[Told, ...], console: Console) -> None:
    """Claimed against observed, for people, and what the lines count."""
    table = Table("", "claimed", "observed", "difference", box=None, pad_edge=False)
    for told in every:
        name = f"{told.changed.runbook}, {told.changed.source} → {told.changed.target}"
        for row in told.rows:
            figures = (_figure(one, row.unit) for one in (row.claimed, row.observed))
            difference = "-" if row.difference is None else f"{row.difference:+.2f}"
            table.add_row(f"  {name}: [bold]{row.what}[/]", *figures, difference)
    console.print("  [bold]claimed by the engine, observed by a user outside[/]")
    console.print(table)
    for row in every[0].rows:
        console.print(f"  [dim]{row.what}: {row.meaning}[/]")


def _figure(figure: float | str, unit: str) -> str:
    if isinstance(figure, str):
        return f"[yellow]{figure}[/]"
    return f"{figure:.2f} s" if unit == "s" else f"{figure:g}"


def moved(home: Home, runbook: str, to: str, person: str, say: Callable[[str], None]) -> Changed:
    """Plan, show, approve, act. Raises Failed when it stands still."""
    begun = time.monotonic()
    made = _planned(home, runbook, to)
    say(f"[bold]{runbook} {made.plan.digest[:12]}[/]: {' → '.join(' + '.join(group) for group in made.groups)}")
    for each in made.hazards:
        say(f"hazard: {escape(each.text or each.words)}")
    _approve(home, made, person)
    say(f"[bold]{person}[/] approves it, {time.monotonic() - begun:.1f} s after it was asked for")
    changed = _act(home, made)
    colour = {"met": "green", "missed": "red"}.get(changed.outcome, "yellow")
    since = f" since {changed.served_at:%H:%M:%S.%f} UTC" if changed.served_at else ""
    say(f"[{colour}]{changed.outcome}[/]: served from {changed.target}{since}")
    segments = [f"{name} {_figure(each, 's')}" for name, each in changed.rto_segments.items()]
    say(f"[dim]{' · '.join(segments)}[/]")
    for finding in changed.findings:
        say(f"[yellow]{escape(finding)}[/]")
    return changed


def _planned(home: Home, runbook: str, to: str) -> Proposal:
    from recovery.plan import NothingToDo
    from tasks import changing

    made = changing.plan(home, runbook, to=to)
    if isinstance(made, NothingToDo):
        raise Failed(f"no {runbook} was planned: {made.why}", hint="report this as a defect")
    return made


def _approve(home: Home, made: Proposal, person: str) -> None:
    from recovery.accepting import acceptances, limits_of
    from tasks import approving

    accepted = acceptances(["all"], made.hazards, limits_of(made.plan)) if made.hazards else ()
    approving.approve(home, made.plan, who=person, accepted=accepted, lasts=timedelta(hours=1))


def _act(home: Home, made: Proposal) -> Changed:
    from tasks import changing
    from tasks.engine import Act

    with watching(f"{made.plan.runbook} {made.plan.service} · {made.plan.digest[:12]}") as tell:
        changed = changing.act(Act(home=home, tell=tell), made.plan)
    if (stopped := changed.stopped) is not None:
        raise Failed(f"the {made.plan.runbook} stands still at {stopped.step}: {stopped.why}", hint=stopped.hint)
    return changed


def lists_of(home: Home, run: str) -> tuple[Losses, ...]:
    """What the failover gave up, by database, as its old data told since; empty while it was not read."""
    from tasks.postgres.roles.losses import read

    return tuple(each.losses for each in read(home, run))


def served_by(world: World, site: str, count: int) -> None:
    """Wait until the user outside has had so many writes in a row acknowledged by that site. Raises Failed."""

    def enough() -> bool:
        seen = [each for session in observer.sessions(world)[-1:] for each in session]
        last = [each.site for each in seen if each.outcome == "acknowledged"][-count:]
        return len(last) == count and set(last) == {site}

    wait_until(
        enough, what=f"{count} acknowledged writes at {site}", patience_seconds=30, hint="dr lab observer tells more"
    )
