"""`dr run`: orders to a run that is underway, from any terminal or machine, as signed records of a named person;
and `dr run sync`, which tells Prefect of runs that it did not see."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.cli.approve import AcceptOption
from deployments.cli.output import HomeOption, JsonOption, emit, existing_home
from deployments.cli.sync import sync
from recovery.errors import BadInput, Refused

if TYPE_CHECKING:
    from pathlib import Path

    from recovery.hazard import Acceptance, Hazard
    from recovery.orders import Order
    from recovery.plan import Plan
    from tasks.home import Home

app = typer.Typer(no_args_is_help=True, help="Orders to a run that is underway, signed by a person; and sync.")

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="Its first hexadecimal digits; see 'dr runs'.")]
StepArgument = Annotated[str, typer.Argument(metavar="STEP", help="Of the plan; see 'dr show RUN'.")]
WhoOption = Annotated[str, typer.Option("--as", metavar="NAME", help="The person; signs with HOME/keys/NAME.ed25519.")]
AnyoneOption = Annotated[
    str | None, typer.Option("--as", metavar="NAME", help="The person; default: the engine's own key of this home.")
]
WhyOption = Annotated[str, typer.Option("--why", metavar="TEXT", help="For the record.")]
WaitOption = Annotated[
    float, typer.Option("--wait", metavar="SECONDS", min=0, max=600, help="For it to be taken in, where it is driven.")
]


@app.command()
def pause(
    run: RunArgument, who: AnyoneOption = None, why: WhyOption = "", wait: WaitOption = 3.0,
    home: HomeOption = None, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Begin no further step; what is underway ends. Goes on with `dr run resume`."""
    _order("pause", run, who, home, as_json, why=why, wait=wait)


