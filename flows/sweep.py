"""Sweeping, as a flow: retention and leftovers, resource by resource."""

from __future__ import annotations

from prefect import flow
from prefect.states import State

from tasks import asking, routine, verbs
from tasks.pages import Told


@flow(name="sweep", flow_run_name="sweep", persist_result=False, retries=0)
async def sweep(resources: tuple[str, ...] = (), really: bool = True, home: str = "") -> State[Told]:
    """Remove what retention no longer keeps, and leftovers of killed backups; never the last proven point.

    Args:
        resources: Names from the catalog; none means all of them.
        really: Off only says what would be removed.
        home: The home folder on the worker's machine; empty takes the worker's own (DR_HOME).
    """
    return await verbs.carried_out(
        lambda act: routine.sweep_all(act, asking.named(act.home, resources), really=really),
        home=lambda: asking.home_at(home),
    )


if __name__ == "__main__":
    import asyncio

    asyncio.run(sweep())
