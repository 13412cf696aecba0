"""The drill, as a flow: the failover rehearsed on a restored copy. Nothing live changes, so policy admits it."""

from __future__ import annotations

from prefect import flow
from prefect.states import State

from tasks import asking, verbs
from tasks.form import Wanted
from tasks.pages import Told


@flow(name="drill", flow_run_name=verbs.run_name, persist_result=False, retries=0)
async def drill(service: str = "", to: str = "", digest: str = "", home: str = "") -> State[Told]:
    """Rehearse the failover on a restored copy: the same order, the same checks, nothing live touched.

    Args:
        service: A service of the catalog; empty takes its only one.
        to: The site that would take over; empty takes the recovery site.
        digest: Take a stored drill up again; eight digits are enough. Empty takes up an unfinished one, or plans anew.
        home: The home folder on the worker's machine; empty takes the worker's own (DR_HOME).
    """
    wanted = Wanted(runbook="drill", service=service, to=to, digest=digest)
    return await verbs.changed(wanted, home=lambda: asking.home_at(home), wait_minutes=0)


if __name__ == "__main__":
    import asyncio

    asyncio.run(drill())
