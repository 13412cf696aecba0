"""A change of roles as pages for a screen: the plan before anybody consents, the result, the timeline. No effects.

Separate from pages.py, which tells of proofs and backups, and from the form, which stores consent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from recovery.accepting import limits_of
from recovery.evidence import Record
from recovery.hazard import Hazard
from recovery.outcome import Changed, Stopped
from recovery.plan import Plan
from recovery.point import lsn_text
from recovery.rto import SEGMENTS
from recovery.ruled import rules_of
from recovery.shown import Event, ShownStep, events, steps
from recovery.step import OMITTED, Step
from tasks.pages import Page, Told, plain, table
from tasks.summary import summary

SHORT = 12
_SHOWN_BESIDE = ("at", "seconds", "asked_at", "acted_at")
"""Facts of a step that its row in the timeline shows already."""


def title_of(plan: Plan) -> str:
    """The plan in a line."""
    return f"{plan.runbook} of {plan.service}, {plan.pinned.get('from')} → {plan.pinned.get('to')}"


def planned(
    plan: Plan, shown: Mapping[str, Any], *, people: Sequence[str], wanted: int, form: bool, noted: str
) -> Page:
    """The plan with its hazards: what whoever consents has to know. `wanted`: how many must consent; `form`: whether
    the form's own consent is enough; `noted`: of a run that has begun, what becomes of it."""
    live = {each["id"] for each in shown.get("steps", ()) if each.get("changes") == "live"}
    facts = {
        "digest": f"`{plan.digest}`",
        "mode": f"{plan.mode.value}, in epoch {plan.epoch}",
        "limit": ", ".join(f"{klass} {each:g} s" for klass, each in limits_of(plan).items()) or "—",
        "forecast": plain(shown.get("forecast", {}).get("words", "—")),
    }
    parts = [
        f"## {title_of(plan)}",
        table(("plan", f"`{plan.digest[:SHORT]}`"), list(facts.items())),
        "Rules that it keeps: " + "; ".join(f"{each.number} {each.name}" for each in rules_of(plan)) + ".",
        "### Hazards",
        *_hazards(shown.get("hazards", ())),
        *(f"**Now** {plain(each['words'])}." for each in shown.get("unwell", ())),
        "### Steps",
        "Steps on one line go side by side. Bold: changes what users live on.",
        _groups(plan, shown.get("groups") or [[each.id] for each in plan.steps], live),
        "### Consent",
        *([f"**The plan was consented to before**: {noted}."] if noted else
          _consent(plan, shown.get("hazards", ()), people, wanted, form=form)),
    ]  # fmt: skip
    title = f"plan {plan.digest[:SHORT]}: {title_of(plan)}"
    return Page(key=f"plan-{plan.runbook}-{plan.service}", title=title, markdown="\n\n".join(parts))


def asked(
    plan: Plan,
    hazards: Sequence[Hazard],
    why: Sequence[str],
    *,
    trouble: str,
    form: bool,
    now: datetime,
    until: datetime,
) -> str:
    """What stands above a form's fields. `why`: what is missing; `trouble`: why the last answer was not taken."""
    lines = [f"### {title_of(plan)}"]
    if trouble:
        lines.append(f"**The last answer was not taken:** {plain(trouble)}")
    lines.append(f"Plan `{plan.digest[:SHORT]}`, {plan.mode.value}. So far {plain(why[0])}.")
    lines += [f"- {plain(each)}" for each in why[1:]]
    if hazards:
        lines.append(f"**Hazards** as of {now:%H:%M:%S}Z")
        lines += [f"- **{plain(each.words)}**: {plain(each.text)}" for each in hazards]
    else:
        lines.append("It has no hazards.")
    if not form:
        lines.append("This form counts for nothing by itself: paste signed approvals, or wait for them in the ledger.")
    lines.append(f"Awaited until **{until:%H:%M:%S}Z**; then this flow run ends, refused, with nothing touched.")
    lines.append(
        f"The whole plan is among this run's artifacts. From any machine:"
        f" `dr approve {plan.digest[:SHORT]} --as NAME{_accepting(_classes(hazards))}`"
    )
    return "\n\n".join(lines)


