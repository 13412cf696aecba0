"""`dr show`: one run or plan with its steps, who consented, what was ordered, what came of it, and its evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.cli.output import HomeOption, JsonOption, emit, existing_home, word
from deployments.cli.output import home as folder_of
from recovery.errors import BadInput, DrError

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import RenderableType

    from recovery.plan import Plan
    from tasks.home import Home
    from tasks.ledger import Ledger

SAID = ("proof", "backup", "restore", "slots", "run.outcome", "run.halted", "refusal")
"""Kinds of records in which a run says what came of it; a refusal is a run of its own."""
SHOWN_BESIDE = ("at", "seconds", "asked_at", "acted_at", "folder")
"""Facts of a step that its line shows already, or that mean nothing to people."""
SIGNS = {
    "held": "[green]✓[/]",
    "failed": "[bold red]✗[/]",
    "underway": "[yellow]…[/]",
    "skipped": "[yellow]↷[/]",
    "not begun": "[dim]·[/]",
}


def show(
    name: Annotated[str, typer.Argument(metavar="RUN|PLAN", help="Its first hexadecimal digits are enough.")],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """One run or plan: steps with their attempts, what came of it, and whether its evidence is whole."""
    from tasks.home import open_home
    from tasks.scoring import chain, resolve

    opened = open_home(existing_home(home))
    ledger = opened.ledger()
    names = resolve(ledger, name)
    if len(names) > 1:
        raise BadInput(
            f"{name} is ambiguous: {', '.join(each[:12] for each in names)}", hint="write more of its digits"
        )
    plan = _plan(ledger, names[0])
    records = chain(ledger, names[0])
    document = {
        **_document(ledger, names[0], plan, records, folder_of(home)),
        **_consent(opened, plan, records),
    }
    emit(as_json, document, lambda: _shown(document))


def _plan(ledger: Ledger, digest: str) -> Plan | str:
    from tasks.engine import read_plan

    try:
        return read_plan(ledger, digest)
    except DrError as trouble:
        return trouble.fact


def _consent(home: Home, plan: Plan | str, records: Sequence[Any]) -> dict[str, Any]:
    """Of a plan that changes roles: what was shown with it, who consented to which hazards, what people ordered."""
    from tasks import changing, consented

    shown = None if isinstance(plan, str) else changing.proposal(home, plan.digest)
    if isinstance(plan, str) or shown is None:
        return {}
    return {
        "hazards": shown["hazards"],
        "forecast": shown["forecast"],
        "approvals": consented.approvals(home, plan),
        "orders": consented.orders(home, plan, records),
    }


def _document(ledger: Ledger, name: str, plan: Plan | str, records: Sequence[Any], folder: Path) -> dict[str, Any]:
    from recovery.plan import Plan
    from recovery.shown import events, steps
    from tasks.evidence import verify
    from tasks.keys import engine_fingerprints

    read = plan if isinstance(plan, Plan) else None
    happened = events(records)
    said = next((each for each in reversed(happened) if each.kind in SAID), None)
    ended = next((each for each in happened if each.kind == "run.ended"), None)
    checked = None
    if records:
        trusted = engine_fingerprints(folder / "keys") or None
        checked = verify(ledger, trusted=trusted, runs=(name,)).runs[0].model_dump(mode="json")
    return {
        "name": name,
        "kind": "run" if records else "plan",
        "outcome": ended.facts.get("outcome") if ended else "unfinished" if records else "not begun",
        "begun_at": happened[0].model_dump(mode="json")["at"] if happened else None,
        "ended_at": ended.model_dump(mode="json")["at"] if ended else None,
        "who": happened[0].who if happened else None,
        "plan": read.model_dump(mode="json") if read else None,
        "plan_why": "" if read else plan,
        "steps": [each.model_dump(mode="json") for each in steps(read, records)],
        "events": [each.model_dump(mode="json") for each in happened],
        "said": {"kind": said.kind, "facts": said.facts, "evidence": said.evidence} if said else None,
        "verification": checked,
    }


def _shown(document: Mapping[str, Any]) -> RenderableType:
    from rich.console import Group
    from rich.markup import escape
    from rich.text import Text

    from deployments.cli.words import forecast_words, moment

    plan = document["plan"] or {}
    refused = document["said"] is not None and document["said"]["kind"] == "refusal"
    what = escape(" ".join(str(each) for each in (plan.get("purpose"), *plan.get("arguments", {}).values()) if each))
    parts: list[RenderableType] = [
        f"[bold]{document['kind']} {document['name'][:12]}[/]  {what} · {word(str(document['outcome']))}"
    ]
    if document["begun_at"]:
        until = moment(document["ended_at"]) if document["ended_at"] else "[yellow]not ended[/]"
        parts.append(f"[dim]{moment(document['begun_at'])} → {until}, by {escape(str(document['who']))}[/]")
    if isinstance(point := plan.get("pinned", {}).get("point"), dict):
        parts.append(f"point  {escape(' + '.join(point['backups']))}, {escape(forecast_words(point))}")
    if document["plan_why"] and not refused:
        parts.append(Text(document["plan_why"], style="yellow"))
    parts.append(_steps(document["steps"]))
    if "approvals" in document:
        from deployments.cli.consented import drawn

        parts.append(drawn(document))
    parts += _orders(document["events"])
    parts += _said(document["said"])
    checked = document["verification"]
    if checked is not None:
        why = f"  {escape(checked['why'])}" if checked["why"] else ""
        first = f"runs/{document['name'][:8]}…/{0:08d}"
        parts.append(f"evidence  {word(checked['outcome'])}  {checked['records']} records from {first}{why}")
    return Group(*parts)


def _steps(steps: Sequence[Mapping[str, Any]]) -> RenderableType:
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    from deployments.cli.words import took

    table = Table.grid(padding=(0, 2, 0, 0))
    for _ in range(4):
        table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for step in steps:
        if not step["attempts"]:
            table.add_row(f"  {SIGNS[step['state']]}", escape(step["step"]), "", "", f"[dim]{step['state']}[/]")
        for each in step["attempts"]:
            said = Text(each["fact"] or _brief(each["result"]), style="" if each["fact"] else "dim")
            if each["hint"]:
                said.append(f"\nhint: {each['hint']}", style="cyan")
            number = f"attempt {each['attempt']}" if len(step["attempts"]) > 1 else ""
            table.add_row(f"  {SIGNS[each['state']]}", escape(step["step"]), number, took(each["seconds"]), said)
    return table


def _brief(result: object) -> str:
    """A step's result in a line, in the words of every other screen; what stands beside it already is left out."""
    from tasks.summary import NOTHING, summary

    if not isinstance(result, Mapping):
        return ""
    said: list[str] = []
    for key, value in result.items():
        if key in SHOWN_BESIDE:
            continue
        words = _yes_or_no(key, value=value) if isinstance(value, bool) else summary({key: value})
        said += [words] if words not in ("", NOTHING) else []
    return ", ".join(said)


