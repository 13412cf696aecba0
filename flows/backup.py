"""Backing up, as a flow: what is due, or what is asked for. One resource a run, so that none waits for another."""

from __future__ import annotations

from prefect import flow
from prefect.states import State

from tasks import asking, routine, verbs
from tasks.asking import Which
from tasks.pages import Told


@flow(name="backup", flow_run_name="backup-{resource}-{which}", persist_result=False, retries=0)
async def backup(resource: str, which: Which = Which.DUE, home: str = "") -> State[Told]:
    """Take a backup or a mark. What is no longer due ends as "nothing to do", so that late runs do not pile up.

    Args:
        resource: A name from the catalog.
        which: due and mark-due take what the schedules still wait for, or nothing; the others take one now.
        home: The home folder on the worker's machine; empty takes the worker's own (DR_HOME).
    """
    return await verbs.carried_out(lambda act: routine.back_up(act, resource, which), home=lambda: asking.home_at(home))


if __name__ == "__main__":
    import asyncio
    import sys

    asyncio.run(backup(sys.argv[1]))