@app.command()
def resume(
    run: RunArgument, who: WhoOption, why: WhyOption = "", wait: WaitOption = 3.0,
    home: HomeOption = None, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Let a paused run go on: whoever drives it does; else `dr act RUN` takes it up."""
    _order("resume", run, who, home, as_json, why=why, wait=wait)


@app.command()
def cancel(
    run: RunArgument, who: AnyoneOption = None, why: WhyOption = "", wait: WaitOption = 3.0,
    home: HomeOption = None, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """End the run, for ever. Until its promotion has begun the old primary gets its role back; after that what it has
    changed stays changed."""
    _order("cancel", run, who, home, as_json, why=why, wait=wait)


@app.command()
def skip(
    run: RunArgument, step: StepArgument, who: WhoOption, accept: AcceptOption = None, why: WhyOption = "",
    wait: WaitOption = 3.0, home: HomeOption = None, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Go on without a step. Where it guards something, its hazard has to be accepted, by as many as approve a plan."""
    _order("skip", run, who, home, as_json, step=step, accept=accept, why=why, wait=wait)


@app.command()
def retry(
    run: RunArgument, step: StepArgument, who: WhoOption,
    tries: Annotated[int, typer.Option("--tries", min=1, max=20, help="How many more.")] = 1,
    why: WhyOption = "", wait: WaitOption = 3.0, home: HomeOption = None, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Grant a step more tries, also after a failure that called itself final."""
    _order("retry", run, who, home, as_json, step=step, tries=tries, why=why, wait=wait)


@app.command()
def ungraceful(
    run: RunArgument, who: WhoOption, accept: AcceptOption = None, why: WhyOption = "", wait: WaitOption = 3.0,
    home: HomeOption = None, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Switch to the ungraceful variant: the other site is given up. Its hazards have to be accepted."""
    _order("ungraceful", run, who, home, as_json, accept=accept, why=why, wait=wait)


@app.command()
def confirm(
    run: RunArgument, step: StepArgument, who: WhoOption, why: WhyOption = "", wait: WaitOption = 3.0,
    home: HomeOption = None, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Say that what a person had to do is done."""
    _order("confirm", run, who, home, as_json, step=step, why=why, wait=wait)


app.command()(sync)


def _order(
    word: str, run: str, who: str | None, home: Path | None, as_json: bool, *, step: str | None = None,
    tries: int = 1, accept: list[str] | None = None, why: str = "", wait: float = 0.0,
) -> None:  # fmt: skip
    from recovery.accepting import acceptances, limits_of
    from recovery.orders import Word
    from tasks import orders_of_people as people
    from tasks.home import open_home

    opened = open_home(existing_home(home))
    plan = people.run_of(opened, run)
    if "live" not in plan.pinned:
        raise BadInput(
            f"run {plan.run[:12]} is a {plan.purpose}, which takes no orders",
            hint="stop it with Ctrl-C where it runs; the next one goes on with it or clears it up",
        )
    accepted: tuple[Acceptance, ...] = ()
    shown: tuple[Hazard, ...] = ()
    if word in ("skip", "ungraceful"):
        shown = _hazards(opened, plan, word, step)
        accepted = acceptances(accept or [], shown, limits_of(plan))
    order = people.draft(opened, plan, Word(word), who=who, step=step, tries=tries, accepted=accepted, why=why)
    _refuse_now(opened, plan, order, shown)
    people.hand_in(opened, order)
    told = _told(opened, plan, order, wait)
    emit(as_json, told, lambda: _words(told))
    if told["outcome"] == "refused":
        raise Refused(f"{order.words}: {told['why']}", hint=f"see it with 'dr show {plan.run[:12]}'")


def _hazards(home: Home, plan: Plan, word: str, step: str | None) -> tuple[Hazard, ...]:
    """What has to be accepted, as the world is now."""
    from recovery.failover import rpo_seconds
    from recovery.guards import skip_hazards
    from recovery.hazards import hazards
    from recovery.journal import history
    from recovery.orders import changes_live
    from recovery.step import Mode
    from tasks.journal import read_records
    from tasks.observing import observe

    if not changes_live(plan):
        return ()
    if word == "ungraceful":
        seen = observe(home, plan.service, target=str(plan.pinned["to"]), run=plan.run)
        return hazards(plan, seen, rpo_seconds=rpo_seconds(home.catalog), mode=Mode.UNGRACEFUL)
    found = next((each for each in plan.steps if each.id == step), None)
    mode = history(read_records(home.ledger(), plan.run)).mode(plan.mode)
    return skip_hazards(found, mode) if found is not None else ()


def _refuse_now(home: Home, plan: Plan, order: Order, shown: tuple[Hazard, ...]) -> None:
    """What would be refused for certain is refused here already, and left on record: the order is never handed in."""
    from recovery import orders
    from recovery.journal import history, outcome
    from tasks import approving
    from tasks import orders_of_people as people
    from tasks.journal import read_records

    records = read_records(home.ledger(), plan.run)
    said = orders.Said(order=order, valid=True)
    rights = people.rights_of(home, plan)
    answer = orders.decide(said, (), plan, history(records), rights, hazards=shown, ended=outcome(records))
    if not isinstance(answer, orders.NotTaken):
        return
    approving.refused(home, plan.digest, [f"{order.words} by {order.who}: {answer.why}"], subject=plan.service)
    accept = "".join(f" --accept {each.klass}" for each in shown)
    said_again = " ".join(each for each in (order.word.value, plan.run[:12], order.step) if each)
    hint = f"accept them, if you do: dr run {said_again} --as {order.who}{accept}"
    raise Refused(
        f"{order.words} is refused: {answer.why}",
        hint=hint if "accepted" in answer.why else f"see the run with 'dr show {plan.run[:12]}'",
    )


def _told(home: Home, plan: Plan, order: Order, wait: float) -> dict[str, Any]:
    """What became of it within the wait: taken, refused, or stored for whoever drives the run next."""
    import time

    from tasks import orders_of_people as people
    from tasks.journal import read_records

    ends = time.monotonic() + wait
    driven = people.driven(home, plan)
    fate = people.fate(read_records(home.ledger(), plan.run), order.id)
    while fate is None and driven and time.monotonic() < ends:
        time.sleep(min(0.1, wait))
        fate = people.fate(read_records(home.ledger(), plan.run), order.id)
    outcome = "stored" if fate is None else "taken" if fate == "taken" else "refused"
    return {
        "outcome": outcome,
        "order": order.id,
        "run": plan.run,
        "what": order.words,
        "who": order.who,
        "why": fate if outcome == "refused" else "",
        "driven_by": driven,
    }


def _words(told: dict[str, Any]) -> str:
    said = f"{told['what']} by {told['who']}, run {told['run'][:12]}: {told['outcome']}"
    if told["outcome"] != "stored":
        return said
    if told["driven_by"]:
        return f"{said}; {told['driven_by']} takes it in, or waits for another person's"
    return f"{said}; nobody drives the run now: 'dr act {told['run'][:12]}' takes it in"
