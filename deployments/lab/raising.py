"""The order in which a lab is raised and stopped: a table of contents. What has no need of another starts beside it."""

from __future__ import annotations

import signal
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

from deployments.lab import breaking, catalog, layout
from deployments.lab.agent import part as agent
from deployments.lab.app import part as app
from deployments.lab.arc import part as arc
from deployments.lab.aws import names
from deployments.lab.aws import part as aws
from deployments.lab.dns import part as dns
from deployments.lab.postgres import part as postgres
from deployments.lab.probe import part as probe
from deployments.lab.proxy import part as proxy
from deployments.lab.resolver import part as resolver
from deployments.lab.s3 import part as s3
from deployments.lab.world import World, save

NEUTRAL = ("dns", "resolver", *map(arc.name, layout.ARC), probe.NAME)
"""What no site owns, and nobody waits for when it ends."""


def raise_all(world: World) -> World:
    """Start all parts that don't run; gives the world with its ports. Raises the first part's Failed at the end."""
    world.processes.reap()
    breaking.forget(world)
    world = world.model_copy(update={"s3_base_ports": s3.prepare(world)})
    save(world)
    catalog.render(world)
    postgres.write_passfile(world)
    proxy.start(world)
    _together(
        *(lambda place=place: s3.start(world, place) for place in layout.BUCKETS),
        lambda: _databases(world),
        *(_neutral(world) if world.named else ()),
    )
    sites = layout.SITES
    _together(
        *(lambda site=site: app.start(world, site) for site in sites if "app" not in world.without),
        *(lambda member=member: agent.start(world, member) for member in world.members if "agent" not in world.without),
        *((lambda: names.provide(world), lambda: arc.settle(world)) if world.named else ()),
        *((lambda: probe.start(world),) if probe.wanted(world) else ()),
    )
    return world


def _neutral(world: World) -> list[Callable[[], object]]:
    """The emulator, and what lives on without it."""
    return [
        lambda: aws.start(world),
        lambda: dns.start(world),
        lambda: resolver.start(world),
        *(lambda number=number: arc.start(world, number) for number in layout.ARC),
    ]


def drop_all(world: World) -> list[str]:
    """End all parts at once, for a lab whose data goes, too; gives the names of those that ran."""
    processes = world.processes
    processes.reap()
    breaking.forget(world)
    running = [name for name in processes.names() if processes.alive(name)]
    # An immediate shutdown: unlike kill -9 it removes Postgres's shared memory, which is not in the home.
    ways = {name: signal.SIGQUIT if name.endswith(".postgres") else signal.SIGKILL for name in processes.names()}
    _together(*(lambda name=name, way=way: processes.end(name, number=way) for name, way in ways.items()))
    for place in layout.BUCKETS:
        s3.stop(world, place)
    return running


def stop_all(world: World) -> list[str]:
    """Stop all parts, users first; gives the names of those that ran."""
    processes = world.processes
    processes.reap()
    breaking.forget(world)
    running = [name for name in processes.names() if processes.alive(name)]
    processes.end("load", patience_seconds=5)
    processes.end("observer", patience_seconds=5)
    _together(*(lambda member=member: agent.stop(world, member) for member in world.members))
    _together(*(lambda site=site: app.stop(world, site) for site in layout.SITES))
    # Standbys first: a primary that stops cleanly waits until its standbys have everything.
    for member in reversed(world.members):
        postgres.stop(world, member)
    # The proxy before the S3 servers: they end at once only when nobody is connected.
    proxy.stop(world)
    _together(*(lambda place=place: s3.stop(world, place) for place in layout.BUCKETS), lambda: aws.stop(world))
    _together(*(lambda name=name: processes.end(name, patience_seconds=3) for name in NEUTRAL))
    return running


def _databases(world: World) -> None:
    running = [member for member in world.members if postgres.start(world, member).pid]
    standbys = [member for member in running if postgres.is_standby(world, member)]
    if len(standbys) < len(running):  # while the primary is held back there is nothing to stream from
        for member in standbys:
            postgres.wait_for_streaming(world, member)


def _together(*works: Callable[[], object]) -> None:
    if not works:
        return
    with ThreadPoolExecutor(len(works), thread_name_prefix="lab") as pool:
        done, _ = wait([pool.submit(work) for work in works], return_when=FIRST_EXCEPTION)
        for each in done:
            each.result()
