"""The leashes of the lab: each server runs as the child of one, as in production, with a short lease.

Separate from part.py, which knows data and settings of the servers, and not who may run one.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

from deployments.lab import layout
from deployments.lab.environment import for_python, module
from deployments.lab.parts import postgres_bin_dir
from deployments.lab.postgres import server
from deployments.lab.world import World
from recovery.errors import DrError, Failed
from tasks.postgres.leash_config import LeashConfig, Memory, State, memory_file, write_memory
from tasks.postgres.leash_control import LeashControl
from tasks.postgres.run_as import give
from tasks.store_place import StorePlace

LEASE_SECONDS = 2.0
CLOCK_BOUND_SECONDS = 0.2
RESOURCE = "orders-db"
PATIENCE_SECONDS = 60.0


def name(member: str) -> str:
    """The process name: the leash's is the server's."""
    return f"{member}.postgres"


def socket(world: World, member: str) -> Path:
    """The control socket of a member's leash."""
    return world.runtime / f"{member}.leash"


def state_dir(world: World, member: str) -> Path:
    """Where a leash remembers: beside the data."""
    return world.data_dir(member).parent


def witness(world: World, *, source: str) -> StorePlace:
    """The bucket of leases, as a site reaches it."""
    endpoint = world.s3(layout.WITNESS, source=source)
    return StorePlace(
        site=layout.WITNESS,
        bucket=layout.BUCKETS[layout.WITNESS][0],
        region=world.region(layout.WITNESS),
        endpoint_url=endpoint.endpoint_url,
        credentials=endpoint.credentials,
    )


def other_agents(world: World, site: str) -> dict[str, str]:
    """The agents of the other sites, as this one reaches them."""
    return {other: world.url("agent", other, source=site) for other in layout.SITES if other != site}


def config(world: World, member: str) -> LeashConfig:
    """What a member's leash is told."""
    site = layout.site_of(member)
    return LeashConfig(
        resource=RESOURCE,
        site=site,
        member=member,
        data_dir=world.data_dir(member),
        control=socket(world, member),
        state_dir=state_dir(world, member),
        witness=witness(world, source=site),
        other_agents=other_agents(world, site) if "agent" not in world.without else {},
        lease_seconds=LEASE_SECONDS,
        clock_bound_seconds=CLOCK_BOUND_SECONDS,
    )


def spawn(world: World, member: str) -> None:
    """Start the leash; it starts the server when it may."""
    file = state_dir(world, member) / "leash-config.json"
    file.write_text(json.dumps(config(world, member).model_dump(mode="json"), indent=1))
    argv = [str(postgres_bin_dir() / "postgres"), "-D", str(world.data_dir(member))]
    environment = {**for_python(), **server.clean_environment()}
    world.processes.spawn(name(member), [*module("tasks.postgres.leash", file, "--"), *argv], env=environment)


def trust_the_first(world: World, member: str) -> None:
    """A database that was made just now has no other primary: it need not wait for the witness, until that answers."""
    if not memory_file(state_dir(world, member)).exists():
        write_memory(state_dir(world, member), Memory(trusted=0))
        give(state_dir(world, member))


def state(world: World, member: str) -> State | None:
    """What a member's leash says now; None when it does not answer."""
    try:
        return State.model_validate(LeashControl(path=socket(world, member)).status(patience_seconds=0.5))
    except DrError:
        return None


def wait(world: World, member: str) -> State:
    """Wait until the server accepts connections, or is held back: by what is known, or by a witness that stays silent
    for longer than a lease. Raises Failed with the log's end."""
    log = world.processes.log(name(member))
    deadline = time.monotonic() + PATIENCE_SECONDS
    asking_since: float | None = None
    while True:
        said = state(world, member)
        if said is not None and said.state in {"running", "held"}:
            return said
        asking_since = (asking_since or time.monotonic()) if said is not None and said.state == "asking" else None
        if said is not None and asking_since is not None and time.monotonic() - asking_since > 10 * LEASE_SECONDS:
            return said
        if time.monotonic() > deadline or not world.processes.alive(name(member)):
            end = log.read_text(errors="replace")[-600:] if log.exists() else ""
            raise Failed(f"Postgres of {member} did not start: {end.strip()}", hint=f"read {log}")
        time.sleep(0.02)
