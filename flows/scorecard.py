"""The scorecard, as a flow: every promise judged from the ledger alone."""

from __future__ import annotations

from prefect import flow
from prefect.states import State

from tasks import asking, routine, verbs
from tasks.pages import Told


@flow(name="scorecard", flow_run_name="scorecard", persist_result=False, retries=0)
async def scorecard(home: str = "") -> State[Told]:
    """Judge every service's promises from its evidence. Failed when one is missed or unproven.

    Args:
        home: The home folder on the worker's machine; empty takes the worker's own (DR_HOME).
    """
    return await verbs.carried_out(routine.score, home=lambda: asking.home_at(home))


if __name__ == "__main__":
    import asyncio

    asyncio.run(scorecard())
