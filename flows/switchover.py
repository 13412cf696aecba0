"""Switchover, as a flow: the service moves to the other site without loss, with consent."""

from __future__ import annotations

from prefect import flow
from prefect.states import State

from tasks import asking, verbs
from tasks.form import Minutes, Persons, Wanted
from tasks.pages import Told


@flow(name="switchover", flow_run_name=verbs.run_name, persist_result=False, retries=0)
async def switchover(
    service: str = "",
    to: str = "",
    max_loss: str = "",
    digest: str = "",
    persons: Persons = 0,
    wait_minutes: Minutes = 60,
    home: str = "",
) -> State[Told]:
    """Move the service to the other site without losing a commit: show the plan, wait for consent, act, measure.

    Args:
        service: A service of the catalog; empty takes its only one.
        to: The site that takes over; empty takes the recovery site.
        max_loss: Refuse the plan when more would be lost, like "30 s"; empty takes the objective's RPO.
        digest: Take a stored plan up again; eight digits are enough. Empty takes up an unfinished run, or plans anew.
        persons: Wait for consent of at least so many persons; the catalog's own number is never lowered.
        wait_minutes: After this without consent the run ends, refused; nothing was touched.
        home: The home folder on the worker's machine; empty takes the worker's own (DR_HOME).
    """
    wanted = Wanted(
        runbook="switchover",
        service=service,
        to=to,
        max_loss=max_loss,
        digest=digest,
        persons=persons,
    )
    return await verbs.changed(wanted, home=lambda: asking.home_at(home), wait_minutes=wait_minutes)


if __name__ == "__main__":
    import asyncio

    asyncio.run(switchover())