def acted(plan: Plan, changed: Changed, records: Sequence[Record], *, again: bool) -> Told:
    """What came of a run: its result and its timeline. It held only when it is met. `again`: running the flow again is
    enough to go on where it stands still."""
    text = in_a_line(plan, changed, again=again)
    key = f"{plan.runbook}-{plan.service}"
    return Told(
        held=changed.outcome == "met",
        text=text,
        pages=(
            Page(key=f"result-{key}", title=text, markdown=_result(plan, changed, again=again)),
            Page(key=f"timeline-{key}", title=f"timeline of {title_of(plan)}", markdown=_timeline(plan, records)),
        ),
        documents=(changed.model_dump(mode="json"),),
    )


def in_a_line(plan: Plan, changed: Changed, *, again: bool) -> str:
    """The verdict with its figures; of a run that stands still, why and how to go on."""
    said = f"{title_of(plan)}: {changed.outcome}"
    if changed.stopped is not None:
        where = f"it stands still at {changed.stopped.step}: {changed.stopped.why}"
        return f"{said}; {where}; {_going_on(changed.stopped, changed.run, again=again)}"
    figures = [f"RTO {_took(changed.rto_seconds)}", f"RPO {_took(changed.rpo_seconds)}", f"lost {_lost(changed)}"]
    return " · ".join([said, *figures])


def _going_on(stopped: Stopped, run: str, *, again: bool, code: str = "") -> str:
    """How people go on with it; a run that was paused is only ordered on by command."""
    commands = " and then ".join(f"{code}{each}{code}" for each in stopped.going_on(run))
    enough = not stopped.paused and (again or not stopped.spent)
    return f"mend the cause, then retry this flow run, or: {commands}" if enough else f"go on with: {commands}"


