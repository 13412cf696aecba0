"""A proof as people read it: the verdict first, then facts, the phases as a bar, and only what is not fine in full."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from deployments.cli.output import word
from deployments.cli.words import took

if TYPE_CHECKING:
    from rich.console import RenderableType

    from recovery.measure import Phase
    from recovery.proof import Proof

COLOURS = ("bright_black", "blue", "cyan", "green", "magenta", "yellow")
BAR = 40
MOST_FINDINGS = 10


def drawn(proof: Proof) -> RenderableType:
    """One proof, readable at 80 columns."""
    from rich.console import Group
    from rich.markup import escape
    from rich.padding import Padding

    planted = f" · [magenta]{escape(proof.planted.name)} planted[/]" if proof.planted else ""
    run = f"  [dim]run {proof.run[:8]}[/]" if proof.run else ""
    head = f"{word(proof.verdict.value)}  [bold]{escape(proof.resource)}[/] · {proof.sort}{planted}{run}"
    below = [_facts(proof), *_phases(proof.phases), *_passed(proof), *_open(proof)]
    return Group(head, *(Padding(each, (0, 0, 0, 2)) for each in below))


def _facts(proof: Proof) -> RenderableType:
    from rich.markup import escape
    from rich.table import Table

    facts = Table.grid(padding=(0, 2, 0, 0))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    facts.add_row("point", escape(proof.point or "none"))
    facts.add_row("target", escape(proof.target or "none"))
    rto = took(proof.rto_seconds) if proof.phases else "—"
    rpo = "" if proof.rpo_seconds is None else f"[dim]RPO[/]  [bold]{took(proof.rpo_seconds)}[/]   "
    facts.add_row("figures", f"{rpo}[dim]RTO[/]  [bold]{rto}[/]")
    if proof.planted is not None:
        seen = "[green]detected[/]" if proof.planted.detected else "[bold red]not detected[/]"
        facts.add_row("planted", f"{escape(proof.planted.what)}: {seen}")
    return facts


def _phases(phases: Sequence[Phase]) -> list[RenderableType]:
    from rich.columns import Columns
    from rich.text import Text

    whole = sum(each.seconds for each in phases)
    if whole <= 0:
        return []
    bar, legend = Text(), []
    for number, (phase, cells) in enumerate(zip(phases, shares(phases, BAR), strict=True)):
        colour = COLOURS[number % len(COLOURS)]
        bar.append("█" * cells, style=colour)
        legend.append(Text.assemble(("■ ", colour), f"{phase.name} {took(phase.seconds)}"))
    return [bar, Columns(legend, padding=(0, 3))]


def shares(phases: Sequence[Phase], cells: int) -> list[int]:
    """Cells of a bar by their seconds, at least one each; the cells of all add up unless there are too many phases."""
    whole = sum(each.seconds for each in phases)
    found = [max(1, round(each.seconds / whole * cells)) for each in phases]
    while sum(found) > cells and max(found) > 1:
        found[found.index(max(found))] -= 1
    if found:
        found[found.index(max(found))] += max(0, cells - sum(found))
    return found


def _passed(proof: Proof) -> list[RenderableType]:
    from rich.table import Table
    from rich.text import Text

    names = [each.name for each in proof.checks if each.outcome.value == "passed"]
    if not names:
        return []
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column()
    joined = " · ".join(name.replace(" ", "\u00a0") for name in names)
    table.add_row(f"[green]✓ {len(names)}[/]", Text(joined, style="dim"))
    return [table]


def _alike(proof: Proof) -> dict[tuple[str, str, bool], list[str]]:
    """What is not passed: the names of the checks that said the same, those that decide first. What their findings
    tell below is not said twice."""
    told = {each.check for each in proof.findings}
    found: dict[tuple[str, str, bool], list[str]] = {}
    for check in proof.checks:
        decides = check.applies and check.outcome.value != "not configured"
        if check.outcome.value != "passed":
            fact = "" if check.name in told else check.fact
            found.setdefault((check.outcome.value, fact, decides), []).append(check.name)
    return dict(sorted(found.items(), key=lambda each: not each[0][2]))


def _open(proof: Proof) -> list[RenderableType]:
    """Everything that is not passed, with its fact; then the findings with their hints; then what was left behind."""
    from rich.table import Table
    from rich.text import Text

    rows = Table.grid(padding=(0, 2, 0, 0))
    rows.add_column(no_wrap=True)
    rows.add_column(overflow="fold")
    for (outcome, fact, applies), names in _alike(proof).items():
        text = Text(", ".join(names), style="bold" if applies else "dim")
        if fact:
            text.append(f"  {fact}", style="not bold" if applies else "dim")
        rows.add_row(word(outcome) if applies else f"[dim]{outcome}[/]", text)
    for finding in proof.findings[:MOST_FINDINGS]:
        text = Text(finding.fact)
        text.append(f"\nhint: {finding.hint}", style="cyan")
        rows.add_row("[bold red]•[/]" if finding.severity.value == "failure" else "[yellow]•[/]", text)
    if len(proof.findings) > MOST_FINDINGS:
        rows.add_row("", Text(f"… {len(proof.findings) - MOST_FINDINGS} more findings, see --json", style="dim"))
    for left in proof.leftovers:
        rows.add_row("[bold red]left[/]", Text(left))
    return [rows] if rows.row_count else []
