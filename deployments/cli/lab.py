"""`dr lab`: raise, look at, break, heal, load and take down the two-site world on this machine."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.cli.output import HomeOption, JsonOption, emit, home
from recovery.errors import BadInput

if TYPE_CHECKING:
    from rich.table import Table

app = typer.Typer(no_args_is_help=True, help="The two-site world on this machine.")

TABLE_MOST = 12
FaultArgument = Annotated[
    str, typer.Argument(metavar="FAULT", help="Like postgres:east, site:east, network:east-west.")
]


@app.command()
def up(
    given: HomeOption = None,
    as_json: JsonOption = False,
    standbys: Annotated[int, typer.Option("--standbys", min=1, max=2, help="Standbys in the west.")] = 1,
    without: Annotated[list[str] | None, typer.Option("--without", help="Leave out aws, app or agent.")] = None,
) -> None:
    """Raise the lab of a home, or repair it; faults that stand are healed. Twice is harmless."""
    from deployments.lab.status import complete, status
    from deployments.lab.world import World
    from deployments.lab.world import up as raise_lab

    folder, begun = home(given), time.monotonic()
    try:
        already = complete(World.load(folder))
    except BadInput:
        already = False
    world = raise_lab(folder, standbys=standbys, without=frozenset(without or ()))
    told = {
        "outcome": "already up" if already else "raised",
        "seconds": round(time.monotonic() - begun, 2),
        **status(world),
    }
    emit(as_json, told, lambda: _drawn(told, f"lab {told['outcome']} in {told['seconds']} s"))


@app.command()
def down(
    given: HomeOption = None,
    as_json: JsonOption = False,
    wipe: Annotated[bool, typer.Option("--wipe", help="Remove the data, too.")] = False,
) -> None:
    """Stop the lab cleanly; its data stays for the next `up` unless --wipe is given."""
    from deployments.lab.world import down as take_down

    folder, begun = home(given), time.monotonic()
    stopped = take_down(folder, wipe=wipe)
    told = {
        "home": str(folder),
        "outcome": "stopped" if stopped else "already down",
        "stopped": stopped,
        "data": "removed" if wipe else "kept",
        "seconds": round(time.monotonic() - begun, 2),
    }
    emit(as_json, told, lambda: _line(f"lab {told['outcome']}, {len(stopped)} parts, data {told['data']}"))


@app.command("status")
def show(given: HomeOption = None, as_json: JsonOption = False) -> None:
    """Where everything is: addresses, ports, pids, folders, standing faults."""
    from deployments.lab.status import status
    from deployments.lab.world import World

    told = status(World.load(home(given)))
    emit(as_json, told, lambda: _drawn(told, f"lab {told['state']} in {told['home']}"))


@app.command("break")
def break_(
    fault: FaultArgument,
    given: HomeOption = None,
    as_json: JsonOption = False,
    how: Annotated[
        str | None,
        typer.Option(
            "--how",
            help="kill, stop or blackhole; for a network cut, blackhole or delay; dns: delay, too.",
        ),
    ] = None,
    delay_ms: Annotated[float, typer.Option("--delay-ms", help="For --how delay, in each direction.")] = 200.0,
) -> None:
    """Inject a fault; it stands until it is healed."""
    from deployments.lab import breaking, faults
    from deployments.lab.world import World

    chosen = faults.parse(fault, how, delay_ms=delay_ms)
    world = World.load(home(given))
    breaking.begin(world, chosen)
    told = {"broken": chosen.model_dump(), "faults": [each.model_dump() for each in breaking.standing(world)]}
    emit(as_json, told, lambda: _line(f"{chosen.name} is broken ({chosen.how}); dr lab heal {chosen.name} undoes it"))


@app.command()
def heal(
    fault: Annotated[str, typer.Argument(metavar="[FAULT|all]", help="What to heal.")] = "all",
    given: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Undo faults: what was killed starts again with its data, what slept wakes, paths carry again."""
    from deployments.lab import breaking
    from deployments.lab.world import World

    world = World.load(home(given))
    healed = breaking.end(world, fault)
    told = {"healed": healed, "faults": [each.model_dump() for each in breaking.standing(world)]}
    emit(as_json, told, lambda: _line(f"healed: {', '.join(healed) or 'nothing stood'}"))


