"""Who consented to a plan, to which hazards, and what people ordered of its run: for `dr show`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType

_STYLES = {"valid": "green", "spent": "", "taken": "", "waiting": "yellow", "expired": "yellow", "cancelled": "yellow"}


def drawn(document: Mapping[str, Any]) -> RenderableType:
    """The hazards that were shown, the approvals and the orders, each with its state."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from deployments.cli.words import moment

    table = Table.grid(padding=(0, 2, 0, 0))
    for each in document["hazards"]:
        table.add_row("  hazard", Text(each["words"], style="red"), Text(each["text"]), "")
    for each in document["approvals"]:
        accepted = f"accepts {', '.join(each['accepted'])}" if each.get("accepted") else str(each.get("why", ""))
        ends = f"until {moment(each['expires_at'])}" if each["state"] == "valid" else ""
        table.add_row("  approval", Text(_who(each)), Text(accepted), _state(f"{each['state']} {ends}".rstrip(), each))
    for each in document["orders"]:
        told = " ".join(each.get("accepted", ()) and ["accepts", ", ".join(each["accepted"])])
        table.add_row("  order", Text(_who(each)), Text(each.get("what", "") + f" {told}".rstrip()), _state("", each))
    return table if table.row_count else Group()


def _who(each: Mapping[str, Any]) -> str:
    named = each.get("approval") or each.get("order") or ""
    return f"{each.get('who', '?')} {named[:12]}".rstrip()


def _state(text: str, each: Mapping[str, Any]) -> RenderableType:
    from rich.text import Text

    why = f": {each['why']}" if each.get("why") else ""
    return Text(text or f"{each['state']}{why}", style=_STYLES.get(each["state"], "bold red"))
