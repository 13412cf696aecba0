"""A program: small runs as flow runs and one of all of them, against the named server. Prints the id of the last."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def main(folder: Path, api_url: str) -> str:
    """As the demo does it: settings first, Prefect after them."""
    from deployments.flown import connected

    with connected(folder, api_url):
        from prefect import flow

        from tasks import verbs
        from tests.time.small_run import fail, refuse, small_home, small_run

        here = small_home(folder)

        @flow(name="small", flow_run_name="small-{word}", persist_result=False)
        async def small(word: str) -> Any:
            check = fail if word == "missed" else lambda: {"checks": [1, 2]}
            place = refuse if word == "refused" else lambda: here
            return await verbs.carried_out(lambda act: small_run(act, check), home=place)

        @flow(name="both", persist_result=False)
        async def both() -> Any:
            return await verbs.one_by_one(
                lambda: ("missed", "met", "refused"),
                lambda word: small(word, return_state=True),
                key="both",
                title="both",
            )

        state: Any = asyncio.run(both(return_state=True))  # type: ignore[arg-type,call-overload,unused-ignore]
        return str(state.state_details.flow_run_id)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    print(main(Path(sys.argv[1]), sys.argv[2]))