@app.command()
def load(
    given: HomeOption = None,
    as_json: JsonOption = False,
    rate: Annotated[float, typer.Option("--rate", help="Rows a second.")] = 20.0,
    seconds: Annotated[
        float, typer.Option("--seconds", help="Run so long, in the foreground; 0: in the background until --stop.")
    ] = 0.0,
    seed: Annotated[int, typer.Option("--seed", help="What the rows say depends on it.")] = 1,
    stop: Annotated[bool, typer.Option("--stop", help="End the workload in the background.")] = False,
) -> None:
    """A seeded workload through the application; acknowledged rows go to HOME/lab/load/acknowledged.jsonl."""
    from deployments.lab import load as workload
    from deployments.lab.world import World

    world = World.load(home(given))
    told: dict[str, Any]
    if stop:
        told = {"outcome": "stopped" if workload.end(world) else "none ran"}
    elif seconds:
        told = {"outcome": "done", **workload.run(world, rate=rate, seconds=seconds, seed=seed, stop=lambda: False)}
    else:
        told = {"outcome": "started", "pid": workload.begin(world, rate=rate, seed=seed)}
    told |= workload.counts(world)
    emit(as_json, told, lambda: _line(worked(told)))


@app.command()
def observer(
    given: HomeOption = None,
    as_json: JsonOption = False,
    start: Annotated[bool, typer.Option("--start", help="Observe in the background until --stop.")] = False,
    stop: Annotated[bool, typer.Option("--stop", help="End the observation; what was seen stays.")] = False,
    rate: Annotated[float, typer.Option("--rate", help="Tries a second.")] = 10.0,
) -> None:
    """What a user outside saw: it resolves the name and writes and reads rows; outages, and acknowledged rows missing.

    An outage lasts from the last acknowledgement before a failed try to the first one after it. Missing are
    acknowledged rows that the present primary, asked by name, does not have.
    """
    from deployments.lab import observer as outside
    from deployments.lab.world import World

    if start and stop:
        raise BadInput("--start and --stop at once", hint="choose one of them")
    world = World.load(home(given))
    if start:
        outside.begin(world, rate=rate)
    elif stop:
        outside.end(world)
    told = outside.look(world)
    emit(as_json, told, lambda: _observed(told))


def _observed(told: dict[str, Any]) -> Any:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    state = "observing" if told["running"] == "yes" else "not observing"
    sites = ", ".join(f"{count} at {site}" for site, count in told["sites"].items()) or "none"
    lines: list[Any] = [Text(f"{state}; acknowledged: {sites}; missing: {told['missing_count']}")]
    if told["two_writers_count"]:
        lines.append(Text(f"two writers: {told['two_writers_count']} acknowledgements prove them", style="bold red"))
    if not told["outages"]:
        return Group(*lines, Text("no outage seen"))
    table = Table("outage begins", "ends", "seconds")
    worst = sorted(told["outages"], key=lambda each: -each["seconds"])[:TABLE_MOST]
    for each in sorted(worst, key=lambda each: str(each["begin"])):
        table.add_row(each["begin"], each["end"] or "(lasts)", f"{each['seconds']:.2f}")
    if more := len(told["outages"]) - len(worst):
        table.add_row(f"and {more} shorter", "", "")
    return Group(*lines, table)


def worked(told: dict[str, Any]) -> str:
    """What became of the workload, in a line."""
    said = [f"workload {told['outcome']}"]
    if "acknowledged" in told:
        said.append(f"{told['acknowledged']} rows acknowledged, {told['failed']} tries failed")
    last = told["last"]
    said.append(
        f"the last is row {last['seq']} at {last['acknowledged_at']}, LSN {last['lsn']}" if last else "no row yet"
    )
    return "; ".join(said)


def _line(text: str) -> Any:
    from rich.text import Text

    return Text(text)


def _drawn(told: dict[str, Any], title: str) -> Table:
    from rich.table import Table

    table = Table("place", "part", "state", "reached at", "pid", title=title, title_justify="left")
    for place, parts in {**told["sites"], "witness": told["witness"]}.items():
        for part, each in parts.items():
            table.add_row(place, part, each["state"], f"{each['address']}:{each['port']}", str(each["pid"] or "-"))
    for place, part, each in _neutral(told):
        table.add_row(place, part, each["state"], f"{each['address']}:{each['port']}", str(each["pid"] or "-"))
    for name, check in told.get("health_checks", {}).get("checks", {}).items():
        verdict = {True: "healthy", False: "unhealthy", None: "unknown"}[check["healthy"]]
        real, here = check["interval_seconds"], check["lab_interval_seconds"]
        every = f"every {real:g} s; here {here:g}" if real else "by its routing control"
        table.add_row("health", name, verdict, every, "")
    for fault in told["faults"]:
        table.add_row("", fault["name"], f"broken ({fault['how']})", "", "")
    return table


def _neutral(told: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """What belongs to no site: name server, resolver, ARC's endpoints. Nothing in a lab without names."""
    if "dns" not in told:
        return []
    dns = told["dns"]
    resolver = {field: dns[f"resolver_{field}"] for field in ("address", "port", "state", "pid")}
    arc = [("arc", each["region"], each) for each in told["arc"]["endpoints"]]
    return [("neutral", "dns", dns), ("neutral", "resolver", resolver), *arc]
