"""`dr watch`: watch a service's probes by the quorum of its vantage points; with --act, act by standing consent."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.cli.output import HomeOption, JsonOption, emit, existing_home, word
from recovery.errors import BadInput

if TYPE_CHECKING:
    from recovery.outcome import Changed
    from tasks.home import Home
    from tasks.standing_by import Sight, Watch


def watch(
    service: Annotated[str | None, typer.Option("--service", help="Default: the catalog's only service.")] = None,
    act: Annotated[
        bool, typer.Option("--act", help="Act alone where a standing approval's conditions hold; else only tell.")
    ] = False,
    every: Annotated[str, typer.Option("--every", metavar="TIME", help="Between two looks.")] = "500 ms",
    once: Annotated[bool, typer.Option("--once", help="Look once: exit 1 while a probe fails, 3 unproven.")] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Watch until stopped, telling what changes; what backups and proofs are late or missed is told to people and put
    on record. With --json it ends with the first act, whose document it prints."""
    from tasks.home import open_home

    pause = _pause(every)
    opened = open_home(existing_home(home))
    watched = _watch(opened, _service(opened, service))
    if once:
        _once(watched, act=act, as_json=as_json)
    _tell(f"watching {watched.service}, every {pause:g} s; {'acts' if act else 'tells, and does not act'}")
    _on(watched, pause, act=act, as_json=as_json)


def _on(watched: Watch, pause: float, *, act: bool, as_json: bool) -> None:
    import time

    from deployments.cli.act import code_of

    told: tuple[str, ...] = ()
    _dead_man(watched)
    if act:
        watched.warm()
    while True:
        begun = time.monotonic()
        sight = watched.look()
        ended = watched.act(sight) if act else None
        if not act and (ripe := tuple(each.approval.id[:12] for each in sight.ripe)) != told:
            told = ripe
            _tell(f"standing approval {', '.join(ripe)} would admit a change now" if ripe else "no longer")
        if ended is not None:
            _show(ended, as_json=as_json)
            if as_json:
                raise typer.Exit(code_of(ended))
        time.sleep(max(0.0, pause - (time.monotonic() - begun)))


def _dead_man(watched: Watch) -> None:
    """Beside the watch, and never in its way: the slots of the service's resources. Its home is opened anew: a bucket
    that is slow to list a long ledger must not count as silent where a failover is decided."""
    import threading

    from tasks.engine import Act
    from tasks.home import open_home
    from tasks.slipping import DeadMan

    resources = watched.home.catalog.services[watched.service].resources
    switch = DeadMan(act=Act(home=open_home(watched.home.folder)), resources=resources, tell=_tell)
    threading.Thread(target=switch.go_on, args=(threading.Event(),), name="dead-man", daemon=True).start()


def _once(watched: Watch, *, act: bool, as_json: bool) -> None:
    from deployments.cli.act import code_of

    sight = watched.look()
    ended = watched.act(sight) if act else None
    if ended is not None:
        _show(ended, as_json=as_json)
        raise typer.Exit(code_of(ended))
    told = _document(watched, sight)
    emit(as_json, told, lambda: _lines(told))
    outcomes = {each.outcome for each in sight.probes.values()}
    raise typer.Exit(1 if "failed" in outcomes else 3 if "unproven" in outcomes or not outcomes else 0)


def _watch(home: Home, service: str) -> Watch:
    from deployments.cli.progress import Lines
    from tasks.service.look import probes
    from tasks.standing_by import Watch

    return Watch(home=home, service=service, probes=probes, tell=_tell, show=Lines({}).tell)


def _document(watched: Watch, sight: Sight) -> dict[str, Any]:
    return {
        "service": watched.service,
        "probes": {name: each.model_dump(mode="json") for name, each in sight.probes.items()},
        "standing": [
            {
                "approval": each.approval.id,
                "runbook": each.approval.runbook,
                "to": each.approval.to,
                "state": "its conditions hold",
            }
            for each in sight.ripe
        ],
        "waits": list(sight.waits),
    }


def _lines(told: dict[str, Any]) -> str:
    from rich.markup import escape

    lines = [] if told["probes"] else [f"{escape(told['service'])} has no probes in the catalog, so nothing is watched"]
    for name, seen in sorted(told["probes"].items()):
        since = f" for {seen['failing_seconds']:.0f} s" if seen["outcome"] == "failed" else ""
        lines.append(f"{escape(name)}  {word(seen['outcome'])}{since}")
    lines += [
        f"standing approval {each['approval'][:12]} to {each['to']}: {each['state']}" for each in told["standing"]
    ]
    return "\n".join([*lines, *(escape(each) for each in told["waits"])])


def _show(ended: Changed, *, as_json: bool) -> None:
    from deployments.cli.acted import drawn

    emit(as_json, ended, lambda: drawn(ended))


def _tell(text: str) -> None:
    from datetime import UTC, datetime

    sys.stderr.write(f"{datetime.now(UTC):%H:%M:%S}Z  {text}\n")
    sys.stderr.flush()


def _service(home: Home, named: str | None) -> str:
    known = home.catalog.services
    if named is None and len(known) == 1:
        return next(iter(known))
    if named not in known:
        fact = f"there is no service {named!r}" if named else "the catalog has several services"
        raise BadInput(fact, hint=f"name one with --service: {', '.join(known)}")
    return str(named)


def _pause(text: str) -> float:
    from recovery.objective import duration

    try:
        found = duration(text).total_seconds()
    except ValueError as error:
        raise BadInput(f"--every: {error}", hint="write it like '500 ms' or '1 s'") from None
    if not 0.1 <= found <= 60:
        raise BadInput(f"--every cannot be {text}", hint="choose between 100 ms and 60 s")
    return found
