"""Failover, as a flow: the site that is lost is left, with consent. A failover waits for no other flow run."""

from __future__ import annotations

from prefect import flow
from prefect.states import State

from tasks import asking, verbs
from tasks.form import Minutes, Persons, Wanted
from tasks.pages import Told


@flow(name="failover", flow_run_name=verbs.run_name, persist_result=False, retries=0)
async def failover(
    service: str = "",
    to: str = "",
    max_loss: str = "",
    outage_since: str = "",
    digest: str = "",
    persons: Persons = 0,
    wait_minutes: Minutes = 60,
    home: str = "",
) -> State[Told]:
    """Leave a site that is lost: show the plan with its hazards, wait for consent, act, measure.

    Args:
        service: A service of the catalog; empty takes its only one.
        to: The site that takes over; empty takes the recovery site.
        max_loss: Refuse the plan when more would be lost, like "30 s"; empty takes the objective's RPO.
        outage_since: When the outage began, where no probe saw it: 2026-11-24T03:00:00Z or "15 min ago".
        digest: Take a stored plan up again; eight digits are enough. Empty takes up an unfinished run, or plans anew.
        persons: Wait for consent of at least so many persons; the catalog's own number is never lowered.
        wait_minutes: After this without consent the run ends, refused; nothing was touched.
        home: The home folder on the worker's machine; empty takes the worker's own (DR_HOME).
    """
    wanted = Wanted(
        runbook="failover",
        service=service,
        to=to,
        max_loss=max_loss,
        outage_since=outage_since,
        digest=digest,
        persons=persons,
    )
    return await verbs.changed(wanted, home=lambda: asking.home_at(home), wait_minutes=wait_minutes)


if __name__ == "__main__":
    import asyncio

    asyncio.run(failover())