def _hazards(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """A list, as of the timeline: what is accepted must be read whole."""
    return [f"- **{plain(each['words'])}**: {plain(each['text'])}" for each in found] or ["None."]


def _groups(plan: Plan, groups: Sequence[Sequence[str]], live: set[str]) -> str:
    known = {step.id: step for step in plan.steps}
    rows = [(str(number), " · ".join(_step(known[each], plan, live) for each in group))
            for number, group in enumerate(groups, 1)]  # fmt: skip
    return table(("", "steps"), rows)


def _step(step: Step, plan: Plan, live: set[str]) -> str:
    why = step.arguments_in(plan.mode).get(OMITTED)
    if why:
        return f"~~{step.id}~~ (left out: {plain(str(why))})"
    on = "" if step.id.endswith(step.resource) else f" {step.resource}"
    return f"**{step.id}**{on}" if step.id in live else f"{step.id}{on}"


def _consent(
    plan: Plan, hazards: Sequence[Mapping[str, Any]], people: Sequence[str], wanted: int, *, form: bool
) -> Iterator[str]:
    if not wanted:
        yield "It changes nothing live: policy admits it."
        return
    classes = list(dict.fromkeys(str(each["klass"]) for each in hazards))
    who = ", ".join(people) or "nobody"
    yield f"{wanted} of {len(people)} must consent: {who}. From any machine:"
    yield f"```\ndr approve {plan.digest[:SHORT]} --as NAME{_accepting(classes)}\n```"
    if form:
        what = f"accept `{', '.join(classes)}`" if classes else "nothing to accept"
        yield f"Or in the form of this run (Resume): decision `approve`, {what}. It signs as `prefect-ui`, no person."
    else:
        yield "The form of this run (Resume) counts for nothing by itself: paste what `dr approve … --json` wrote."


def _classes(hazards: Sequence[Hazard]) -> list[str]:
    return list(dict.fromkeys(each.klass for each in hazards))


def _accepting(classes: Sequence[str]) -> str:
    return "".join(f" --accept {each}" for each in classes)


def _result(plan: Plan, changed: Changed, *, again: bool) -> str:
    facts = {
        "RTO": _took(changed.rto_seconds),
        "RPO": _took(changed.rpo_seconds),
        "lost commits": _lost(changed),
        "served from": f"{changed.target} since {_moment(changed.served_at)}",
        "outage since": _moment(changed.outage_began_at),
        "epoch": str(changed.epoch),
        "by consent of": ", ".join(changed.consent) or "—",
        "run": f"`{changed.run}`",
    }
    if changed.served_at is None or not plan.live:
        del facts["served from"]
    if not plan.live:
        del facts["outage since"]
    parts = [f"## {title_of(plan)}: {changed.outcome}"]
    if changed.stopped is not None:
        parts.append(
            f"**It stands still at {changed.stopped.step}**: {plain(changed.stopped.why)}  \n"
            f"hint: {plain(changed.stopped.hint)}  \n"
            f"{_going_on(changed.stopped, changed.run, again=again, code='`')}"
        )
    parts.append(table(("verdict", f"**{changed.outcome}**"), list(facts.items())))
    told = [(name, changed.rto_segments[name]) for name in SEGMENTS if name in changed.rto_segments]
    if told:
        rows = [(name, each if isinstance(each, str) else _took(each)) for name, each in told]
        parts += ["### RTO by segment", table(("segment", "time"), rows)]
    if changed.rto_steps:
        rows = [(each.name, _took(each.seconds)) for each in changed.rto_steps]
        parts += ["### What `act` consists of", table(("step", "time"), rows)]
    if changed.databases:
        rows3 = [
            (each.database, str(each.timeline_id or "—"), "—" if each.lsn is None else lsn_text(each.lsn),
             _moment(each.recovered_until))
            for each in changed.databases
        ]  # fmt: skip
        parts += ["### Databases", table(("database", "timeline", "promoted at LSN", "recovered until"), rows3)]
    if changed.findings:
        parts += ["### Findings", *(f"- {plain(each)}" for each in changed.findings)]
    return "\n\n".join(parts)


def _timeline(plan: Plan, records: Sequence[Record]) -> str:
    """Steps' attempts and everything else that was recorded, by the instant at which it began. A list, whose lines are
    broken where the screen ends: the cells of every table there are cut off or pushed beyond it."""
    rows = [
        *(row for each in steps(plan, records) for row in _attempts(each)),
        *((each.at.isoformat(), _item(each.at, each.kind, (), _said(each))) for each in events(records)),
    ]
    return "\n".join(row for _, row in sorted(rows, key=lambda each: each[0]))


def _attempts(step: ShownStep) -> Iterator[tuple[str, str]]:
    for each in step.attempts:
        number = f" (attempt {each.attempt})" if len(step.attempts) > 1 else ""
        told = each.result if isinstance(each.result, dict) else {}
        beside = {name: value for name, value in told.items() if name not in _SHOWN_BESIDE}
        said = summary(beside) if told else each.fact
        took = () if each.seconds is None else (f"{each.seconds:.2f} s",)
        yield each.begun_at.isoformat(), _item(each.begun_at, f"{step.step}{number}", (each.state, *took), said)


def _item(at: datetime, what: str, state: Sequence[str], fact: str) -> str:
    words = ", ".join((f"**{plain(what)}**", *state))
    return f"- `{at:%H:%M:%S.%f}"[:-3] + f"Z` {words}" + (f": {plain(fact)}" if fact else "")


def _said(each: Event) -> str:
    facts = each.facts
    said = str(facts.get("why") or facts.get("outcome") or "")
    match each.kind:
        case "run.halted":
            stopped = facts.get("stopped")
            return f"{said}: {stopped['step']}: {stopped['why']}" if isinstance(stopped, dict) else said
        case "run.begun" | "run.resumed":
            consent = facts.get("consent")
            by = consent.get("by") if isinstance(consent, dict) else None
            return summary({"by consent of": by, "through": facts.get("door")})
        case "epoch.changed":
            return summary({"epoch": facts.get("epoch"), "primary": facts.get("primary")})
        case kind if kind.startswith("order."):
            return f"{said} by {facts.get('who') or each.who}".strip()
    return said


def _lost(changed: Changed) -> str:
    lost = changed.lost_commits
    if isinstance(lost, int):
        return f"{lost} commits"
    return f"unproven until the old data is read: dr losses {changed.run[:SHORT]}"


def _took(seconds: float | None) -> str:
    return "unproven" if seconds is None else f"{seconds:.2f} s"


def _moment(at: Any) -> str:
    return "—" if at is None else f"{at:%Y-%m-%d %H:%M:%S}Z"
