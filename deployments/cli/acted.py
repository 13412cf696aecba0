"""What came of a change of roles, for people: the verdict, RTO by its segments, RPO, what was lost, where it stands.

Separate from `dr act`, because `dr show` tells the same of a run that has ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deployments.cli.output import word

if TYPE_CHECKING:
    from rich.console import RenderableType

    from recovery.outcome import Changed


BELOW_RTO = (0, 0, 0, 8)
"""Lines that are broken go on below their first word."""


def drawn(changed: Changed) -> RenderableType:
    """The outcome for people."""
    from rich.console import Group
    from rich.markup import escape
    from rich.padding import Padding
    from rich.text import Text

    from deployments.cli.words import moment, took
    from recovery.rto import SEGMENTS

    title = f"[bold]{changed.runbook}[/] of {escape(changed.service)}, {changed.source} → {changed.target}"
    about = f"[dim]run {changed.run[:12]}, {changed.mode.value}, epoch {changed.epoch}[/]"
    parts: list[RenderableType] = [f"{title}: {word(changed.outcome)}   {about}"]
    if changed.stopped is not None:
        where = "is" if changed.stopped.why.startswith("paused") else f"stands still at {changed.stopped.step}:"
        stopped = Text(f"  it {where} {changed.stopped.why}", style="bold red")
        stopped.append(f"\n  hint: {changed.stopped.hint}", style="cyan")
        first, *then = changed.stopped.going_on(changed.run)
        parts += [stopped, _command("go on with:", first), *(_command("then:", each) for each in then)]
    parts.append(f"  RTO   {took(changed.rto_seconds) if changed.rto_seconds is not None else word('unproven')}")
    told = [(name, changed.rto_segments[name]) for name in SEGMENTS if name in changed.rto_segments]
    segments = [f"{name} {each if isinstance(each, str) else took(each)}" for name, each in told]
    if segments:
        parts.append(Padding(f"[dim]{' · '.join(segments)}[/]", BELOW_RTO))
    if changed.rto_steps:
        steps = " · ".join(f"{each.name} {took(each.seconds)}" for each in changed.rto_steps)
        parts.append(Padding(f"[dim]act: {steps}[/]", BELOW_RTO))
    if changed.live or changed.databases:
        parts.append(f"  RPO   {took(changed.rpo_seconds) if changed.rpo_seconds is not None else word('unproven')}")
    if not changed.live:
        parts.append("  nothing live was changed")
        parts += [Text(f"  {name} is kept in {folder}") for name, folder in changed.copies.items()]
    else:
        parts.append(f"  lost  {_lost(changed)}")
    if changed.live and changed.served_at is not None:
        began = f", outage since {moment(changed.outage_began_at)}" if changed.outage_began_at else ""
        parts.append(f"  served from {changed.target} since {moment(changed.served_at)}{began}")
    parts += [
        Text(f"  {each.database}: timeline {each.timeline_id}, recovered until {moment(each.recovered_until)}", "dim")
        for each in changed.databases
    ]
    if changed.consent:
        parts.append(Text(f"  by consent of {', '.join(changed.consent)}", "dim"))
    parts += [Text(f"  {each}", "yellow") for each in changed.findings]
    return Group(*parts)


def _command(before: str, command: str) -> RenderableType:
    """A line that is never broken: people copy the command from it."""
    from rich.text import Text

    return Text(f"  {before} {command}", style="cyan", no_wrap=True, overflow="ignore")


def _lost(changed: Changed) -> str:
    if isinstance(changed.lost_commits, int):
        return f"{changed.lost_commits} commits"
    if not changed.databases:
        return f"{word('unproven')}: no promotion is on record as done"
    return f"{word('unproven')} until the old data is read: dr losses {changed.run[:12]}"
