"""The offline bundle, as a flow: refreshed every day, so that break glass finds today's addresses."""

from __future__ import annotations

from prefect import flow
from prefect.states import State

from tasks import asking, bundling, verbs
from tasks.pages import Told


@flow(name="bundle", flow_run_name="bundle", persist_result=False, retries=0)
async def bundle(out: str = "", home: str = "") -> State[Told]:
    """Write the signed offline bundle anew. It holds no secrets; copy it to where people are on call.

    Args:
        out: The file; empty takes HOME/bundle/CATALOG.zip.
        home: The home folder on the worker's machine; empty takes the worker's own (DR_HOME).
    """
    return await verbs.carried_out(lambda act: bundling.refresh(act, out), home=lambda: asking.home_at(home))


if __name__ == "__main__":
    import asyncio

    asyncio.run(bundle())