YES_NO = {
    "parked": ("side effects parked", "side effects going out"),
    "before": ("they were parked before", "they went out before"),
    "already": ("it was so already", ""),
    "scratch": ("on a copy", ""),
    "drill": ("in a drill", ""),
    "rewound": ("rewound", "made anew"),
    "backup_taken": ("a backup was taken", "an earlier backup serves"),
}
"""What a fact that is true or false says to people; nothing where its absence is what is usual."""


def _yes_or_no(key: str, *, value: bool) -> str:
    if key in YES_NO:
        return YES_NO[key][0 if value else 1]
    words = key.replace("_", " ")
    return words if value else f"not {words}"


def _orders(events: Sequence[Mapping[str, Any]]) -> list[RenderableType]:
    from rich.text import Text

    from deployments.cli.words import moment

    return [
        Text(f"  {moment(each['at'])} {each['kind']} by {_by(each)}: {_about(each)}".rstrip(": "), style="yellow")
        for each in events
        if each["kind"] not in ("run.begun", "run.ended", *SAID)
    ]


def _by(event: Mapping[str, Any]) -> str:
    """Who gave an order, not who took it in; of other records who wrote them."""
    return str(event["facts"].get("who") or event["who"])


def _about(event: Mapping[str, Any]) -> str:
    """What an order or another event is about, without the numbers of documents and what engines check."""
    left = ("who", "by", "order", "with", "hazards", "signed")
    return _brief({name: each for name, each in event["facts"].items() if name not in left})


def _said(said: Mapping[str, Any] | None) -> list[RenderableType]:
    from rich.text import Text

    if said is None:
        return []
    try:
        found = _drawn(said["kind"], said["facts"])
    except ValueError:
        return [Text(f"what it says of itself ({said['kind']}) is of another version; see --json", style="yellow")]
    if found is not None:
        return [found]
    why = said["facts"].get("why")
    if said["kind"] == "refusal":
        about = str(said["facts"].get("plan", ""))[:12]
        why = f"plan {about}: {'; '.join(map(str, why)) if isinstance(why, list) else why}"
    return [Text(f"  {said['kind']}: {why}", style="bold red")] if why else []


def _drawn(kind: str, facts: Mapping[str, Any]) -> RenderableType | None:
    """What a run came to, of the kinds that have a picture of their own. Raises ValueError for another version's."""
    from rich.text import Text

    if kind == "proof":
        from deployments.cli.proven import drawn
        from recovery.proof import Proof

        return drawn(Proof.model_validate(facts))
    if kind in ("run.outcome", "run.halted"):
        from deployments.cli.acted import drawn as changed
        from recovery.outcome import Changed

        return changed(Changed.model_validate(facts))
    if kind == "slots":
        from recovery.slipped import Slipped, lines

        return Text("\n".join(f"  {line}" for line in lines(Slipped.model_validate(facts).slots)))
    return None
