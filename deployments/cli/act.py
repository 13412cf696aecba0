"""`dr act`, `dr resume`, `dr drill`: drive an admitted plan to its end, from any machine, and tell what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from deployments.cli.output import HomeOption, JsonOption, emit, existing_home
from deployments.cli.plan import ServiceOption, SinceOption, ToOption

if TYPE_CHECKING:
    from recovery.outcome import Changed
    from recovery.plan import Plan
    from tasks.home import Home
    from tasks.loop import Event

CODES = {"met": 0, "missed": 1, "cancelled": 1, "unproven": 3}

DigestArgument = Annotated[str, typer.Argument(metavar="DIGEST", help="The plan's; eight digits are enough.")]
GlassOption = Annotated[
    bool,
    typer.Option(
        "--glass",
        help="Break glass: on record as such, and Prefect is barred. Ledger, lease and the resources' own doors do.",
    ),
]
HeldOption = Annotated[
    str | None,
    typer.Option("--held", metavar="NAME", help="A drill of the catalog without a runbook that people have held."),
]
WhoOption = Annotated[str | None, typer.Option("--as", metavar="WHO", help="With --held: who tells of it, and signs.")]
VerdictOption = Annotated[
    str | None, typer.Option("--verdict", metavar="WORD", help="With --held: met, missed or unproven.")
]
OnOption = Annotated[str, typer.Option("--on", metavar="TIME", help="With --held: when it was; default: now.")]
WhyOption = Annotated[str, typer.Option("--why", metavar="TEXT", help="With --held: what was found.")]


def act(
    digest: DigestArgument,
    outage_since: SinceOption = None,
    glass: GlassOption = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Act on an admitted plan, go on with its unfinished run, or report the finished one. Exit 4: refused."""
    from tasks import changing
    from tasks.home import open_home

    opened = open_home(existing_home(home))
    carry_out(opened, changing.find(opened, digest), outage_since, as_json=as_json, glass=glass)


def resume(
    digest: Annotated[str, typer.Argument(metavar="RUN", help="The run's, which is its plan's digest.")],
    glass: GlassOption = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Go on with an unfinished run where it stopped, from any machine: the same as acting on its plan again."""
    from recovery.errors import BadInput
    from tasks import changing
    from tasks.home import open_home
    from tasks.journal import read_records

    opened = open_home(existing_home(home))
    plan = changing.find(opened, digest)
    if not read_records(opened.ledger(), plan.run):
        raise BadInput(
            f"the run of plan {plan.digest[:12]} has not begun", hint=f"begin it with 'dr act {plan.digest[:12]}'"
        )
    carry_out(opened, plan, None, as_json=as_json, glass=glass)


def drill(
    to: ToOption = None,
    service: ServiceOption = None,
    held: HeldOption = None,
    who: WhoOption = None,
    verdict: VerdictOption = None,
    held_on: OnOption = "0 s ago",
    why: WhyOption = "",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Rehearse the failover on a restored copy, now: plan and act in one. It changes nothing live. With --held, put a
    drill that people held on record."""
    from deployments.cli.output import aside
    from deployments.cli.plan import proposal_of
    from deployments.cli.planned import drawn
    from recovery.errors import Refused
    from recovery.plan import NothingToDo
    from tasks import changing
    from tasks.home import open_home

    opened = open_home(existing_home(home))
    if held is not None or who is not None or verdict is not None:
        tell_of(opened, held, who, verdict, held_on, why, as_json=as_json)
        return
    made = changing.plan(opened, "drill", service=service, to=to)
    if isinstance(made, NothingToDo):
        why = made.why
        emit(as_json, {"outcome": "already", "why": why}, lambda: f"nothing to do: {why}")
        return
    shown = proposal_of(opened, made)
    if shown["changes"] == "live":
        raise Refused(
            "the runbook drill of this home changes what is live",
            hint=f"act on it as on any other: dr approve {made.plan.digest[:12]} --as NAME, then dr act",
        )
    if not as_json:
        aside().print(drawn(shown))
    carry_out(opened, made.plan, None, as_json=as_json, glass=False)


def tell_of(
    home: Home, name: str | None, who: str | None, verdict: str | None, on: str, why: str, *, as_json: bool
) -> None:
    """Put a drill of people on record."""
    from deployments.cli.instants import instant
    from recovery.check import Verdict
    from recovery.errors import BadInput
    from tasks.drilling import hold

    words = [each.value for each in Verdict]
    if not name or not who or verdict not in words:
        raise BadInput(
            "a drill that people held is told of by its name, one of them, and what came of it",
            hint=f"dr drill --held NAME --as WHO --verdict {'|'.join(words)}",
        )
    told, run = hold(home, name, who=who, verdict=Verdict(verdict), held_at=instant(on, now=home.now()), why=why)
    document = {"run": run, **told.model_dump(mode="json")}
    emit(as_json, document, lambda: f"{name} is on record as held, {verdict}, by {who}: run {run[:8]}")


def carry_out(home: Home, plan: Plan, outage_since: str | None, *, as_json: bool, glass: bool) -> None:
    """Act on the plan with live progress, show the outcome, and leave with its exit code."""
    from deployments.cli.acted import drawn
    from deployments.cli.instants import past
    from deployments.cli.progress import watching
    from tasks import changing
    from tasks.engine import Act

    if glass:
        from tasks.glass import forbid

        forbid()
    since = past(outage_since, now=home.now(), what="the beginning of an outage") if outage_since is not None else None
    title = f"{plan.runbook} {plan.service} · {plan.pinned.get('from')} → {plan.pinned.get('to')} · {plan.digest[:12]}"
    usual: dict[str, float] = {}
    with watching(title + (" · break glass" if glass else ""), expected=usual) as show:

        def tell(event: Event) -> None:
            if not usual:
                usual.update(expected(home, plan))
            show(event)

        changed = changing.act(Act(home=home, tell=tell, via="glass" if glass else "dr"), plan, outage_since=since)
    emit(as_json, changed, lambda: drawn(changed))
    raise typer.Exit(code_of(changed))


def code_of(changed: Changed) -> int:
    """0 met; 1 missed, cancelled or standing still; 3 unproven."""
    return CODES.get(changed.outcome, 1)


def expected(home: Home, plan: Plan) -> dict[str, float]:
    """Step → seconds that it took at the median before: what elapsed time is shown against. Nothing without a past, of
    which the run's own look has read all that there is: nothing is asked for the sake of showing it."""
    from statistics import median

    mine = [each for each in home.changes.values() if (each.service, each.runbook) == (plan.service, plan.runbook)]
    known = {step.id: [each.steps[step.id] for each in mine if step.id in each.steps] for step in plan.steps}
    return {step: median(seconds) for step, seconds in known.items() if seconds}
