"""Sweeping, as a flow: retention, leftovers and scratch past its expiry."""

from __future__ import annotations

from prefect import flow
from prefect.states import State

from tasks import asking, routine, verbs
from tasks.pages import Told


@flow(name="sweep", flow_run_name="sweep", persist_result=False, retries=0)
async def sweep(really: bool = True, home: str = "") -> State[Told]:
    """Remove what retention no longer keeps, leftovers of killed backups, scratch past its expiry.

    The last proven point is never removed, nor what a younger one needs.

    Args:
        really: Off only says what would be removed.
        home: The home folder on the worker's machine; empty takes the worker's own (DR_HOME).
    """
    return await verbs.carried_out(lambda act: routine.sweep(act, really=really), home=lambda: asking.home_at(home))


if __name__ == "__main__":
    import asyncio

    asyncio.run(sweep())
