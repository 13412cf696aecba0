"""Proving, as flows: one proof with its moves as task runs; and the day's proofs, one after the other."""

from __future__ import annotations

from prefect import flow
from prefect.states import State

from tasks import asking, pages, proving, verbs
from tasks.asking import Asked, Level
from tasks.pages import Told
from tasks.proving import Wanted


@flow(name="prove", flow_run_name="prove-{wanted.name}", persist_result=False, retries=0)
async def prove(wanted: Wanted, home: str = "") -> State[Told]:
    """Restore one resource into scratch, check it, measure it, discard it.

    Args:
        wanted: The resource, the sort of proof, and what goes with it.
        home: The home folder on the worker's machine; empty takes the worker's own (DR_HOME).
    """
    return await verbs.carried_out(
        lambda act: pages.proof(proving.prove(act, wanted)), home=lambda: asking.home_at(home)
    )


@flow(name="prove-daily", flow_run_name="prove-{sort}", persist_result=False, retries=0)
async def prove_daily(
    resources: tuple[str, ...] = (),
    sort: Asked = Asked.DAILY,
    as_of: str = "",
    mutate: str = "",
    level: Level = Level.DAILY,
    home: str = "",
) -> State[Told]:
    """Prove that resources can be restored. Each proof is a real restore, checked, measured and thrown away.

    Args:
        resources: Names from the catalog; an empty list means all of them.
        sort: daily is the newest mark, the latest moment and one planted fault (as the policy says); or one of them.
        as_of: A moment with its zone, like 2026-11-24T03:00:00Z or "15 min ago"; for sort time only.
        mutate: A fault to plant and to detect; random picks one. Empty leaves it to the policy, none forbids it.
        level: How deep the checks go.
        home: The home folder on the worker's machine; empty takes the worker's own (DR_HOME).
    """
    return await verbs.one_by_one(
        lambda: asking.proofs(asking.home_at(home), resources, asked=sort, as_of=as_of, mutate=mutate, level=level),
        lambda wanted: prove(wanted, home, return_state=True),
        key="proofs",
        title="proofs of this run",
    )


if __name__ == "__main__":
    import asyncio

    asyncio.run(prove_daily())
