"""A plan as programs read it and as people see it before they consent: steps side by side, hazards, forecast, rules.

Separate from `dr plan` because `dr show`, `dr approve` and `dr drill` show the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType

    from recovery.doors import Consent
    from recovery.plan import Plan

SHORT = 12


def document(plan: Plan, proposal: Mapping[str, Any], consent: Consent, *, since: str | None = None) -> dict[str, Any]:
    """The whole plan: what was proposed, with its ends, limits, rules, who may consent, and the commands to follow."""
    from recovery.accepting import limits_of
    from recovery.approval import FORM
    from recovery.ruled import rules_of

    people = sorted({*consent.approvers} - {FORM})
    classes = list(dict.fromkeys(each["klass"] for each in proposal.get("hazards", ())))
    live = plan.live
    act = f"dr act {plan.digest[:SHORT]}" + (f" --outage-since {since}" if since else "")
    accepted = "".join(f" --accept {each}" for each in classes)
    approve = [f"dr approve {plan.digest[:SHORT]} --as NAME{accepted}"] if live else []
    return {
        **proposal,
        "outcome": "planned",
        "runbook": plan.runbook,
        "service": plan.service,
        "mode": plan.mode.value,
        "from": plan.pinned.get("from"),
        "to": plan.pinned.get("to"),
        "changes": "live" if live else "nothing live",
        "asked_at": plan.model_dump(mode="json")["asked_at"],
        "limits": [{"klass": klass, "limit_seconds": limit} for klass, limit in limits_of(plan).items()],
        "rules": [{"number": each.number, "name": each.name, "law": each.law} for each in rules_of(plan)],
        "approvals": {"wanted": consent.n_of_m if live else 0, "people": people if live else []},
        "next": [*approve, act],
    }


def drawn(shown: Mapping[str, Any]) -> RenderableType:
    """The plan for people."""
    from rich.console import Group
    from rich.markup import escape
    from rich.text import Text

    title = f"[bold]{shown['runbook']}[/] of {escape(shown['service'])}, {shown['from']} → {shown['to']}"
    about = f"{shown['mode']}, epoch {shown['epoch']}, changes {shown['changes']}"
    parts: list[RenderableType] = [f"{title}  [dim]{about}[/]", "", _steps(shown), "", *_hazards(shown["hazards"])]
    parts += [Text(f"probes    {each['words']}", "yellow") for each in shown.get("unwell", ())]
    parts += [Text(f"limit     {each['klass']} {each['limit_seconds']:g} s") for each in shown["limits"]]
    if "forecast" in shown:
        parts.append(_below("forecast", shown["forecast"]["words"]))
    rules = " · ".join(f"{each['number']} {each['name']}" for each in shown["rules"])
    parts += [_below("rules", rules), f"digest    [bold]{shown['digest']}[/]", ""]
    parts += _next(shown)
    return Group(*parts)


def _steps(shown: Mapping[str, Any]) -> RenderableType:
    """One line a group: its steps go side by side. What the variant leaves out is said; what is live is bold."""
    from rich.markup import escape
    from rich.table import Table

    steps = {each["id"]: each for each in shown["steps"]}
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(justify="right", style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for number, group in enumerate(shown["groups"], 1):
        table.add_row(str(number), " · ".join(_step(steps[each], shown["mode"], escape) for each in group))
    return table


def _step(step: Mapping[str, Any], mode: str, escape: Any) -> str:
    omitted = {**step["arguments"], **step[mode]}.get("omitted")
    if omitted:
        return f"[dim strike]{escape(step['id'])}[/] [dim]({escape(str(omitted))})[/]"
    on = "" if step["id"].endswith(step["resource"]) else f" [dim]{escape(step['resource'])}[/]"
    return f"[bold]{escape(step['id'])}[/]{on}" if step["changes"] == "live" else f"{escape(step['id'])}{on}"


def _hazards(hazards: Sequence[Mapping[str, Any]]) -> list[RenderableType]:
    from rich.table import Table
    from rich.text import Text

    if not hazards:
        return ["hazards   none"]
    table = Table.grid(padding=(0, 2, 0, 0))
    for index, each in enumerate(hazards):
        table.add_row("hazards" if index == 0 else "", Text(f" {each['words']}", style="bold red"), Text(each["text"]))
    return [table]


def _below(label: str, text: str) -> RenderableType:
    """What is broken goes on below its first word, not below the label."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid()
    table.add_column(width=10)
    table.add_row(label, Text(text))
    return table


def _next(shown: Mapping[str, Any]) -> list[RenderableType]:
    from rich.text import Text

    wanted, people = shown["approvals"]["wanted"], shown["approvals"]["people"]
    *approve, act = shown["next"]
    if not approve:
        return [_line(f"next      {act}"), Text("          (it changes nothing live: policy admits it)")]
    if not people:
        return [Text("next      nobody may approve it: list people below consent.approvers of the catalog", "yellow")]
    who = f"{wanted} of {len(people)}: {', '.join(people)}"
    return [_line(f"next      {approve[0]}"), _line(f"          ({who})"), _line(f"then      {act}")]


def _line(text: str) -> RenderableType:
    """A line that is never broken: people copy commands from it."""
    from rich.text import Text

    return Text(text, no_wrap=True, overflow="ignore")
